"""mDCSRN: densely connected dense blocks on the interpolated image; with one block it is DCSRN."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from medsr_monai.networks.blocks import BATCH_NORMS, Generator, Scale, convolution
from medsr_monai.networks.upsampling import CubicUpsampling


class DenseBlock(nn.Module):
    """Units of batch normalisation, ELU and convolution; each reads the block's input and all units before it.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels in.
        growth: channels that each unit adds.
        units: number of units.

    Shape:
        (B, in_channels, *spatial) -> (B, in_channels + units * growth, *spatial)
    """

    def __init__(self, spatial_dims: int, in_channels: int, growth: int, units: int) -> None:
        super().__init__()
        widths = [in_channels + i * growth for i in range(units)]
        self.units = nn.ModuleList(
            nn.Sequential(BATCH_NORMS[spatial_dims](width), nn.ELU(), convolution(spatial_dims, width, growth))
            for width in widths
        )

    def forward(self, maps: Tensor) -> Tensor:
        for unit in self.units:
            maps = torch.cat((maps, unit(maps)), dim=1)
        return maps


class MDCSRN(Generator):
    """Dense blocks, each after a compressor that reads all earlier levels; then a reconstruction from all levels.

    All convolutions run on the interpolated image (in the papers, on the zero-filled one). This is accurate, but at
    scale 2 it takes eight times the work of the low-resolution grid. With ``num_blocks`` 1, this is DCSRN. The
    reconstruction has a kernel of 3 voxels in DCSRN, and of 1 in mDCSRN. Departs from the papers: cubic interpolation;
    two dimensions as well.

    Args:
        growth: channels that each unit adds; the first convolution and the compressors have twice as many. The papers
            use 24 with one block, 16 with four.
        num_blocks: dense blocks.
        units: units in each block.

    Reference:
        Chen et al., doi:10.1007/978-3-030-00928-1_11, arXiv:2003.01217; with one block doi:10.1109/ISBI.2018.8363679
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int = 1,
        out_channels: int = 1,
        scale: Scale = 2,
        growth: int = 16,
        num_blocks: int = 4,
        units: int = 4,
    ) -> None:
        counts = {"growth": growth, "num_blocks": num_blocks, "units": units}
        super().__init__(spatial_dims, in_channels, out_channels, scale, **counts)
        width, added = 2 * growth, (2 + units) * growth
        self.upsampling = CubicUpsampling(self.scale)
        self.head = convolution(spatial_dims, in_channels, width)
        self.levels = nn.ModuleList()
        for i in range(num_blocks):
            # The first block reads the first convolution directly.
            compressor = convolution(spatial_dims, width + i * added, width, 1) if i else nn.Identity()
            self.levels.append(nn.Sequential(compressor, DenseBlock(spatial_dims, width, growth, units)))
        kernel = 3 if num_blocks == 1 else 1
        self.reconstruction = convolution(spatial_dims, width + num_blocks * added, out_channels, kernel)

    def forward(self, image: Tensor) -> Tensor:
        maps = self.head(self.upsampling(image))
        for level in self.levels:
            maps = torch.cat((maps, level(maps)), dim=1)
        return self.reconstruction(maps)
