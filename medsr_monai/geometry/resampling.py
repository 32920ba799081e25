"""Half-voxel-aligned interpolation: every method is a small matrix per axis."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from medsr_monai.geometry.wavelet import wavelet_matrix
from medsr_monai.system.errors import InputError

SPLINE_ORDER = 3
LANCZOS_LOBES = 3
# Beyond its outer voxel centres, an image continues with its border value. This avoids ringing and fading to zero.
BORDER = "nearest"


def _spline_matrix(n_in: int, n_out: int) -> np.ndarray:
    """The matrix of ``scipy.ndimage.zoom`` along one axis, (n_out, n_in) float64.

    B-spline interpolation is linear and separable. Three small matrices take a tenth of the time of summing 64
    neighbours per output voxel, and they work on any device.
    """
    unit_vectors = np.eye(n_in)
    return ndimage.zoom(unit_vectors, (n_out / n_in, 1), order=SPLINE_ORDER, mode=BORDER, grid_mode=True)


def _sampled_kernel(n_in: int, n_out: int, kernel: Callable[[np.ndarray], np.ndarray], radius: int) -> np.ndarray:
    """Sample an interpolation kernel at every pair of voxels, (n_out, n_in) float64; each row sums to 1.

    Weights outside the image are added to its border voxel.
    """
    centres = (np.arange(n_out) + 0.5) * n_in / n_out - 0.5
    neighbours = np.floor(centres).astype(int)[:, None] + np.arange(1 - radius, radius + 1)
    weights = kernel(centres[:, None] - neighbours)
    matrix = np.zeros((n_out, n_in))
    np.add.at(matrix, (np.arange(n_out)[:, None], neighbours.clip(0, n_in - 1)), weights)
    return matrix / matrix.sum(axis=1, keepdims=True)


def _triangle(distance: np.ndarray) -> np.ndarray:
    return np.maximum(0, 1 - np.abs(distance))


def _lanczos(distance: np.ndarray) -> np.ndarray:
    return np.where(np.abs(distance) < LANCZOS_LOBES, np.sinc(distance) * np.sinc(distance / LANCZOS_LOBES), 0)


def _nearest_matrix(n_in: int, n_out: int) -> np.ndarray:
    """Select the input voxel that contains the output voxel's centre, (n_out, n_in) float64."""
    holder = ((np.arange(n_out) + 0.5) * n_in / n_out).astype(int)
    return np.eye(n_in)[holder]


def _check(image: Tensor, shape: Sequence[int]) -> None:
    if not image.is_floating_point():
        raise InputError(f"image: type {image.dtype}, but interpolation needs floating-point numbers")
    if image.ndim not in (4, 5) or image.numel() == 0:
        raise InputError(f"image: shape {tuple(image.shape)}, but need (B, C) and 2 or 3 spatial axes, none empty")
    if len(shape) != image.ndim - 2:
        raise InputError(f"shape {tuple(shape)}: {len(shape)} sizes, but the image has {image.ndim - 2} spatial axes")
    for axis, size in enumerate(shape):
        if size < 1:
            raise InputError(f"axis {axis}: {size} voxels, but the result needs at least 1")
    if not torch.isfinite(image).all():
        raise InputError("image: has NaN or infinite voxels, and a spline would spread them over the whole image")


METHODS: dict[str, Callable[[int, int], np.ndarray]] = {
    "nearest": _nearest_matrix,
    "linear": lambda n_in, n_out: _sampled_kernel(n_in, n_out, _triangle, 1),
    "cubic": _spline_matrix,
    "lanczos": lambda n_in, n_out: _sampled_kernel(n_in, n_out, _lanczos, LANCZOS_LOBES),
    "wavelet": lambda n_in, n_out: wavelet_matrix(n_in, n_out, _spline_matrix),
}


@lru_cache(maxsize=48)
def _matrix(method: str, n_in: int, n_out: int) -> np.ndarray:
    return METHODS[method](n_in, n_out)


def interpolate(image: Tensor, shape: Sequence[int], method: str = "cubic") -> Tensor:
    """Interpolate between two grids that cover the same field of view.

    For any factor, output voxel ``j`` is centred at ``(j + 0.5) * n_in / n_out - 0.5`` in input voxel indices. With
    fewer voxels than before, this samples and does not average.

    Args:
        image: (B, C, *spatial), 2D or 3D, floating point.
        shape: spatial shape of the result, any integers from 1.
        method: "nearest", "linear", "cubic" (B-spline), "lanczos" (three lobes) or "wavelet" (details taken as zero).

    Returns:
        (B, C, *shape) in the type and on the device of ``image``.

    Raises:
        InputError: the method is unknown, the number of axes is wrong, a size is below 1, or a voxel is not finite;
            also for "wavelet" without the extra ``evaluate``.

    Reference:
        Unser, Aldroubi, Eden: B-spline signal processing. doi:10.1109/78.193220, doi:10.1109/78.193221; Lanczos as in
        Duchon, doi:10.1175/1520-0450(1979)018<1016:LFIOAT>2.0.CO;2
    """
    if method not in METHODS:
        raise InputError(f"method '{method}': must be one of {', '.join(METHODS)}")
    shape = tuple(int(size) for size in shape)
    _check(image, shape)
    if shape == tuple(image.shape[2:]):
        return image.clone()
    # Half precision loses small negative weights.
    result = image.to(torch.promote_types(image.dtype, torch.float32))
    for n_in, n_out in zip(image.shape[2:], shape, strict=True):
        # Each product removes the first spatial axis and appends the new one, so the final order is the original one.
        matrix = torch.as_tensor(_matrix(method, n_in, n_out), dtype=result.dtype, device=result.device)
        result = torch.tensordot(result, matrix, dims=([2], [1]))
    return result.to(image.dtype)


def cubic_bspline(image: Tensor, shape: Sequence[int]) -> Tensor:
    """:func:`interpolate` with a cubic B-spline: the reference method of this project's tables."""
    return interpolate(image, shape, "cubic")
