"""The measures of an evaluation by name, with unit, direction and definition, and the same conventions for all.

Both images are divided by P99.5, the 99.5th percentile of the reference's nonzero voxels (`foreground_percentile`).
Nothing is clipped, and the data range is 1. Voxels count where a mask is true; the default is `foreground_mask`:
brighter than 0.05, dilated twice, without voxels that are exactly zero. The functions that compute the measures define
borders and windows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor

from medsr_monai.metrics.consistency import Acquisition, intensity_bias, measurement_residual
from medsr_monai.metrics.edges import gradient_distribution_distance, gradient_magnitude_distance
from medsr_monai.metrics.fidelity import SSIM_WINDOW, mse, psnr, ssim
from medsr_monai.metrics.foreground import foreground_mask, foreground_percentile
from medsr_monai.metrics.haarpsi import haarpsi
from medsr_monai.metrics.laplacian import edge_preservation, hfen
from medsr_monai.metrics.multiscale import SCALE_WEIGHTS, ms_ssim
from medsr_monai.metrics.niqe import NIQEModel
from medsr_monai.metrics.pairs import checked_pair, counted, refuse_flat
from medsr_monai.metrics.perceptual import Features, perceptual_distance
from medsr_monai.metrics.spectrum import power_spectrum, spectrum_middles
from medsr_monai.metrics.vif import vif
from medsr_monai.system.errors import InputError

Better = Literal["higher", "lower", "zero"]
BANDS = 16
MOST_SCALES = len(SCALE_WEIGHTS)


class Reference:
    """A reference in units of P99.5, and the values that several measures share.

    Args:
        hr: (1, C, *spatial), in any unit.
        mask: (1, 1 or C, *spatial), the voxels that count; default is the foreground.

    Attributes:
        unit: P99.5 of ``hr``, which divides the reference and every image compared with it.
        hr: ``hr / unit``.
        mask: (1, C, *spatial) bool.

    Raises:
        InputError: the reference is flat, not finite, or not positive at that percentile; or the mask does not fit or
            is empty.
    """

    def __init__(self, hr: Tensor, mask: Tensor | None = None) -> None:
        hr, _ = checked_pair(hr, hr)
        if len(hr) != 1:
            raise InputError(f"hr: {len(hr)} images in shape {tuple(hr.shape)}, but need one")
        refuse_flat(hr)
        self.unit = float(foreground_percentile(hr))
        self.hr = hr / self.unit
        self.mask = counted(foreground_mask(self.hr) if mask is None else mask.to(hr.device), hr)

    @cached_property
    def power_db(self) -> Tensor:
        """Power in each frequency band of the box around the mask, (BANDS,) float64, in dB of P99.5 squared."""
        return 10 * torch.log10(power_spectrum(self.hr, self.mask, BANDS)[0])


@dataclass(eq=False)
class Pair:
    """An image to judge, and its reference.

    Args:
        sr: (1, C, *spatial), in the unit in which the reference was given.
        reference: the reference of ``sr``.
        lr: the measurement from which ``sr`` was made, in the same unit, for measures of consistency.
        acquisition: the operator that made ``lr``.

    Raises:
        InputError: the shapes differ, or a voxel is not finite.
    """

    sr: Tensor
    reference: Reference
    lr: Tensor | None = None
    acquisition: Acquisition | None = None
    mask: Tensor = field(init=False)
    hr: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.hr, self.mask = self.reference.hr, self.reference.mask
        self.sr = checked_pair(self.sr / self.reference.unit, self.hr)[0]

    @cached_property
    def log_power_ratio(self) -> Tensor:
        """``10 log10(P_sr / P_hr)`` in each frequency band of the box around the mask, (BANDS,) in dB."""
        if self.reference.power_db.isneginf().any():
            raise InputError("hr: has no power in a frequency band")
        return self.power_db - self.reference.power_db

    @cached_property
    def power_db(self) -> Tensor:
        """Power in each frequency band of the box around the mask, (BANDS,) float64, in dB of P99.5 squared."""
        return 10 * torch.log10(power_spectrum(self.sr, self.mask, BANDS)[0])

    @cached_property
    def residual(self) -> tuple[float, float]:
        """Largest and root mean square ``|A(sr) - lr|``, in units of P99.5."""
        if self.lr is None or self.acquisition is None:
            raise InputError("consistency: needs the measurement and its acquisition, lr and acquisition")
        largest, rms = measurement_residual(self.sr, self.lr / self.reference.unit, self.acquisition)
        return float(largest), float(rms)


@dataclass(frozen=True)
class Measure:
    """A column of a table.

    Args:
        name: name in tables and files.
        label: name for people.
        unit: empty if there is none.
        better: which figure is closer to the reference: a higher one, a lower one, or one closer to zero.
        definition: one line.
    """

    name: str
    label: str
    unit: str
    better: Better
    definition: str

    @property
    def heading(self) -> str:
        """Label and unit, as an axis needs them."""
        return f"{self.label} ({self.unit})" if self.unit else self.label

    def described(self) -> dict[str, Any]:
        """The column without what computes it."""
        return {part.name: getattr(self, part.name) for part in fields(Measure)}


@dataclass(frozen=True)
class ImageMeasure(Measure):
    """One figure that compares an image with its reference.

    Args:
        function: computes the figure.
    """

    function: Callable[[Pair], float] = field(repr=False, compare=False)


def score(pair: Pair, measures: Mapping[str, ImageMeasure]) -> tuple[dict[str, float | None], dict[str, str]]:
    """Compute all figures of one image; a figure that is undefined or infinite is None, with the reason.

    Args:
        pair: the image and its reference.
        measures: the measures by name.

    Returns:
        Figures by name, and reasons by name.
    """
    figures: dict[str, float | None] = {}
    reasons = {}
    for name, measure in measures.items():
        try:
            value = measure.function(pair)
        except InputError as error:
            figures[name], reasons[name] = None, str(error)
            continue
        figures[name] = value if math.isfinite(value) else None
        if not math.isfinite(value):
            reasons[name] = "infinite: nothing differs" if value > 0 else "not a number"
    return figures, reasons


def fitting_scales(shape: Sequence[int]) -> int:
    """The number of scales (0 to 5) on which MS-SSIM is defined for an image of this shape."""
    shortest = min(shape)
    return sum(shortest >= (SSIM_WINDOW - 1) * 2**scale + 1 for scale in range(MOST_SCALES))


def _compared(measure: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Callable[[Pair], float]:
    return lambda p: float(measure(p.sr, p.hr, p.mask))


def _third(number: int) -> Callable[[Pair], float]:
    # A band that overlaps two thirds counts in each with the overlapping part.
    edges = torch.arange(BANDS + 1, dtype=torch.float64)
    low, high = BANDS * number / 3, BANDS * (number + 1) / 3
    weights = edges.clamp(low, high).diff() / (high - low)
    return lambda p: float((p.log_power_ratio * weights.to(p.log_power_ratio.device)).sum())


def catalogue(
    scales: int = MOST_SCALES,
    consistency: bool = True,
    features: Features | None = None,
    niqe_model: NIQEModel | None = None,
) -> dict[str, ImageMeasure]:
    """List the measures of an evaluation.

    Args:
        scales: of MS-SSIM, see `fitting_scales`; 0 if none fits.
        consistency: whether there is a measurement to compare with.
        features: a feature network for the perceptual distance; None leaves this measure out.
        niqe_model: fitted on pristine images; None leaves NIQE out.

    Returns:
        The measures by name.
    """

    def multiscale(p: Pair) -> float:
        if scales < 2:
            raise InputError("an image has an axis below 21 voxels: too short for two scales of MS-SSIM")
        return float(ms_ssim(p.sr, p.hr, p.mask, scales=scales))

    coarse = f"SSIM's contrast and structure on {scales} scales, luminance on the coarsest; compare equal scales only"
    measures = [*FIDELITY, ImageMeasure("ms_ssim", "MS-SSIM", "", "higher", coarse, multiscale), *STRUCTURE, *SPECTRUM]
    measures += [*(CONSISTENCY if consistency else ()), BIAS]
    if features is not None:
        compared = _compared(lambda sr, hr, mask: perceptual_distance(sr, hr, features, mask))
        measures.append(ImageMeasure("perceptual_distance", "perceptual distance", "", "lower", PERCEPTUAL, compared))
    if niqe_model is not None:
        pristine = f"{niqe_model.n_patches} pristine patches of {niqe_model.patch} voxels"
        definition = f"distance of scene statistics from those of {pristine}; needs no reference"
        measures.append(ImageMeasure("niqe", "NIQE", "", "lower", definition, lambda p: float(niqe_model.score(p.sr))))
    return {measure.name: measure for measure in measures}


FIDELITY = (
    ImageMeasure("mse", "MSE", "P99.5²", "lower", "mean (sr - hr)^2", _compared(mse)),
    ImageMeasure("psnr", "PSNR", "dB", "higher", "10 log10(1 / MSE)", _compared(psnr)),
    ImageMeasure(
        *("ssim", "SSIM", "", "higher"),
        "mean of SSIM's map where the Gaussian window (11 voxels along every axis, sigma 1.5) fits",
        _compared(ssim),
    ),
)
STRUCTURE = (
    ImageMeasure(
        *("haarpsi", "HaarPSI", "", "higher"),
        "similarity of fine Haar wavelet coefficients, weighted by coarse ones; in 3D along each axis",
        _compared(haarpsi),
    ),
    ImageMeasure(
        *("vif", "VIF", "", "higher"),
        "share of the reference's information in sr, pixel domain, four scales; above 1 for more contrast",
        _compared(vif),
    ),
    ImageMeasure(
        *("gradient_distance", "gradients, by place", "", "lower"),
        "mean |g(sr) - g(hr)| / mean g(hr), g the gradient magnitude",
        _compared(gradient_magnitude_distance),
    ),
    ImageMeasure(
        *("gradient_distribution", "gradients, distribution", "", "lower"),
        "Wasserstein distance of the distributions of g / mean g(hr)",
        _compared(gradient_distribution_distance),
    ),
    ImageMeasure(
        *("epi", "EPI", "", "higher"),
        "edge preservation index: correlation of the Laplacians of sr and hr",
        _compared(edge_preservation),
    ),
    ImageMeasure(
        *("hfen", "HFEN", "", "lower"),
        "|LoG(sr) - LoG(hr)| / |LoG(hr)|, Laplacian of Gaussian of 15 voxels, sigma 1.5",
        _compared(hfen),
    ),
)
SPECTRUM = (
    ImageMeasure(
        *("spectrum_distance", "spectrum", "dB", "lower"),
        f"RMS over {BANDS} frequency bands of 10 log10(P_sr / P_hr), in the box around the mask",
        lambda p: float(p.log_power_ratio.square().mean().sqrt()),
    ),
    *(
        ImageMeasure(
            *(f"spectrum_{name}", f"spectrum, {name} third", "dB", "zero"),
            f"mean of 10 log10(P_sr / P_hr) over the {name} third of the frequencies; negative: power is missing",
            _third(number),
        )
        for number, name in enumerate(("low", "middle", "high"))
    ),
)
CONSISTENCY = (
    ImageMeasure(
        *("consistency_max", "max |A(SR) - LR|", "P99.5", "lower"),
        "max |A(sr) - lr| over all measured voxels",
        lambda p: p.residual[0],
    ),
    ImageMeasure(
        *("consistency_rms", "RMS |A(SR) - LR|", "P99.5", "lower"),
        "root mean square of A(sr) - lr; for a noisy measurement it should equal the noise's deviation",
        lambda p: p.residual[1],
    ),
)
BIAS = ImageMeasure("bias", "bias", "P99.5", "zero", "mean (sr - hr)", _compared(intensity_bias))
PERCEPTUAL = (
    "mean |a/|a| - b/|b||^2 of feature vectors over layers and positions; outside the mask sr is replaced by hr"
)


def band_frequencies() -> list[float]:
    """The middles of the frequency bands of `Pair.power_db`, as shares of the Nyquist frequency."""
    return [2 * float(middle) for middle in spectrum_middles(BANDS)]
