"""The natural scene statistics of patches of slices, which NIQE compares."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from medsr_monai.metrics.generalised_gaussian import fit_aggd, fit_ggd
from medsr_monai.metrics.windows import gaussian_weights, smooth

# The authors' window, and their constant, which damps flat regions, for intensities from 0 to 255.
PAPER_RANGE, WINDOW, SIGMA, CONSTANT = 255.0, 7, 7 / 6, 1.0
SCALES = 2
FEATURES = 18 * SCALES
NEIGHBOURS = ((0, 1), (1, 0), (1, 1), (1, -1))


def normalised(slices: Tensor) -> tuple[Tensor, Tensor]:
    """Compute mean-subtracted, contrast-normalised coefficients ``(x - m) / (s + 1)`` and the local deviation ``s``.

    ``m`` and ``s`` are mean and deviation in a Gaussian window of 7 x 7; the border is repeated.

    Args:
        slices: (N, 1, H, W), intensities from 0 to 255.

    Returns:
        Both (N, 1, H, W).
    """
    weights = gaussian_weights(WINDOW, SIGMA)
    # An offset does not change deviations, but near zero they lose fewer digits.
    slices = slices - slices.mean()
    padded = functional.pad(slices, [WINDOW // 2] * 4, mode="replicate")
    mean = smooth(padded, weights)
    deviation = smooth(padded * padded, weights).addcmul_(mean, mean, value=-1).clamp_(min=0).sqrt_()
    return (slices - mean).div_(deviation + CONSTANT), deviation


def cut(slices: Tensor, patch: int) -> Tensor:
    """Cut (N, 1, H, W) into patches (N, rows, columns, patch, patch) without overlap; the remainder is dropped."""
    return slices[:, 0].unfold(1, patch, patch).unfold(2, patch, patch)


def patch_features(patches: Tensor) -> Tensor:
    """Fit the distributions of coefficients and of products of neighbouring coefficients.

    The features are shape and deviation of the coefficients. For each of four neighbours (right, below, both
    diagonals), they also are shape, mean, left and right deviation of the products of pairs within the patch.

    Args:
        patches: (P, side, side), normalised coefficients.

    Returns:
        (P, 18) in float64; nan for a flat patch.
    """
    shape, deviation = fit_ggd(patches.flatten(1))
    features = [shape, deviation]
    side = patches.shape[-1]
    for down, right in NEIGHBOURS:
        first = patches[:, : side - down, max(0, -right) : side - max(0, right)]
        second = patches[:, down:, max(0, right) : side - max(0, -right)]
        shape, left, other = fit_aggd((first * second).flatten(1))
        mean = (other - left) * torch.exp(
            torch.lgamma(2 / shape) - (torch.lgamma(1 / shape) + torch.lgamma(3 / shape)) / 2
        )
        features += [shape, mean, left, other]
    return torch.stack(features, dim=1)


def scene_statistics(slices: Tensor, kept: Tensor, patch: int, sharpness: float = 0.0) -> Tensor:
    """Compute the features of patches on two scales; the second scale averages 2 x 2 voxels.

    Args:
        slices: (N, 1, H, W), intensities from 0 to 255.
        kept: (N, rows, columns) bool, the patches that count.
        patch: side in voxels, even.
        sharpness: share of a slice's largest mean local deviation that a patch must exceed.

    Returns:
        (P, 36) in float64: the patches that count and are not flat.
    """
    features = []
    for scale in range(SCALES):
        if scale:
            slices = functional.avg_pool2d(slices, 2)
        coefficients, deviation = normalised(slices)
        side = patch >> scale
        rows, columns = kept.shape[1:]
        patches = cut(coefficients, side)[:, :rows, :columns]
        if scale == 0 and sharpness > 0:
            sharp = torch.where(kept, cut(deviation, side).mean(dim=(-2, -1)), 0)
            kept = kept & (sharp > sharpness * sharp.amax(dim=(1, 2), keepdim=True))
        features.append(patch_features(patches[kept]))
    both = torch.cat(features, dim=1)
    return both[torch.isfinite(both).all(dim=1)]
