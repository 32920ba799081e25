"""How far the edges and the grain of an image are from the reference's: two distances of gradient magnitudes.

Beside PSNR, which prefers a blurred mean to any texture, they say whether there is as much detail as in the reference:
voxel by voxel, at the same places; or by their distributions, wherever it lies. Detail at the wrong place costs twice
in the first, which therefore prefers a mean too, and nothing in the second. Noise is detail too: on a noisy reference
an image with noise of its own can score better than one without, though it shows no more of the anatomy. Read them
together with PSNR, and on the cleanest references there are.
"""

from __future__ import annotations

import torch
from torch import Tensor

from medsr_monai.metrics.foreground import ForegroundMetric
from medsr_monai.metrics.pairs import check_count, checked_pair, expanded_mask, mean_inside
from medsr_monai.system.errors import InputError


def gradient_magnitude(image: Tensor) -> Tensor:
    """``sqrt(sum_i (d image / d x_i)^2)`` by central differences, one-sided at the image's border.

    Args:
        image: (B, C, *spatial) of floating point.

    Returns:
        (B, C, *spatial), in the image's unit per voxel: a voxel counts as one along every axis, however long it is.

    Raises:
        InputError: an axis of one voxel.
    """
    squares = torch.zeros_like(image)
    for dim in range(2, image.ndim):
        if image.shape[dim] < 2:
            raise InputError(f"axis {dim - 2}: one voxel, but a gradient needs at least two")
        (slope,) = torch.gradient(image, dim=dim)
        squares.addcmul_(slope, slope)
    return squares.sqrt_()


def gradient_magnitude_distance(sr: Tensor, hr: Tensor, mask: Tensor | None = None) -> Tensor:
    """``mean |g(sr) - g(hr)| / mean g(hr)`` with the gradient magnitude g: 0 for equal images, 1 for a flat one.

    The unit of intensity and an offset do not matter as long as both images share them. It grows with blur, misplaced
    edges and noise that the reference does not have; see the head of this file about noise that it has.

    Args:
        sr: (B, C, *spatial), the image to judge.
        hr: (B, C, *spatial), the reference.
        mask: (B or 1, C or 1, *spatial), which voxels count; default all. Gradients of its outer voxels look one voxel
            beyond it.

    Returns:
        (B,), no unit.

    Raises:
        InputError: shapes that differ, an axis of one voxel, a mask without a voxel, voxels that are not finite, or a
            reference that is flat there.
    """
    sr, hr = checked_pair(sr, hr)
    reference = gradient_magnitude(hr)
    scale = mean_inside(reference, mask)
    if (scale == 0).any():
        raise InputError(
            f"hr: image {int((scale == 0).nonzero()[0])} of the batch is flat: no gradient to compare with"
        )
    return mean_inside((gradient_magnitude(sr) - reference).abs_(), mask) / scale


def gradient_distribution_distance(sr: Tensor, hr: Tensor, mask: Tensor | None = None) -> Tensor:
    """``W1(g(sr), g(hr)) / mean g(hr)``: the Wasserstein distance between the distributions of gradient magnitudes.

    0 for equal distributions, 1 for a flat image, 0.1 for one that is a tenth less sharp everywhere. As W1 is the mean
    difference of the sorted magnitudes it never exceeds `gradient_magnitude_distance`, which pairs them by place.

    Args:
        sr: (B, C, *spatial), the image to judge.
        hr: (B, C, *spatial), the reference.
        mask: (B or 1, C or 1, *spatial), which voxels count; default all.

    Returns:
        (B,), no unit.

    Raises:
        InputError: as `gradient_magnitude_distance`.
    """
    sr, hr = checked_pair(sr, hr)
    mask = torch.ones_like(hr, dtype=torch.bool) if mask is None else expanded_mask(mask, hr.shape)
    check_count(mask.flatten(1).sum(dim=1))
    distances = []
    for index, (ours, theirs, kept) in enumerate(
        zip(gradient_magnitude(sr), gradient_magnitude(hr), mask, strict=True)
    ):
        reference = theirs[kept].sort().values
        if reference[-1] == 0:
            raise InputError(f"hr: image {index} of the batch is flat: no gradient to compare with")
        distances.append((ours[kept].sort().values - reference).abs_().mean() / reference.mean())
    return torch.stack(distances)


class GradientMagnitudeDistance(ForegroundMetric):
    """`gradient_magnitude_distance` over the foreground, mean over images; lower is nearer.

    A better distance on noisy references rewards noise: see the head of this file. Args as for `ForegroundMetric`.
    """

    def _measure(self, sr: Tensor, hr: Tensor, mask: Tensor) -> Tensor:
        return gradient_magnitude_distance(sr, hr, mask)


class GradientDistributionDistance(ForegroundMetric):
    """`gradient_distribution_distance` over the foreground, mean over images; lower is nearer.

    A better distance on noisy references rewards noise: see the head of this file. Args as for `ForegroundMetric`.
    """

    def _measure(self, sr: Tensor, hr: Tensor, mask: Tensor) -> Tensor:
        return gradient_distribution_distance(sr, hr, mask)
