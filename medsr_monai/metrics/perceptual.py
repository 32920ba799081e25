"""A distance between the features of two images: LPIPS without its trained channel weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from medsr_monai.metrics.pairs import checked_pair, counted

Features = Callable[[Tensor], Tensor | Sequence[Tensor]]


def perceptual_distance(sr: Tensor, hr: Tensor, features: Features, mask: Tensor | None = None) -> Tensor:
    """Average ``|a/|a| - b/|b||^2`` over layers and positions, with the feature vectors a of sr and b of hr.

    It is 0 for equal images and at most 4. Figures of different feature networks are not comparable. The comparison is
    also unfair if one of the methods was trained with this network, so report that. Outside the mask, sr is replaced by
    hr, and the mean is divided by the mask's share of the image. Features also depend on voxels outside the mask.

    Args:
        sr: (B, C, *spatial), the image to judge, in the units that the feature network expects.
        hr: (B, C, *spatial), the reference.
        features: maps (1, C, *spatial) to one feature map or a list of them; see ``medsr_monai.networks``, and
            ``OnSlices`` there for 2D networks on volumes.
        mask: (B or 1, C or 1, *spatial), the voxels that count; default all.

    Returns:
        (B,), no unit.

    Raises:
        InputError: the shapes differ, a voxel is not finite, the mask is empty, or the network refuses the image.

    Reference:
        Zhang et al., doi:10.1109/CVPR.2018.00068
    """
    sr, hr = checked_pair(sr, hr)
    inside = counted(mask, hr)
    share = inside.flatten(1).to(hr.dtype).mean(dim=1)
    sr = torch.where(inside, sr, hr)
    with torch.no_grad():
        each = [feature_distance(features(a), features(b)) for a, b in zip(sr.split(1), hr.split(1), strict=True)]
    return torch.stack(each) / share


def feature_distance(
    ours: Tensor | Sequence[Tensor], theirs: Tensor | Sequence[Tensor], shortest: float = 1e-12
) -> Tensor:
    """Average the squared distance of normalised feature vectors over layers and positions.

    Args:
        ours: one feature map (B, C, *) or a list of them.
        theirs: the same for the other image, with the same shapes.
        shortest: the direction of a shorter feature vector counts less.

    Returns:
        A scalar from 0 to 4.
    """
    layers = [[maps] if isinstance(maps, Tensor) else maps for maps in (ours, theirs)]
    directions = [[functional.normalize(maps, dim=1, eps=shortest) for maps in layer] for layer in layers]
    return torch.stack([(a - b).square().sum(dim=1).mean() for a, b in zip(*directions, strict=True)]).mean()
