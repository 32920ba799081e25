"""Upsample one axis by any real factor with one set of weights: thin slices from thick ones."""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn

from medsr_monai.networks.blocks import RRDB, check_counts, convolution
from medsr_monai.system.errors import InputError

MAX_FACTOR = 10.0
TAPS = 3  # thick slices that an output slice is made of: the nearest, and one on either side
HARMONICS = 4


def slice_positions(n_thick: int, n_thin: int) -> tuple[Tensor, Tensor, Tensor]:
    """Where the thin slices lie between the thick ones; both stacks cover the same field of view.

    Args:
        n_thick: slices measured.
        n_thin: slices wanted.

    Returns:
        Of every thin slice the nearest thick one, the offset from it in thick slices, -0.5 to 0.5 (float64), and its
        rank among the thin slices that share that thick one.
    """
    at = (torch.arange(n_thin, dtype=torch.float64) + 0.5) * n_thick / n_thin - 0.5
    nearest = at.round().long().clamp(0, n_thick - 1)
    first = torch.searchsorted(nearest, nearest)  # of the group that each belongs to
    return nearest, at - nearest, torch.arange(n_thin) - first


class SliceUpsampler(nn.Module):
    """Upsamples the last axis by any real factor of 1 to 10; the weights follow phase, factor and slice profile.

    A trunk of dense residual blocks works on the thick grid. Every thin slice is made from the three thick slices
    around it by a matrix that a small network computes from the thin slice's offset, the factor and the profile's
    width; two convolutions on the fine grid finish the residual that is added to linear interpolation. The output is
    meant to be projected onto the measurement (``SeparableAcquisition.project``).

    Args:
        spatial_dims: 2 or 3.
        features: channels of the trunk.
        growth: channels that each inner convolution of a dense block adds.
        blocks: RRDBs in the trunk.
        fine_features: channels on the fine grid.
        hidden: width of the small networks that make the weights.

    Shape:
        (B, 1, *others, n_thick) -> (B, 1, *others, n_thin)

    Reference:
        Hu et al., Meta-SR, doi:10.1109/CVPR.2019.00167; Perez et al., FiLM, arXiv:1709.07871; Wang et al., ESRGAN,
        doi:10.1007/978-3-030-11021-5_5
    """

    def __init__(
        self,
        spatial_dims: int = 2,
        features: int = 64,
        growth: int = 32,
        blocks: int = 1,
        fine_features: int = 32,
        hidden: int = 64,
    ) -> None:
        super().__init__()
        check_counts(features=features, growth=growth, blocks=blocks, fine_features=fine_features, hidden=hidden)
        self.spatial_dims, self.features, self.fine_features = spatial_dims, features, fine_features
        self.trunk = SliceTrunk(spatial_dims, features, growth, blocks)
        self.modulation = nn.Sequential(nn.Linear(2, hidden), nn.SiLU(), nn.Linear(hidden, 4 * features))
        self.weights = nn.Sequential(
            nn.Linear(3 + 2 * HARMONICS, hidden),
            nn.SiLU(),
            nn.Linear(hidden, hidden),
            nn.SiLU(),
            nn.Linear(hidden, TAPS * features * fine_features),
        )
        self.tail = nn.Sequential(
            nn.LeakyReLU(0.2),
            convolution(spatial_dims, fine_features, fine_features),
            nn.LeakyReLU(0.2),
            convolution(spatial_dims, fine_features, 1),
        )
        self._initialise()

    def _initialise(self) -> None:
        for module in self.trunk.modules():
            if isinstance(module, (nn.Conv2d, nn.Conv3d)):
                nn.init.kaiming_normal_(module.weight, a=0.2)
                nn.init.zeros_(module.bias)
        for module in self.trunk.body.modules():
            if isinstance(module, (nn.Conv2d, nn.Conv3d)):
                module.weight.data.mul_(0.5)
        nn.init.zeros_(self.modulation[2].weight)
        nn.init.zeros_(self.modulation[2].bias)
        self.weights[4].weight.data.mul_(0.3)
        self.tail[3].weight.data.mul_(0.1)  # the output starts as interpolation

    def condition(self, factor: float, width: Tensor) -> Tensor:
        """What the small networks are told, (B, 2): the factor and the width of the profile, both around zero."""
        scale = torch.full_like(width, math.log2(factor) / 2 - 0.75)
        return torch.stack([scale, width - 1.0], dim=1)

    def modulations(self, condition: Tensor) -> list[Tensor]:
        """Gain and shift of the trunk's first features, then of its last, (B, features, 1, ...) each."""
        gain, shift, last_gain, last_shift = self.modulation(condition).chunk(4, dim=1)
        shape = (len(condition), self.features, *[1] * self.spatial_dims)
        return [part.reshape(shape) for part in (1 + gain, shift, 1 + last_gain, last_shift)]

    def plain_trunk(self, factor: float, width: float = 1.0) -> nn.Module:
        """The trunk for one factor and width, its modulation folded into the weights: only convolutions, activations,
        sums and concatenations, as ``torch.fx`` traces them. (B, 1, *spatial) -> (B, features, *spatial)"""
        trunk = copy.deepcopy(self.trunk)
        with torch.no_grad():
            like = self.modulation[0].weight
            condition = self.condition(factor, torch.tensor([width], dtype=like.dtype, device=like.device))
            gain, shift, last_gain, last_shift = (part.flatten() for part in self.modulations(condition))
            for conv, by, plus in ((trunk.head, gain, shift), (trunk.last, last_gain, last_shift)):
                conv.weight.mul_(by.reshape(-1, *[1] * (conv.weight.ndim - 1)))
                conv.bias.mul_(by).add_(plus)
        return trunk

    def slice_weights(self, offsets: Tensor, condition: Tensor) -> Tensor:
        """The matrices that make thin slices, (B, n_thin, TAPS * features, fine_features).

        Args:
            offsets: of the thin slices from their nearest thick ones, (n_thin,).
            condition: (B, 2).
        """
        angles = math.pi * offsets[:, None] * torch.arange(1, HARMONICS + 1, dtype=offsets.dtype, device=offsets.device)
        phase = torch.cat([2 * offsets[:, None], angles.sin(), angles.cos()], dim=1)
        batch, n_thin = len(condition), len(offsets)
        code = torch.cat([phase.expand(batch, n_thin, -1), condition[:, None].expand(batch, n_thin, -1)], dim=2)
        weights = self.weights(code) / math.sqrt(self.features)
        return weights.reshape(batch, n_thin, TAPS * self.features, self.fine_features)

    def thin_features(self, thick: Tensor, n_thin: int, condition: Tensor) -> Tensor:
        """Features on the thin grid: every thin slice is a matrix times the three thick slices around it."""
        batch, channels, *others, n_thick = thick.shape
        nearest, offsets, rank = (part.to(thick.device) for part in slice_positions(n_thick, n_thin))
        weights = self.slice_weights(offsets.to(condition.dtype), condition).to(thick.dtype)
        # All thin slices that share their nearest thick one are made by one product; where there are fewer than the
        # most, the columns left over stay zero.
        group = int(rank.max()) + 1
        place = nearest * group + rank
        columns = weights.new_zeros(batch, n_thick * group, *weights.shape[2:])
        columns = columns.index_copy(1, place, weights)
        columns = columns.reshape(batch, n_thick, group, TAPS * channels, -1).transpose(2, 3).flatten(3)
        # (B, n_thick, others, C), and the neighbours beside: a slice beyond the border is the border's.
        rows = thick.flatten(2, -2).permute(0, 3, 2, 1)
        before = torch.cat([rows[:, :1], rows[:, :-1]], dim=1)
        after = torch.cat([rows[:, 1:], rows[:, -1:]], dim=1)
        made = torch.cat([before, rows, after], dim=3) @ columns  # (B, n_thick, others, group * M)
        made = made.reshape(batch, n_thick, rows.shape[2], group, -1).permute(0, 2, 1, 3, 4)
        made = made.reshape(batch, rows.shape[2], n_thick * group, -1)
        if n_thick * group != n_thin:
            made = made.index_select(2, place)
        made = made.reshape(batch, *others, n_thin, self.fine_features)
        return made.movedim(-1, 1)  # channels last in memory

    def linear(self, image: Tensor, n_thin: int) -> Tensor:
        """Half-voxel-aligned linear interpolation along the last axis; beyond the outer slices' centres their value."""
        n_thick = image.shape[-1]
        at = (torch.arange(n_thin, dtype=torch.float64) + 0.5) * n_thick / n_thin - 0.5
        at = at.clamp(0, n_thick - 1)
        below = at.floor().long().clamp(max=max(0, n_thick - 2))
        share = (at - below).to(device=image.device, dtype=image.dtype)
        low, high = below.to(image.device), (below + 1).clamp(max=n_thick - 1).to(image.device)
        return torch.lerp(image.index_select(-1, low), image.index_select(-1, high), share)

    def forward(self, image: Tensor, n_thin: int, width: float | Tensor = 1.0) -> Tensor:
        """Upsample the last axis.

        Args:
            image: (B, 1, *others, n_thick), scaled to about 0 to 1.
            n_thin: slices wanted, 1 to 10 times those there are.
            width: of the slice profile over the distance of the slices, one for all or (B,): of a box its thickness, of
                any other the thickness of the box with the same variance (of a Gaussian 1.471 times its full width at
                half maximum).

        Raises:
            InputError: a factor below 1 or above 10.
        """
        factor = n_thin / image.shape[-1]
        if not 1 <= factor <= MAX_FACTOR:
            raise InputError(f"{image.shape[-1]} slices cannot become {n_thin}: the factor must be 1 to {MAX_FACTOR:g}")
        widths = torch.as_tensor(width, dtype=torch.float32, device=image.device).expand(image.shape[0])
        condition = self.condition(factor, widths).to(self.modulation[0].weight.dtype)
        thick = self.trunk(image, *self.modulations(condition))
        residual = self.tail(self.thin_features(thick, n_thin, condition))
        return self.linear(image, n_thin) + residual.to(image.dtype)


class SliceTrunk(nn.Module):
    """Features of the thick grid; without modulation, plain convolutions, activations, sums and concatenations."""

    def __init__(self, spatial_dims: int, features: int, growth: int, blocks: int) -> None:
        super().__init__()
        self.head = convolution(spatial_dims, 1, features)
        self.body = nn.Sequential(
            *(RRDB(spatial_dims, features, growth) for _ in range(blocks)),
            convolution(spatial_dims, features, features),
        )
        self.last = convolution(spatial_dims, features, features)
        self.activation = nn.LeakyReLU(0.2)

    def forward(
        self,
        image: Tensor,
        gain: Tensor | None = None,
        shift: Tensor | None = None,
        last_gain: Tensor | None = None,
        last_shift: Tensor | None = None,
    ) -> Tensor:
        first = self.head(image)
        if gain is not None:
            first = first * gain + shift
        last = self.last(first + self.body(first))
        if last_gain is not None:
            last = last * last_gain + last_shift
        return self.activation(last)
