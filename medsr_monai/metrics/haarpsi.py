"""HaarPSI: the similarity of Haar wavelet coefficients of two images, weighted by their size.

The paper's index is for 2D images. Our extension to 3D uses the same wavelets along each of the three axes, averaged
over the window along the additional axis. A volume that is constant along an axis has the figure of its slice.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from medsr_monai.metrics.pairs import check_range, checked_pair, counted, refuse_flat, refuse_where
from medsr_monai.metrics.windows import check_sides, halved

# The authors' values for intensities from 0 to 255.
PAPER_RANGE, CONSTANT, ALPHA = 255.0, 30.0, 4.2
SIMILARITY_SCALES, WEIGHT_SCALE = (1, 2), 3


def _window_sums(image: Tensor, length: int, dim: int) -> Tensor:
    """Sum ``length`` (a power of two) voxels from each voxel on along an axis, which loses ``length - 1`` voxels."""
    step = 1
    while step < length:
        size = image.shape[dim] - step
        image = image.narrow(dim, 0, size) + image.narrow(dim, step, size)
        step *= 2
    return image


def _padded(image: Tensor, length: int) -> Tensor:
    """Pad with zeros, so that a window of the even ``length`` fits around every voxel."""
    return functional.pad(image, [length // 2 - 1, length // 2] * (image.ndim - 2))


def _haar_magnitudes(image: Tensor, scale: int, axis: int) -> Tensor:
    """Compute the absolute wavelet coefficients of one axis: differences of half windows, averaged across.

    Args:
        image: (B, C, *spatial).
        scale: the window has ``2**scale`` voxels.
        axis: spatial axis along which the difference is taken.

    Returns:
        (B, C, *spatial), scaled so that an edge has the same value in 3D as in 2D.
    """
    length = 2**scale
    half = length // 2
    result = _padded(image, length)
    for dim in range(2, image.ndim):
        if dim != axis + 2:
            result = _window_sums(result, length, dim)
    result = _window_sums(result, half, axis + 2)
    size = result.shape[axis + 2] - half
    result = result.narrow(axis + 2, half, size) - result.narrow(axis + 2, 0, size)
    return result.abs_().mul_(1 / length ** (image.ndim - 3))


def _similarity(sr: Tensor, hr: Tensor) -> Tensor:
    """Compute ``(2 a b + C) / (a^2 + b^2 + C)`` for two magnitudes."""
    return (sr * hr).mul_(2).add_(CONSTANT).div_((sr * sr).addcmul_(hr, hr).add_(CONSTANT))


def _weighted_sums(sr: Tensor, hr: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Sum ``w sigmoid(alpha s)`` and ``w`` over voxels and axes, (B,) in float64."""
    weighted, weights = (torch.zeros(len(sr), dtype=torch.float64, device=sr.device) for _ in range(2))
    for axis in range(sr.ndim - 2):
        ours, theirs = (_haar_magnitudes(image, WEIGHT_SCALE, axis) for image in (sr, hr))
        weight = torch.maximum(ours, theirs).mul_(mask)
        local = torch.zeros_like(sr)
        for scale in SIMILARITY_SCALES:
            local += _similarity(_haar_magnitudes(sr, scale, axis), _haar_magnitudes(hr, scale, axis))
        local = local.mul_(ALPHA / len(SIMILARITY_SCALES)).sigmoid_()
        weighted += local.mul_(weight).flatten(1).sum(dim=1, dtype=torch.float64)
        weights += weight.flatten(1).sum(dim=1, dtype=torch.float64)
    return weighted, weights


def haarpsi(sr: Tensor, hr: Tensor, mask: Tensor | None = None, data_range: float = 1.0) -> Tensor:
    """Compute ``logit(sum w sigmoid(4.2 s) / sum w)^2 / 4.2^2``; s: similarity of fine, w: size of coarse coefficients.

    The image is first halved by averaging, which models the viewing distance. Coefficients of windows of 2 and 4 voxels
    are compared with the constant 30, for intensities times ``255 / data_range``. Coefficients of 8 voxels are the
    weights. The image counts as zero outside its border, so its background should be zero: use HU + 1024 for CT.

    Args:
        sr: (B, C, *spatial), the image to judge.
        hr: (B, C, *spatial), the reference.
        mask: (B or 1, C or 1, *spatial), the voxels that count; default all. A halved voxel counts if one of its voxels
            does.
        data_range: difference between the largest and the smallest possible value.

    Returns:
        (B,), above 0 and at most 1; equal images have 1. Channels count together.

    Raises:
        InputError: the shapes differ, a side is below 16 voxels, the reference is flat or has no edge in the mask, the
            mask is empty, or a voxel is not finite.

    Reference:
        Reisenhofer, Bosse, Kutyniok, Wiegand: A Haar wavelet-based perceptual similarity index for image quality
        assessment. doi:10.1016/j.image.2017.11.001
    """
    check_range(data_range)
    sr, hr = checked_pair(sr, hr)
    check_sides(sr, 2 ** (WEIGHT_SCALE + 1), "HaarPSI")
    refuse_flat(hr)
    unit = PAPER_RANGE / data_range
    # The last voxel of an odd axis is averaged with zeros, as in the authors' code.
    sr, hr, inside = (halved(x, "constant") for x in (sr * unit, hr * unit, counted(mask, hr).to(hr.dtype)))
    weighted, weights = _weighted_sums(sr, hr, inside > 0)
    refuse_where(weights == 0, "hr: image", "is flat in the mask")
    return (torch.logit(weighted / weights) / ALPHA).square().to(hr.dtype)
