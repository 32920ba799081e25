"""Discriminators with one interface: they map an image to verdicts and features, in two and three dimensions."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import spectral_norm

from medsr_monai.networks.blocks import (
    BATCH_NORMS,
    CONVOLUTIONS,
    NEGATIVE_SLOPE,
    check_counts,
    convolution,
    initialise_kaiming_,
    run_stages,
)
from medsr_monai.system.errors import InputError

NORMALISATIONS: dict[str, dict[int, type[nn.Module]]] = {
    "batch": BATCH_NORMS,
    "instance": {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d},
    "none": {2: nn.Identity, 3: nn.Identity},
}
MAX_WIDENING = 8
HIDDEN_FEATURES = 100  # between the two final linear layers, as in ESRGAN's released code

Judgement = tuple[list[Tensor], list[Tensor]]


class Discriminator(nn.Module):
    """The base of all discriminators: the interface, and the check of the image size.

    Args:
        spatial_dims: 2 or 3.
        min_size: smallest number of voxels along each axis.
        norm: "batch", "instance" or "none".
        sizes: other arguments that must be at least 1; the error names them.

    Attributes:
        min_size: smallest number of voxels along each axis.
        batch_dependent: whether an image's verdict depends on the other images of its batch, as with batch
            normalisation. A penalty per image, as in WGAN-GP, is then undefined.

    Shape:
        (B, in_channels, *spatial) -> (verdicts, features). The verdicts are logits (no sigmoid), one tensor (B, ...)
        per scale. The features are the intermediate activations, shallow to deep.

    Raises:
        InputError: an argument is out of range; in ``forward``, the image has other dimensions or is too small.
    """

    def __init__(self, spatial_dims: int, min_size: int, norm: str = "none", **sizes: int) -> None:
        super().__init__()
        if spatial_dims not in CONVOLUTIONS:
            raise InputError(f"spatial_dims {spatial_dims}: must be 2 or 3")
        if norm not in NORMALISATIONS:
            raise InputError(f"norm {norm!r}: must be one of {', '.join(NORMALISATIONS)}")
        check_counts(**sizes)
        self.spatial_dims = spatial_dims
        self.min_size = min_size
        self.batch_dependent = norm == "batch"

    def forward(self, image: Tensor) -> Judgement:
        name, shape = type(self).__name__, tuple(image.shape)
        if len(shape) != self.spatial_dims + 2:
            raise InputError(f"{name}: image of shape {shape}, but need (B, C) and {self.spatial_dims} spatial axes")
        for axis, size in enumerate(shape[2:]):
            if size < self.min_size:
                raise InputError(
                    f"{name}: image axis {axis} has {size} voxels, but needs at least {self.min_size}; "
                    "use larger patches or fewer stages, layers or scales"
                )
        return self._judge(image)

    def _judge(self, image: Tensor) -> Judgement:
        raise NotImplementedError


def normalised_convolution(
    spatial_dims: int, in_channels: int, out_channels: int, norm: str, kernel_size: int = 4, stride: int = 2
) -> nn.Sequential:
    """Convolution, normalisation, leaky ReLU. Kernel 4 and stride 2 reduce an axis of n voxels to n // 2."""
    conv = CONVOLUTIONS[spatial_dims](
        in_channels, out_channels, kernel_size, stride=stride, padding=(kernel_size - 1) // 2, bias=norm == "none"
    )
    layers: list[nn.Module] = [conv]
    if norm != "none":
        layers.append(NORMALISATIONS[norm][spatial_dims](out_channels, affine=True))
    return nn.Sequential(*layers, nn.LeakyReLU(NEGATIVE_SLOPE, inplace=True))


def smallest_size(halvings: int, norm: str) -> int:
    """The smallest axis that leaves one voxel after the halvings, or two if a normalisation needs statistics."""
    return 2**halvings if norm == "none" else 2 ** (halvings + 1)


class VGGDiscriminator(Discriminator):
    """Pairs of convolutions that halve the image, then two linear layers: the discriminator of SRGAN and ESRGAN.

    Departs from the papers: they flatten the last map, which fixes the patch size. Here the linear layers read its
    spatial average, so any patch of at least ``min_size`` can be judged.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the image.
        features: channels of the first stage; each further stage doubles them, to 8 times at most.
        stages: number of halvings.
        norm: "batch" as in the papers, "instance" or "none". The first convolution has none.

    Shape:
        (B, in_channels, *spatial) -> ([(B, 1)], one feature map per stage)

    Reference:
        Ledig et al., SRGAN, doi:10.1109/CVPR.2017.19; Wang et al., ESRGAN, doi:10.1007/978-3-030-11021-5_5
    """

    def __init__(
        self, spatial_dims: int, in_channels: int = 1, features: int = 64, stages: int = 4, norm: str = "batch"
    ) -> None:
        counts = {"in_channels": in_channels, "features": features, "stages": stages}
        super().__init__(spatial_dims, smallest_size(stages, norm), norm, **counts)
        self.stages = nn.ModuleList()
        width = in_channels
        for i in range(stages):
            wider = features * min(2**i, MAX_WIDENING)
            first = normalised_convolution(spatial_dims, width, wider, norm if i else "none", 3, stride=1)
            self.stages.append(nn.Sequential(first, normalised_convolution(spatial_dims, wider, wider, norm)))
            width = wider
        hidden = nn.Linear(width, HIDDEN_FEATURES)
        self.verdict = nn.Sequential(hidden, nn.LeakyReLU(NEGATIVE_SLOPE), nn.Linear(HIDDEN_FEATURES, 1))
        initialise_kaiming_(self, slope=NEGATIVE_SLOPE)

    def _judge(self, image: Tensor) -> Judgement:
        features = run_stages(self.stages, image)
        return [self.verdict(features[-1].flatten(2).mean(dim=-1))], features


class DCGANDiscriminator(Discriminator):
    """Four strided convolutions and a verdict map; its mean is the verdict on the image.

    Departs from the paper: its last convolution is as large as its last map, which fixes the patch size. Here a 3-voxel
    convolution and an average follow, so any patch of at least ``min_size`` can be judged.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the image.
        features: channels after the first convolution; each of the others doubles them.
        norm: "batch" as in the paper, "instance" or "none". The first convolution has none.

    Attributes:
        halvings: number of strided convolutions.

    Shape:
        (B, in_channels, *spatial) -> ([(B, 1)], one feature map per halving)

    Reference:
        Radford et al., DCGAN, arXiv:1511.06434
    """

    halvings = 4

    def __init__(self, spatial_dims: int, in_channels: int = 1, features: int = 64, norm: str = "batch") -> None:
        min_size = smallest_size(self.halvings, norm)
        super().__init__(spatial_dims, min_size, norm, in_channels=in_channels, features=features)
        widths = [in_channels, *(features * 2**i for i in range(self.halvings))]
        self.stages = nn.ModuleList(
            normalised_convolution(spatial_dims, widths[i], widths[i + 1], norm if i else "none")
            for i in range(self.halvings)
        )
        self.verdict = convolution(spatial_dims, widths[-1], 1)
        initialise_kaiming_(self, slope=NEGATIVE_SLOPE)

    def _judge(self, image: Tensor) -> Judgement:
        features = run_stages(self.stages, image)
        return [self.verdict(features[-1]).flatten(2).mean(dim=-1)], features


def activate(maps: Tensor) -> Tensor:
    return functional.leaky_relu(maps, NEGATIVE_SLOPE)


class UNetDiscriminator(Discriminator):
    """A U-Net with spectral normalisation that judges every voxel: the discriminator of Real-ESRGAN.

    Three strided convolutions lead down. Three interpolations lead up, each to the size of the skip connection, which
    is added. So every voxel gets a verdict, for any axis of at least ``min_size``, odd or even.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the image.
        features: channels at full resolution; each of the three levels below doubles them.

    Shape:
        (B, in_channels, *spatial) -> ([(B, 1, *spatial)], four feature maps down and three up)

    Reference:
        Wang et al., Real-ESRGAN, doi:10.1109/ICCVW54120.2021.00217; Miyato et al., spectral normalisation,
        arXiv:1802.05957
    """

    def __init__(self, spatial_dims: int, in_channels: int = 1, features: int = 64) -> None:
        super().__init__(spatial_dims, smallest_size(3, "none"), in_channels=in_channels, features=features)
        conv = CONVOLUTIONS[spatial_dims]
        widths = [features * 2**i for i in range(4)]
        self.interpolation = "bilinear" if spatial_dims == 2 else "trilinear"
        self.head = conv(in_channels, features, 3, padding=1)
        self.down = nn.ModuleList(conv(widths[i], widths[i + 1], 4, stride=2, padding=1, bias=False) for i in range(3))
        self.up = nn.ModuleList(conv(widths[i + 1], widths[i], 3, padding=1, bias=False) for i in reversed(range(3)))
        self.refine = nn.ModuleList(conv(features, features, 3, padding=1, bias=False) for _ in range(2))
        self.verdict = conv(features, 1, 3, padding=1)
        initialise_kaiming_(self, slope=NEGATIVE_SLOPE)
        for module in (*self.down, *self.up, *self.refine):
            spectral_norm(module)  # only after the weights are drawn, because it starts from their singular vectors

    def _judge(self, image: Tensor) -> Judgement:
        down = [activate(self.head(image))]
        for conv in self.down:
            down.append(activate(conv(down[-1])))
        maps, up = down[-1], []
        for conv, skip in zip(self.up, down[-2::-1], strict=True):
            maps = functional.interpolate(maps, size=skip.shape[2:], mode=self.interpolation, align_corners=False)
            maps = activate(conv(maps)) + skip
            up.append(maps)
        for conv in self.refine:
            maps = activate(conv(maps))
        return [self.verdict(maps)], [*down, *up]


class MultiScalePatchDiscriminator(Discriminator):
    """MONAI's patch discriminators of several depths; each judges patches of its own size.

    This wraps ``monai.networks.nets.MultiScalePatchDiscriminator``. Scale i has ``layers * (i + 1)`` convolutions after
    the first one, and all scales see the full image. Departs from the paper: pix2pixHD has one depth, which sees
    smaller and smaller images.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the image.
        features: channels after the first convolution; each further one doubles them.
        scales: number of patch discriminators.
        layers: convolutions after the first one in the shallowest discriminator.
        norm: "instance" as in pix2pixHD, "batch" or "none". The first convolution has none.

    Shape:
        (B, in_channels, *spatial) -> (one verdict map (B, 1, *smaller) per scale, the feature maps scale by scale)

    ``min_size`` grows with ``2 ** (layers * scales)``.

    Reference:
        Wang et al., pix2pixHD, doi:10.1109/CVPR.2018.00917
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int = 1,
        features: int = 32,
        scales: int = 2,
        layers: int = 2,
        norm: str = "instance",
    ) -> None:
        # The deepest scale halves the image layers * scales times, then a kernel of 4 removes one more voxel. The
        # verdict needs two voxels before that kernel; a normalisation needs three, to see more than one voxel.
        min_size = (2 if norm == "none" else 3) * 2 ** (layers * scales)
        counts = {"in_channels": in_channels, "features": features, "scales": scales, "layers": layers}
        super().__init__(spatial_dims, min_size, norm, **counts)
        from monai.networks.nets.patchgan_discriminator import MultiScalePatchDiscriminator as Patches  # slow to import

        self.patches = Patches(
            num_d=scales,
            num_layers_d=layers,
            spatial_dims=spatial_dims,
            channels=features,
            in_channels=in_channels,
            activation=("LEAKYRELU", {"negative_slope": NEGATIVE_SLOPE}),
            norm=None if norm == "none" else (norm.upper(), {"affine": True}),  # type: ignore[arg-type]
            bias=norm == "none",
            minimum_size_im=min_size,
        )
        initialise_kaiming_(self, slope=NEGATIVE_SLOPE)

    def _judge(self, image: Tensor) -> Judgement:
        verdicts, features = self.patches(image)
        return verdicts, [maps for scale in features for maps in scale]
