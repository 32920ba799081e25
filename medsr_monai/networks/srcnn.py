"""SRCNN: three convolutions on the interpolated image."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from medsr_monai.networks.blocks import TAIL_GAIN, Generator, Scale, check_kernel, convolution, initialise_kaiming_
from medsr_monai.networks.upsampling import CubicUpsampling
from medsr_monai.system.errors import InputError


class SRCNN(Generator):
    """Patch extraction, non-linear mapping and reconstruction: ``sr = F3(relu(F2(relu(F1(interpolate(lr))))))``.

    Departs from the paper: zero padding keeps the size; the initial weights pass the interpolated image through (where
    it is not negative), while the paper starts from a Gaussian of deviation 0.001 and needs 10^8 iterations; three
    dimensions, where a kernel of 9 has 729 weights and a smaller one is advisable.

    Args:
        features: channels after the first convolution.
        mapped_features: channels after the second convolution.
        kernel_sizes: of the three convolutions, odd.

    Reference:
        Dong et al., doi:10.1109/TPAMI.2015.2439281; in three dimensions Pham et al., doi:10.1109/ISBI.2017.7950500
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int = 1,
        out_channels: int = 1,
        scale: Scale = 2,
        features: int = 64,
        mapped_features: int = 32,
        kernel_sizes: Sequence[int] = (9, 1, 5),
    ) -> None:
        counts = {"features": features, "mapped_features": mapped_features}
        super().__init__(spatial_dims, in_channels, out_channels, scale, **counts)
        if len(kernel_sizes) != 3:
            raise InputError(f"kernel_sizes {tuple(kernel_sizes)}: need three, one per convolution")
        for size in kernel_sizes:
            check_kernel("kernel_sizes", size)
        self.upsampling = CubicUpsampling(self.scale)
        self.extraction = convolution(spatial_dims, in_channels, features, kernel_sizes[0])
        self.mapping = convolution(spatial_dims, features, mapped_features, kernel_sizes[1])
        self.reconstruction = convolution(spatial_dims, mapped_features, out_channels, kernel_sizes[2])
        self.activation = nn.ReLU(inplace=True)
        initialise_kaiming_(self, self.reconstruction, TAIL_GAIN)
        self._pass_through(min(in_channels, out_channels, features, mapped_features))

    def _pass_through(self, channels: int) -> None:
        """Let channel i of every layer carry channel i of the image."""
        for conv in (self.extraction, self.mapping, self.reconstruction):
            weight = conv.weight
            assert isinstance(weight, Tensor)
            centre = [size // 2 for size in weight.shape[2:]]
            with torch.no_grad():
                weight[:channels] *= TAIL_GAIN
                for channel in range(channels):
                    weight[(channel, channel, *centre)] = 1.0

    def forward(self, image: Tensor) -> Tensor:
        maps = self.activation(self.extraction(self.upsampling(image)))
        return self.reconstruction(self.activation(self.mapping(maps)))
