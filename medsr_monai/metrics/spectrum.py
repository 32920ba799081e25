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
from typing import Any

import torch
from scipy.fft import next_fast_len
from torch import Tensor

from medsr_monai.metrics.foreground import ForegroundMetric
from medsr_monai.metrics.pairs import check_count, checked_pair, expanded_mask
from medsr_monai.system.errors import InputError

LOWEST, HIGHEST = 1 / 32, 0.5


def _check_bands(bands: int, lowest: float, highest: float) -> None:
    if bands < 1:
        raise InputError(f"{bands} frequency bands: must be at least 1")
    if not 0 <= lowest < highest <= 0.5:
        raise InputError(f"frequencies from {lowest:g} to {highest:g} cycles/voxel: need 0 <= lowest < highest <= 0.5")


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


def _bands_of(shape: list[int], bands: int, lowest: float, highest: float) -> Tensor:
    """The band index of each frequency of a real transform of this shape; ``bands`` if it is in no band."""
    squares = torch.zeros((), dtype=torch.float64)
    for axis, size in enumerate(shape):
        last = axis == len(shape) - 1
        frequencies = (torch.fft.rfftfreq if last else torch.fft.fftfreq)(size, dtype=torch.float64)
        squares = squares[..., None] + frequencies.square()
    radius = squares.sqrt_()
    index = ((radius - lowest) * (bands / (highest - lowest))).floor_().long()
    index[radius == highest] = bands - 1
    return torch.where((radius < lowest) | (radius > highest), bands, index)


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
    index = _bands_of(shape, bands, lowest, highest).to(power.device).flatten()
    weight = paired.to(power.device).expand(power.shape)
    total = torch.bincount(index, (power * weight).flatten(), minlength=bands + 1)
    return (total / torch.bincount(index, weight.flatten(), minlength=bands + 1))[:bands] / energy


def power_spectrum(
    image: Tensor, bands: int = 16, lowest: float = LOWEST, highest: float = HIGHEST
) -> tuple[Tensor, Tensor]:
    """Compute the radially averaged power spectrum ``mean |F(w (x - m))|^2 / sum w^2`` by frequency band.

    ``w`` is a Hann window over the whole image and ``m`` the mean weighted by it. For white noise, the power in every
    band is its variance, for any size of the image.

    Args:
        image: (B, C, *spatial), 2D or 3D; channels are averaged.
        bands: number of bands of equal width; a frequency between two bands belongs to the upper one.
        lowest: lower end of the first band, in cycles/voxel.
        highest: upper end of the last band, in cycles/voxel.

    Returns:
        The middles of the bands in cycles/voxel, (bands,), and the power in the image's unit squared, (B, bands).

    Raises:
        InputError: the bands are out of range, or a voxel is not finite.
    """
    _check_bands(bands, lowest, highest)
    image, _ = checked_pair(image, image)
    middles = lowest + (torch.arange(bands, dtype=image.dtype, device=image.device) + 0.5) * (highest - lowest) / bands
    power = torch.stack([_power_of_one(one, bands, lowest, highest) for one in image])
    return middles, power.to(image.dtype)


def _box_around(mask: Tensor) -> tuple[slice, ...]:
    """Find the smallest box that holds the true voxels of (C, *spatial)."""
    box = [slice(None)]
    for dim in range(1, mask.ndim):
        (inside,) = mask.any(dim=[d for d in range(mask.ndim) if d != dim]).nonzero(as_tuple=True)
        box.append(slice(int(inside[0]), int(inside[-1]) + 1))
    return tuple(box)


def spectrum_distance(
    sr: Tensor,
    hr: Tensor,
    mask: Tensor | None = None,
    bands: int = 16,
    lowest: float = LOWEST,
    highest: float = HIGHEST,
) -> Tensor:
    """Compute the root mean square over bands of ``10 log10(P_sr / P_hr)`` with `power_spectrum` P.

    Equal images have 0 dB. An image whose power is wrong by a factor of two in every band has 3 dB. The unit of
    intensity does not matter if both images share it. A noisy reference favours noise: see the docstring of this
    module.

    Args:
        sr: (B, C, *spatial), the image to judge.
        hr: (B, C, *spatial), the reference.
        mask: (B or 1, C or 1, *spatial); default is the whole image. The spectra are those of the smallest box around
            the mask, because a cut along the mask would add the same edges to both images and hide differences.
        bands: see `power_spectrum`.
        lowest: see `power_spectrum`.
        highest: see `power_spectrum`.

    Returns:
        (B,) in dB; infinite if ``sr`` has no power in a band.

    Raises:
        InputError: the shapes differ, the bands are out of range, the mask is empty, a voxel is not finite, or the
            reference has no power in a band.
    """
    _check_bands(bands, lowest, highest)
    sr, hr = checked_pair(sr, hr)
    boxes: list[tuple[slice, ...]] = [(slice(None),)] * len(hr)
    if mask is not None:
        mask = expanded_mask(mask, hr.shape)
        check_count(mask.flatten(1).sum(dim=1))
        boxes = [_box_around(one) for one in mask]
    distances = []
    for index, box in enumerate(boxes):
        of_sr, of_hr = (_power_of_one(image[index][box], bands, lowest, highest) for image in (sr, hr))
        if (of_hr == 0).any():
            raise InputError(f"hr: image {index} of the batch has no power in band {int((of_hr == 0).nonzero()[0])}")
        distances.append((10 * torch.log10(of_sr / of_hr)).square().mean().sqrt())
    return torch.stack(distances).to(hr.dtype)


def spectrum_middles(bands: int = 16, lowest: float = LOWEST, highest: float = HIGHEST) -> Tensor:
    """The middles of the bands in cycles/voxel, (bands,) float64."""
    return lowest + (torch.arange(bands, dtype=torch.float64) + 0.5) * (highest - lowest) / bands


def box_power(image: Tensor, mask: Tensor, bands: int = 16, lowest: float = LOWEST, highest: float = HIGHEST) -> Tensor:
    """Compute the `power_spectrum` of one image in the smallest box around a mask, as in `spectrum_distance`.

    Args:
        image: (1, C, *spatial).
        mask: (1, C, *spatial) bool, not empty.
        bands: see `power_spectrum`.
        lowest: see `power_spectrum`.
        highest: see `power_spectrum`.

    Returns:
        (bands,) float64, in the image's unit squared.
    """
    return _power_of_one(image[0][_box_around(mask[0])], bands, lowest, highest)


class SpectrumDistance(ForegroundMetric):
    """`spectrum_distance` in the box around the foreground, averaged over images, in dB; lower is closer.

    On noisy references, this distance rewards noise: see the docstring of this module.

    Args:
        bands: see `power_spectrum`.
        lowest: see `power_spectrum`.
        highest: see `power_spectrum`.
        kwargs: arguments of `ForegroundMetric`.
    """

    def __init__(self, bands: int = 16, lowest: float = LOWEST, highest: float = HIGHEST, **kwargs: Any) -> None:
        _check_bands(bands, lowest, highest)
        super().__init__(**kwargs)
        self.bands = bands
        self.lowest = lowest
        self.highest = highest

    def _measure(self, sr: Tensor, hr: Tensor, mask: Tensor) -> Tensor:
        return spectrum_distance(sr, hr, mask, self.bands, self.lowest, self.highest)
