"""Two distances of gradient magnitudes: they compare the edges and the texture of an image with the reference's.

PSNR prefers a blurred mean to any texture. These distances show whether an image has as much detail as the reference.
The first compares voxel by voxel, the second compares distributions without regard to place. Detail in the wrong place
counts twice in the first, so the first prefers a mean too; it costs nothing in the second. Noise counts as detail: on a
noisy reference, a noisy image can score better than a clean one, although it shows no more anatomy. Read both
together with PSNR, on the cleanest references available.
"""

from __future__ import annotations

import torch
from torch import Tensor

from medsr_monai.metrics.pairs import checked_pair, counted, mean_inside, refuse_where
from medsr_monai.system.errors import InputError


def gradient_magnitude(image: Tensor) -> Tensor:
    """Compute ``sqrt(sum_i (d image / d x_i)^2)`` by central differences, one-sided at the image's border.

    Args:
        image: (B, C, *spatial), floating point.

    Returns:
        (B, C, *spatial), in the image's unit per voxel; the spacing in mm does not matter.

    Raises:
        InputError: an axis has one voxel.
    """
    squares = torch.zeros_like(image)
    for dim in range(2, image.ndim):
        if image.shape[dim] < 2:
            raise InputError(f"axis {dim - 2}: one voxel, but a gradient needs at least 2")
        (slope,) = torch.gradient(image, dim=dim)
        squares.addcmul_(slope, slope)
    return squares.sqrt_()


def gradient_magnitude_distance(sr: Tensor, hr: Tensor, mask: Tensor | None = None) -> Tensor:
    """Compute ``mean |g(sr) - g(hr)| / mean g(hr)`` with the gradient magnitude g: 0 for equal images, 1 if sr is flat.

    The unit of intensity and an offset do not matter if both images share them. The distance grows with blur, misplaced
    edges and noise that the reference does not have. The docstring of this module treats noise in the reference.

    Args:
        sr: (B, C, *spatial), the image to judge.
        hr: (B, C, *spatial), the reference.
        mask: (B or 1, C or 1, *spatial), the voxels that count; default all. The gradients of its outer voxels also use
            voxels outside it.

    Returns:
        (B,), no unit.

    Raises:
        InputError: the shapes differ, an axis has one voxel, the mask is empty, a voxel is not finite, or the reference
            is flat in the mask.
    """
    sr, hr = checked_pair(sr, hr)
    reference = gradient_magnitude(hr)
    mean_gradient = mean_inside(reference, mask)
    refuse_where(mean_gradient == 0, "hr: image", "is flat: no gradient to compare with")
    return mean_inside((gradient_magnitude(sr) - reference).abs_(), mask) / mean_gradient


def gradient_distribution_distance(sr: Tensor, hr: Tensor, mask: Tensor | None = None) -> Tensor:
    """Compute ``W1(g(sr), g(hr)) / mean g(hr)``, the Wasserstein distance of the distributions of gradient magnitudes.

    It is 0 for equal distributions, 1 for a flat image, and 0.1 for an image that is a tenth less sharp everywhere. W1
    is the mean difference of the sorted magnitudes, so it never exceeds `gradient_magnitude_distance`, which pairs them
    by place.

    Args:
        sr: (B, C, *spatial), the image to judge.
        hr: (B, C, *spatial), the reference.
        mask: (B or 1, C or 1, *spatial), the voxels that count; default all.

    Returns:
        (B,), no unit.

    Raises:
        InputError: as `gradient_magnitude_distance`.
    """
    sr, hr = checked_pair(sr, hr)
    of_sr, of_hr, inside = gradient_magnitude(sr), gradient_magnitude(hr), counted(mask, hr)
    distances, means = [], []
    for ours, theirs, kept in zip(of_sr, of_hr, inside, strict=True):
        reference = theirs[kept].sort().values
        distances.append((ours[kept].sort().values - reference).abs_().mean())
        means.append(reference.mean())
    mean_gradient = torch.stack(means)
    refuse_where(mean_gradient == 0, "hr: image", "is flat: no gradient to compare with")
    return torch.stack(distances) / mean_gradient
