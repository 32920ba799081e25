"""The two models of the chest X-ray study: a residual CNN, and a GAN with generator and discriminator.

The study compares them in a reading of chest X-rays for image quality and diagnostic usefulness. These classes follow
the outline of the study. The CNN has five layers of 64 filters with batch normalisation and a residual, and is trained
with the squared error and SGD. The GAN has six residual blocks and a discriminator of four convolutions, and is trained
with Adam (learning rate 2e-4, betas 0.5 and 0.999). Each class says what the outline leaves open.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from medsr_monai.networks.blocks import (
    BATCH_NORMS,
    CONVOLUTIONS,
    check_counts,
    check_residual_channels,
    convolution,
    initialise_kaiming_,
    scale_per_axis,
)
from medsr_monai.networks.discriminators import (
    Discriminator,
    Judgement,
    initialise_,
    normalised_convolution,
    run_stages,
    smallest_size,
)
from medsr_monai.networks.srresnet import SRResNet
from medsr_monai.networks.upsampling import CubicUpsampling
from medsr_monai.system.errors import InputError

TAIL_GAIN = 0.1


class ChestXrayResidualCNN(nn.Module):
    """``sr = interpolate(lr) + body(interpolate(lr))`` with five convolutions; the inner ones are normalised.

    Our choices, which the outline leaves open: kernels of 3, ReLUs, cubic interpolation, no normalisation of the first
    and the last layer (as in DnCNN, doi:10.1109/TIP.2017.2662206), small initial weights in the last layer, three
    dimensions.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the low-resolution image.
        out_channels: channels of the output; they are residuals on the first ``out_channels`` input channels.
        scale: integer factor of 1 to 8, or one per axis, e.g. ``(1, 1, 4)``.
        features: filters of each layer except the last.
        depth: layers, 2 or more.

    Shape:
        (B, in_channels, *spatial) -> (B, out_channels, *(scale * spatial))

    Raises:
        InputError: a parameter is out of range; the message names it.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int = 1,
        out_channels: int = 1,
        scale: int | Sequence[int] = 2,
        features: int = 64,
        depth: int = 5,
    ) -> None:
        super().__init__()
        self.scale = scale_per_axis(scale, spatial_dims)
        check_residual_channels(in_channels, out_channels)
        check_counts(features=features)
        if depth < 2:
            raise InputError(f"depth {depth}: must be at least 2")
        self.spatial_dims = spatial_dims
        self.out_channels = out_channels
        self.upsampling = CubicUpsampling(self.scale)
        layers: list[nn.Module] = [convolution(spatial_dims, in_channels, features), nn.ReLU(inplace=True)]
        for _ in range(depth - 2):
            layers.append(convolution(spatial_dims, features, features, bias=False))
            layers += [BATCH_NORMS[spatial_dims](features), nn.ReLU(inplace=True)]
        self.body = nn.Sequential(*layers, convolution(spatial_dims, features, out_channels))
        initialise_kaiming_(self, self.body[-1], TAIL_GAIN)

    def forward(self, image: Tensor) -> Tensor:
        image = self.upsampling(image)
        return image[:, : self.out_channels] + self.body(image)


class ChestXrayGenerator(SRResNet):
    """:class:`SRResNet` with six residual blocks. The outline leaves the rest open; it is as in SRGAN."""

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int = 1,
        out_channels: int = 1,
        scale: int | Sequence[int] = 2,
        features: int = 64,
        num_blocks: int = 6,
        end_kernel: int = 9,
        batch_norm: bool = True,
    ) -> None:
        super().__init__(spatial_dims, in_channels, out_channels, scale, features, num_blocks, end_kernel, batch_norm)


class ChestXrayDiscriminator(Discriminator):
    """Four convolutions: three halve the image, the last makes a map of verdicts, and its mean is the verdict.

    Our choices, which the outline leaves open: kernels of 4 and strides of 2, doubled channels, leaky ReLUs, the mean
    over the map.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the image.
        features: channels after the first convolution; each of the next two doubles them.
        norm: "batch", "instance" or "none". The first and the last convolution have none.

    Shape:
        (B, in_channels, *spatial) -> ([(B, 1)], three feature maps)

    Raises:
        InputError: as :class:`Discriminator`.
    """

    def __init__(self, spatial_dims: int, in_channels: int = 1, features: int = 64, norm: str = "batch") -> None:
        super().__init__(spatial_dims, smallest_size(3, norm), norm, in_channels=in_channels, features=features)
        widths = [in_channels, *(features * 2**i for i in range(3))]
        self.stages = nn.ModuleList(
            normalised_convolution(spatial_dims, widths[i], widths[i + 1], "none" if i == 0 else norm) for i in range(3)
        )
        self.verdict = CONVOLUTIONS[spatial_dims](widths[-1], 1, 3, padding=1)
        initialise_(self)

    def _judge(self, image: Tensor) -> Judgement:
        features = run_stages(self.stages, image)
        return [self.verdict(features[-1]).flatten(2).mean(dim=-1)], features
