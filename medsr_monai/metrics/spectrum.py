"""A distance of power spectra: it compares the texture of an image with the reference's, without regard to place.

The power spectrum shows how much detail of each size there is, not where. Together with PSNR, it distinguishes a
blurred image (power is missing at high frequencies) from an invented texture (power as in the reference, but low PSNR).
Noise has power too, mostly at high frequencies, where anatomy has little. So on a noisy reference, a noisy image scores
better than a clean one, although it shows no more anatomy. Read the distance together with PSNR, never alone.

Frequencies are in cycles per voxel along every axis; the spacing in mm does not matter. 0.5 is the highest frequency of
an axis, and 0.25 the highest measured one if the axis was upscaled by two. The corners of the spectrum hold frequencies
up to ``0.5 sqrt(dimensions)``; by default they do not count.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from scipy.fft import next_fast_len
from torch import Tensor

from medsr_monai.metrics.pairs import checked_pair, counted
from medsr_monai.system.errors import InputError

LOWEST, HIGHEST = 1 / 32, 0.5


def _windowed(image: Tensor) -> tuple[Tensor, float]:
    """Subtract the weighted mean of (C, *spatial) and apply a Hann window; also return the sum of its squares.

    The window falls to zero at the borders. Otherwise opposite borders would form edges that are not in the image. The
    mean is subtracted, because its zero frequency would leak through the window into the lowest band.
    """
    window = torch.ones((), dtype=image.dtype, device=image.device)
    for size in image.shape[1:]:
        steps = (torch.arange(size, dtype=image.dtype, device=image.device) + 0.5) / size
        window = window[..., None] * torch.sin(math.pi * steps).square()
    dims = list(range(1, image.ndim))
    mean = (image * window).sum(dims, keepdim=True) / window.sum()
    return (image - mean) * window, float(window.square().sum())


def frequency_radius(
    shape: Sequence[int], real: bool = False, dtype: torch.dtype = torch.float64, device: torch.device | None = None
) -> Tensor:
    """The distance from zero, in cycles/voxel, of each frequency of a transform of this shape, complex or real."""
    squares = torch.zeros((), dtype=dtype, device=device)
    for axis, size in enumerate(shape):
        half = real and axis == len(shape) - 1
        frequencies = (torch.fft.rfftfreq if half else torch.fft.fftfreq)(size, dtype=dtype, device=device)
        squares = squares[..., None] + frequencies.square()
    return squares.sqrt_()


def _power_of_one(image: Tensor, bands: int, lowest: float, highest: float) -> Tensor:
    """Compute the mean power in each band of (C, *spatial), averaged over channels, (bands,) in float64."""
    windowed, energy = _windowed(image)
    # Zero padding samples the spectrum finely enough for every band to hold a frequency, and to a size for which the
    # transform is fast. It does not change the spectrum.
    finest = math.ceil(bands / (highest - lowest)) + 1
    shape = [next_fast_len(max(size, finest), real=True) for size in image.shape[1:]]
    power = torch.fft.rfftn(windowed, s=shape, dim=list(range(1, image.ndim))).abs().square_().mean(dim=0)
    # A real transform leaves out one of each pair of opposite frequencies along its last axis.
    paired = torch.full((power.shape[-1],), 2.0, dtype=torch.float64)
    paired[0] = 1.0
    if shape[-1] % 2 == 0:
        paired[-1] = 1.0
    radius = frequency_radius(shape, real=True)
    index = ((radius - lowest) * (bands / (highest - lowest))).floor_().long()
    index[radius == highest] = bands - 1
    index[(radius < lowest) | (radius > highest)] = bands  # in no band
    index = index.to(power.device).flatten()
    weight = paired.to(power.device).expand(power.shape)
    total = torch.bincount(index, (power * weight).flatten(), minlength=bands + 1)
    return (total / torch.bincount(index, weight.flatten(), minlength=bands + 1))[:bands] / energy


def spectrum_middles(bands: int = 16, lowest: float = LOWEST, highest: float = HIGHEST) -> Tensor:
    """The middles of the bands in cycles/voxel, (bands,) float64."""
    return lowest + (torch.arange(bands, dtype=torch.float64) + 0.5) * (highest - lowest) / bands


def power_spectrum(
    image: Tensor, mask: Tensor | None = None, bands: int = 16, lowest: float = LOWEST, highest: float = HIGHEST
) -> Tensor:
    """Compute the radially averaged power spectrum ``mean |F(w (x - m))|^2 / sum w^2`` by frequency band.

    ``w`` is a Hann window over the whole image and ``m`` the mean weighted by it. For white noise, the power in every
    band is its variance, for any size of the image.

    Args:
        image: (B, C, *spatial), 2D or 3D; channels are averaged.
        mask: (B or 1, C or 1, *spatial); default is the whole image. The spectrum is that of the smallest box around
            the mask, because a cut along the mask would add the same edges to every image and hide differences.
        bands: number of bands of equal width; a frequency between two bands belongs to the upper one.
        lowest: lower end of the first band, in cycles/voxel.
        highest: upper end of the last band, in cycles/voxel.

    Returns:
        (B, bands) float64, in the image's unit squared; `spectrum_middles` tells where the bands are.

    Raises:
        InputError: the bands are out of range, the mask is empty, or a voxel is not finite.
    """
    if bands < 1:
        raise InputError(f"{bands} frequency bands: must be at least 1")
    if not 0 <= lowest < highest <= 0.5:
        raise InputError(f"frequencies from {lowest:g} to {highest:g} cycles/voxel: need 0 <= lowest < highest <= 0.5")
    image, _ = checked_pair(image, image)
    boxes = zip(image, counted(mask, image), strict=True)
    return torch.stack([_power_of_one(one[_box_around(inside)], bands, lowest, highest) for one, inside in boxes])


def _box_around(mask: Tensor) -> tuple[slice, ...]:
    """Find the smallest box that holds the true voxels of (C, *spatial)."""
    box = [slice(None)]
    for dim in range(1, mask.ndim):
        (inside,) = mask.any(dim=[d for d in range(mask.ndim) if d != dim]).nonzero(as_tuple=True)
        box.append(slice(int(inside[0]), int(inside[-1]) + 1))
    return tuple(box)


def spectrum_distance(sr: Tensor, hr: Tensor, mask: Tensor | None = None, **bands: Any) -> Tensor:
    """Compute the root mean square over bands of ``10 log10(P_sr / P_hr)`` with `power_spectrum` P.

    Equal images have 0 dB. An image whose power is wrong by a factor of two in every band has 3 dB. The unit of
    intensity does not matter if both images share it. A noisy reference favours noise: see the docstring of this
    module.

    Args:
        sr: (B, C, *spatial), the image to judge.
        hr: (B, C, *spatial), the reference.
        mask: see `power_spectrum`.
        bands: ``bands``, ``lowest`` and ``highest`` of `power_spectrum`.

    Returns:
        (B,) in dB; infinite if ``sr`` has no power in a band.

    Raises:
        InputError: as `power_spectrum`; also, the shapes differ, or the reference has no power in a band.
    """
    sr, hr = checked_pair(sr, hr)
    ours, theirs = (power_spectrum(image, mask, **bands) for image in (sr, hr))
    for index, band in (theirs == 0).nonzero().tolist():
        raise InputError(f"hr: image {index} of the batch has no power in band {band}")
    return (10 * torch.log10(ours / theirs)).square().mean(dim=1).sqrt().to(hr.dtype)
