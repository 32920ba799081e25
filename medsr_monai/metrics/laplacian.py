"""Two measures of edges from second derivatives: HFEN, an error, and EPI, a correlation."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from medsr_monai.metrics.pairs import checked_pair, counted, cropped, refuse_flat, refuse_where
from medsr_monai.metrics.windows import check_sides, correlate_axis, gaussian_weights

HFEN_WINDOW, HFEN_SIGMA = 15, 1.5


def laplacian_of_gaussian(image: Tensor, window: int = HFEN_WINDOW, sigma: float = HFEN_SIGMA) -> Tensor:
    """Correlate the image with ``sum_i d^2 G / d x_i^2``; the border is repeated outwards.

    The kernel is that of MATLAB's ``fspecial('log', 15, 1.5)`` to 2e-5 of its peak. A kernel must sum to zero, so that
    a flat image gives zero. Here the kernel of every axis sums to zero; in MATLAB, only the whole kernel does.

    Args:
        image: (B, C, *spatial).
        window: side of the kernel in voxels, odd.
        sigma: width of the Gaussian in voxels.

    Returns:
        (B, C, *spatial).
    """
    gauss = gaussian_weights(window, sigma)
    steps = [offset - window // 2 for offset in range(window)]
    second = [g * (x * x - sigma**2) / sigma**4 for x, g in zip(steps, gauss, strict=True)]
    second = [d - sum(second) / window for d in second]
    padded = functional.pad(image, [window // 2] * 2 * (image.ndim - 2), mode="replicate")
    smoothed, derived = correlate_axis(padded, gauss, 2), correlate_axis(padded, second, 2)
    for dim in range(3, image.ndim):
        derived = correlate_axis(derived, gauss, dim).add_(correlate_axis(smoothed, second, dim))
        if dim < image.ndim - 1:
            smoothed = correlate_axis(smoothed, gauss, dim)
    return derived


def hfen(sr: Tensor, hr: Tensor, mask: Tensor | None = None) -> Tensor:
    """Compute the high-frequency error norm ``|LoG(sr) - LoG(hr)| / |LoG(hr)|`` with Euclidean norms.

    It is 0 for equal images and 1 if sr is flat. The kernel has 15 voxels along every axis and sigma 1.5; the border is
    repeated. The unit of intensity and an offset do not matter if both images share them. Some papers leave out the
    division.

    Args:
        sr: (B, C, *spatial), the image to judge.
        hr: (B, C, *spatial), the reference.
        mask: (B or 1, C or 1, *spatial), the voxels over which the norms are taken; default all. The kernels of its
            outer voxels also use voxels outside it.

    Returns:
        (B,), no unit.

    Raises:
        InputError: the shapes differ, the mask is empty, the reference is flat in it, or a voxel is not finite.

    Reference:
        Ravishankar, Bresler: MR image reconstruction from highly undersampled k-space data by dictionary learning.
        doi:10.1109/TMI.2010.2090538
    """
    sr, hr = checked_pair(sr, hr)
    refuse_flat(hr)
    inside = counted(mask, hr)
    squares = []
    for image in (sr - hr, hr):
        detail = torch.where(inside, laplacian_of_gaussian(image).square_(), 0)
        squares.append(detail.flatten(1).sum(dim=1, dtype=torch.float64))
    # If the reference is flat around the mask, rounding errors remain, which are not detail.
    rounding = torch.finfo(hr.dtype).eps * hr.flatten(1).abs().amax(dim=1)
    count = inside.flatten(1).sum(dim=1)
    refuse_where(squares[1] <= rounding.double().square() * count, "hr: image", "is flat in the mask")
    return (squares[0] / squares[1]).sqrt().to(hr.dtype)


def _laplacian(image: Tensor) -> Tensor:
    """Apply the stencil of the nearest neighbours where it fits: their sum minus their number times the voxel."""
    inner = tuple(slice(1, -1) for _ in range(image.ndim - 2))
    total = cropped(image, 1) * (-2.0 * (image.ndim - 2))
    for axis in range(image.ndim - 2):
        for side in (slice(None, -2), slice(2, None)):
            total.add_(image[(..., *inner[:axis], side, *inner[axis + 1 :])])
    return total


def edge_preservation(sr: Tensor, hr: Tensor, mask: Tensor | None = None) -> Tensor:
    """Compute the edge preservation index (EPI) ``corr(L sr, L hr)``: Pearson's correlation of the Laplacians.

    This is Sattar's definition; other indices with this name are ratios of gradient sums. L is the stencil of the four
    nearest neighbours (six in 3D). Voxels at the image's border do not count, because the stencil does not fit there.
    Unit, offset and contrast of either image do not matter: an image with half the contrast everywhere has a perfect
    score. Noise lowers the index strongly, because L passes its high frequencies.

    Args:
        sr: (B, C, *spatial), the image to judge.
        hr: (B, C, *spatial), the reference.
        mask: (B or 1, C or 1, *spatial), the voxels that count; default all. The stencil also uses the voxels next to
            it.

    Returns:
        (B,), -1 to 1; equal images have 1. Channels count together.

    Raises:
        InputError: the shapes differ, an axis is below three voxels, the mask has no voxel inside the border, the
            Laplacian of an image is flat there, or a voxel is not finite.

    Reference:
        Sattar, Floreby, Salomonsson, Lövström: Image enhancement based on a nonlinear multiscale method.
        doi:10.1109/83.585239
    """
    sr, hr = checked_pair(sr, hr)
    check_sides(hr, 3, "a Laplacian")
    refuse_flat(hr)
    refuse_flat(sr, "sr")
    inside = counted(mask, hr, 1, " except for voxels at the image's border").flatten(1)
    count = inside.sum(dim=1)
    details = []
    for name, image in (("sr", sr), ("hr", hr)):
        detail = torch.where(inside, _laplacian(image).flatten(1), 0)
        mean = detail.sum(dim=1) / count
        detail = torch.where(inside, detail - mean[:, None], 0)
        norm = detail.norm(dim=1, keepdim=True)
        rounding = torch.finfo(hr.dtype).eps * image.flatten(1).abs().amax(dim=1) * count.sqrt()
        refuse_where(norm[:, 0] <= rounding, f"{name}: image", "has no edge to compare in the mask")
        details.append(detail / norm)
    return (details[0] * details[1]).sum(dim=1).clamp(-1, 1)
