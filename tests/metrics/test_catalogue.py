"""Every measure of the catalogue: perfect where nothing differs, worse with more blur and noise, and named errors."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import ndimage

from medsr_monai.acquisition import SeparableAcquisition
from medsr_monai.metrics import NIQEModel, ms_ssim, psnr, spectrum_distance, ssim
from medsr_monai.metrics.catalogue import Pair, Reference, catalogue, fitting_scales, score
from medsr_monai.networks import ConvolutionalFeatures
from medsr_monai.system.errors import InputError

SIDE = 48
PERFECT = {"psnr": math.inf, "ssim": 1.0, "ms_ssim": 1.0, "haarpsi": 1.0, "vif": 1.0, "epi": 1.0}
CONTRACT = [
    *("mse", "psnr", "ssim", "ms_ssim", "haarpsi", "vif", "gradient_distance", "gradient_distribution", "epi", "hfen"),
    *("spectrum_distance", "spectrum_low", "spectrum_middle", "spectrum_high", "consistency_max", "consistency_rms"),
    *("bias", "perceptual_distance", "niqe"),
]


def anatomy() -> torch.Tensor:
    """A textured ball on zero, in units of a scanner."""
    rng = np.random.default_rng(5)
    texture = sum(ndimage.gaussian_filter(rng.standard_normal((SIDE,) * 3), s) * s**1.5 for s in (0.6, 1.5, 4))
    axis = np.linspace(-1, 1, SIDE)
    radius = np.sqrt(axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2)
    return torch.from_numpy(np.where(radius < 0.95, 500 + 150 * texture, 0)).float()[None, None]


HR = anatomy()
REFERENCE = Reference(HR)
ACQUISITION = SeparableAcquisition.from_profile((SIDE,) * 3, (SIDE // 2,) * 3, "box")
LR = ACQUISITION.forward(HR)


@pytest.fixture(scope="module")
def measures():
    model = NIQEModel.fit([HR], patch=16, slices_per_axis=16)
    return catalogue(fitting_scales(HR.shape[2:]), True, ConvolutionalFeatures(3, widths=(4, 8)), model)


def figures(measures, sr: torch.Tensor) -> dict[str, float]:
    found, reasons = score(Pair(sr, REFERENCE, LR, ACQUISITION), measures)
    assert not reasons
    return {name: float(value) for name, value in found.items() if value is not None}


def blurred(sigma: float) -> torch.Tensor:
    return torch.from_numpy(ndimage.gaussian_filter(HR[0, 0].numpy(), sigma))[None, None]


def noisy(level: float) -> torch.Tensor:
    return HR + level * torch.from_numpy(np.random.default_rng(7).standard_normal(HR.shape)).float()


def test_the_catalogue_has_the_measures_that_files_promise(measures):
    assert list(measures) == CONTRACT
    assert all(m.name == name and m.label and m.definition and "\n" not in m.definition for name, m in measures.items())
    assert list(catalogue(consistency=False)) == [name for name in CONTRACT[:-2] if "consistency" not in name]


def test_an_image_that_is_its_reference_has_the_perfect_score(measures):
    for name, measure in measures.items():
        value = measure.function(Pair(HR, REFERENCE, LR, ACQUISITION))
        if name == "niqe":  # looks at no reference; these are all patches, where the model has the sharp ones
            assert math.isfinite(value)
        else:
            assert value == pytest.approx(PERFECT.get(name, 0.0), abs=1e-5), name


@pytest.mark.parametrize("spoil", ["blur", "noise"])
def test_every_measure_falls_with_every_step_of_blur_and_of_noise(measures, spoil):
    """But for the bias, which neither moves, and NIQE, which has no reference."""
    images = [blurred(s) for s in (0.4, 0.8, 1.6)] if spoil == "blur" else [noisy(s) for s in (5, 20, 60)]
    steps = [figures(measures, image) for image in images]
    for name, measure in measures.items():
        values = [step[name] for step in steps]
        if name in ("bias", "niqe") or (name == "spectrum_low" and spoil == "noise"):
            continue  # noise has little power where anatomy has most
        if measure.better == "higher":
            assert values[0] > values[1] > values[2], name
        elif measure.better == "lower":
            assert values[0] < values[1] < values[2], name
        else:
            signs = {math.copysign(1, value) for value in values}
            assert signs == {-1.0 if spoil == "blur" else 1.0}, name
            assert abs(values[0]) < abs(values[1]) < abs(values[2]), name


def test_bias_is_the_shift_of_the_mean(measures):
    found = figures(measures, HR + 0.1 * REFERENCE.unit)
    assert found["bias"] == pytest.approx(0.1, abs=1e-5) and found["consistency_max"] == pytest.approx(0.1, abs=1e-5)


def test_the_catalogue_says_what_the_functions_say(measures):
    sr, unit = noisy(30), REFERENCE.unit
    found = figures(measures, sr)
    pair = (sr / unit, HR / unit, REFERENCE.mask)
    assert found["psnr"] == float(psnr(*pair)) and found["ssim"] == float(ssim(*pair))
    assert found["ms_ssim"] == float(ms_ssim(*pair, scales=3))
    assert found["spectrum_distance"] == pytest.approx(float(spectrum_distance(*pair)), rel=1e-6)
    ratio = Pair(sr, REFERENCE).log_power_ratio
    thirds = [found[f"spectrum_{name}"] for name in ("low", "middle", "high")]
    assert sum(thirds) / 3 == pytest.approx(float(ratio.mean()), rel=1e-6)
    assert measures["psnr"].function(Pair(sr, REFERENCE)) == found["psnr"], "a measure by itself"


def test_a_mask_of_ones_judges_voxels_that_are_no_foreground():
    everywhere = catalogue()["mse"].function(Pair(noisy(30), Reference(HR, torch.ones(1, 1, *[SIDE] * 3))))
    assert everywhere == pytest.approx((30 / REFERENCE.unit) ** 2, rel=0.02)


def test_measures_that_cannot_be_had_are_none_with_the_reason():
    small = HR[..., 14:34, 14:34, 14:34]
    found, reasons = score(Pair(small * 1.01, Reference(small)), catalogue(fitting_scales(small.shape[2:]), False))
    assert found["vif"] is None and "axis 0: 20 voxels, but VIF needs at least 41" in reasons["vif"]
    assert found["ms_ssim"] is None and "two scales" in reasons["ms_ssim"]
    assert found["psnr"] is not None and set(reasons) == {"vif", "ms_ssim"}
    same, reasons = score(Pair(small, Reference(small)), {"psnr": catalogue()["psnr"]})
    assert same == {"psnr": None} and reasons == {"psnr": "infinite: nothing differs"}


def test_as_many_scales_as_the_shortest_side_holds():
    sides = {10: 0, 11: 1, 21: 2, 40: 2, 41: 3, 81: 4, 160: 4, 161: 5, 900: 5}
    assert {side: fitting_scales((999, side, 500)) for side in sides} == sides


@pytest.mark.parametrize(
    ("hr", "mask", "said"),
    [
        (torch.ones(1, 1, 16, 16, 16), None, "flat"),
        (HR.index_fill(2, torch.tensor([3]), math.nan), None, "NaN"),
        (-HR, None, "not positive"),
        (HR, torch.zeros_like(HR), "empty"),
        (HR, torch.ones(1, 1, 5, 5, 5), "does not fit"),
    ],
    ids=["constant", "nan", "negative", "empty mask", "mask's shape"],
)
def test_a_reference_that_does_not_serve_is_named(hr, mask, said):
    with pytest.raises(InputError, match=said):
        Reference(hr, mask)


def test_an_image_that_does_not_serve_is_named():
    with pytest.raises(InputError, match="must be equal"):
        Pair(HR[..., :-1], REFERENCE)
    with pytest.raises(InputError, match=r"sr: .* NaN"):
        Pair(HR * math.nan, REFERENCE)
    with pytest.raises(InputError, match="needs the measurement"):
        Pair(HR, REFERENCE).residual  # noqa: B018
