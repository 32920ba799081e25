"""Iterative back-projection explains more of the measurement in every iteration, and in the end all of it."""

from __future__ import annotations

import itertools

import pytest
import torch

from medsr_monai.acquisition import SeparableAcquisition, back_project
from medsr_monai.geometry import interpolate
from medsr_monai.system.errors import InputError

CASES = {
    "box-3d": ((12, 10, 8), (6, 5, 4), {"profile": "box"}),
    "gaussian-3d": ((12, 10, 8), (6, 5, 4), {"profile": "gaussian"}),
    "kspace-2d": ((24, 20), (8, 10), {"profile": "kspace"}),
    "mixed-through-plane": ((8, 8, 20), (8, 8, 5), {"profile": "gaussian", "fwhm_mm": 5.0}),
    "not-integer": ((15, 13), (6, 6), {"profile": ["box", "gaussian"]}),
}


@pytest.fixture(params=CASES)
def measured(request, rng) -> tuple[torch.Tensor, SeparableAcquisition]:
    hr_shape, lr_shape, arguments = CASES[request.param]
    acquisition = SeparableAcquisition.from_profile(hr_shape, lr_shape, **arguments)
    return acquisition.forward(torch.from_numpy(rng.random((2, 1, *hr_shape)))), acquisition


def residual(sr: torch.Tensor, lr: torch.Tensor, acquisition: SeparableAcquisition) -> float:
    return float((lr - acquisition.forward(sr)).norm())


def test_the_residual_falls_in_every_iteration(measured):
    lr, acquisition = measured
    norms = [residual(back_project(lr, acquisition, n), lr, acquisition) for n in range(12)]
    floor = 1e-12 * norms[0]
    assert norms[0] > 0.001 and norms[1] < 0.9 * norms[0]
    assert all(later < earlier or earlier < floor for earlier, later in itertools.pairwise(norms))


def test_it_starts_from_the_interpolation(measured):
    lr, acquisition = measured
    assert torch.equal(back_project(lr, acquisition, 0), interpolate(lr, acquisition.hr_shape))
    assert torch.equal(back_project(lr, acquisition, 0, "linear"), interpolate(lr, acquisition.hr_shape, "linear"))


def test_it_converges_to_the_nearest_consistent_image(measured):
    lr, acquisition = measured
    start = interpolate(lr, acquisition.hr_shape)
    limit = back_project(lr, acquisition, 300, step=1.9)
    assert residual(limit, lr, acquisition) < 1e-8 * residual(start, lr, acquisition)
    torch.testing.assert_close(limit, acquisition.project(start, lr), atol=1e-8, rtol=0)


def test_a_box_is_done_in_one_iteration(rng):
    acquisition = SeparableAcquisition.from_profile((8, 12), (4, 3))
    lr = torch.from_numpy(rng.random((1, 2, 4, 3)))
    once = back_project(lr, acquisition, 1)
    torch.testing.assert_close(once, acquisition.project(interpolate(lr, (8, 12)), lr), atol=1e-12, rtol=0)


def test_it_beats_its_start_on_an_image_measured_with_a_wide_profile():
    places = torch.linspace(-3, 3, 48, dtype=torch.float64)
    hr = (torch.sin(4 * places)[:, None] * torch.cos(3 * places)[None]).clamp(-0.5, 0.5)[None, None]
    acquisition = SeparableAcquisition.from_profile((48, 48), (24, 24), "gaussian", fwhm_mm=2.5)
    lr = acquisition.forward(hr)
    errors = [float((back_project(lr, acquisition, n) - hr).square().mean()) for n in (0, 20)]
    assert errors[1] < 0.5 * errors[0]


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float16, 2e-3)])
def test_type_is_kept_and_the_input_left_alone(dtype, tolerance, rng):
    acquisition = SeparableAcquisition.from_profile((8, 8, 8), (4, 4, 4), "gaussian")
    lr = torch.from_numpy(rng.random((1, 1, 4, 4, 4))).to(dtype)
    copy = lr.clone()
    sr = back_project(lr, acquisition)
    assert sr.dtype == dtype and torch.equal(lr, copy)
    torch.testing.assert_close(sr.double(), back_project(lr.double(), acquisition), atol=tolerance, rtol=0)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"iterations": -1}, "iterations -1"),
        ({"iterations": 2.5}, "iterations 2.5"),
        ({"step": 0}, "step 0"),
        ({"step": 2.0}, "step 2.0"),
        ({"step": float("nan")}, "step nan"),
        ({"method": "sinc"}, "method 'sinc'"),
    ],
)
def test_arguments_out_of_range(arguments, words):
    acquisition = SeparableAcquisition.from_profile((8, 8), (4, 4))
    with pytest.raises(InputError, match=words):
        back_project(torch.rand(1, 1, 4, 4), acquisition, **arguments)


def test_a_measurement_of_another_shape_is_refused():
    acquisition = SeparableAcquisition.from_profile((8, 8), (4, 4))
    with pytest.raises(InputError, match=r"lr: \(4, 5\) voxels, but the operator gives \(4, 4\)"):
        back_project(torch.rand(1, 1, 4, 5), acquisition)
