"""What the acquisition contract does not cover: construction, bad input, and the circumstances of a training run."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medsr_monai.acquisition import (
    SeparableAcquisition,
    apply_matrix,
    box_matrix,
    gaussian_matrix,
    kspace_matrix,
    profile_matrix,
)
from medsr_monai.system.errors import InputError

SIZES = st.integers(1, 40).flatmap(lambda n_hr: st.tuples(st.just(n_hr), st.integers(1, n_hr)))


@pytest.fixture
def operator() -> SeparableAcquisition:
    return SeparableAcquisition.from_profile((8, 6), (4, 3))


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


# ---- matrices of one axis


@settings(derandomize=True, deadline=None, max_examples=60)
@given(SIZES, st.sampled_from(["box", "gaussian", "kspace"]), st.floats(0.05, 3.0))
def test_matrix_of_any_size_averages_symmetrically(sizes, profile, width):
    n_hr, n_lr = sizes
    matrix = profile_matrix(profile, n_hr, n_lr, fwhm=width * n_hr / n_lr)
    assert matrix.shape == (n_lr, n_hr) and matrix.dtype == np.float64 and np.isfinite(matrix).all()
    assert np.abs(matrix.sum(1) - 1).max() <= 1e-12
    assert np.abs(matrix[::-1, ::-1] - matrix).max() <= 1e-9
    if profile != "kspace":
        assert matrix.min() >= 0


@settings(derandomize=True, deadline=None, max_examples=40)
@given(SIZES)
def test_whole_voxels_weight_all_of_the_field_of_view_alike(sizes):
    n_hr, n_lr = sizes
    assert np.abs(box_matrix(n_hr, n_lr).sum(0) - n_lr / n_hr).max() <= 1e-12


def test_gap_narrows_the_profile():
    assert np.array_equal(profile_matrix("box", 12, 4, gap=1.0), box_matrix(12, 4, width=2.0))
    assert np.array_equal(profile_matrix("gaussian", 12, 4, gap=1.0), gaussian_matrix(12, 4, fwhm=2.0))
    assert np.array_equal(profile_matrix("box", 12, 4, gap=2.0)[:, 1::3], np.eye(4))


def test_full_width_at_half_maximum_is_what_it_says():
    fine = gaussian_matrix(3001, 1, fwhm=500.0)[0]
    above_half = np.flatnonzero(fine >= fine.max() / 2)
    assert above_half[-1] - above_half[0] == pytest.approx(500, abs=2)
    assert above_half.mean() == 1500


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: box_matrix(4, 5), "5 low-resolution voxels, but need 1 to 4"),
        (lambda: gaussian_matrix(4, 0, 1.0), "0 low-resolution voxels"),
        (lambda: kspace_matrix(4, 5), "5 low-resolution voxels"),
        (lambda: box_matrix(4, 2, 0.0), "slice thickness 0.0"),
        (lambda: box_matrix(4, 2, -1.0), "slice thickness -1.0"),
        (lambda: box_matrix(4, 2, float("nan")), "slice thickness nan"),
        (lambda: gaussian_matrix(4, 2, -0.1), "FWHM -0.1"),
        (lambda: gaussian_matrix(4, 2, float("nan")), "FWHM nan"),
        (lambda: profile_matrix("box", 4, 2, gap=2.0), "slice gap 2.0.*slice spacing 2"),
        (lambda: profile_matrix("box", 4, 2, gap=-0.5), "slice gap -0.5"),
        (lambda: profile_matrix("box", 4, 0), "0 low-resolution voxels"),
        (lambda: profile_matrix("lanczos", 4, 2), "profile 'lanczos': choose one of box, gaussian, kspace"),
    ],
    ids=[
        "box-upsamples",
        "gaussian-of-nothing",
        "kspace-upsamples",
        "box-of-no-width",
        "box-of-negative-width",
        "box-of-undefined-width",
        "gaussian-of-negative-width",
        "gaussian-of-undefined-width",
        "gap-as-large-as-the-spacing",
        "negative-gap",
        "profile-of-nothing",
        "unknown-profile",
    ],
)
def test_a_matrix_that_makes_no_sense_is_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()


# ---- construction


def test_from_profile_converts_mm_to_voxels_per_axis():
    operator = SeparableAcquisition.from_profile(
        (8, 12, 9), (4, 4, 3), ("box", "gaussian", "gaussian"), (0.5, 1.5, 2.0), (1.2, None, 3.0), (0.0, 0.75, 0.0)
    )
    expected = [box_matrix(8, 4, 2.4), gaussian_matrix(12, 4, 2.5), gaussian_matrix(9, 3, 1.5)]
    for matrix, reference in zip(operator.matrices, expected, strict=True):
        assert np.abs(matrix.numpy() - reference).max() <= 1e-12
    assert operator.hr_shape == (8, 12, 9) and operator.lr_shape == (4, 4, 3)


def test_an_axis_that_keeps_its_size_is_left_as_it_is():
    operator = SeparableAcquisition.from_profile((6, 8), (6, 4), "gaussian", fwhm_mm=3.0, gap_mm=0.5)
    assert torch.equal(operator.matrices[0], torch.eye(6, dtype=torch.float64))


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"lr_shape": (4, 9)}, "^axis 1: 9 low-resolution voxels, but need 1 to 6"),
        ({"lr_shape": (0, 3)}, "^axis 0: 0 low-resolution voxels"),
        ({"lr_shape": (4, 3, 2)}, "2.*3|3.*2"),
        ({"profile": ("box", "lanczos")}, "^axis 1: profile 'lanczos'"),
        ({"profile": ("box",)}, "profile"),
        ({"fwhm_mm": (None, -1.0)}, "^axis 1: slice thickness -1.0"),
        ({"gap_mm": (0.0, 2.0)}, "^axis 1: slice gap 2.0"),
        ({"spacing_mm": (1.0, 0.0)}, "^axis 1: .*0"),
        ({"spacing_mm": (1.0, -1.0)}, "^axis 1: .*-1"),
    ],
    ids=[
        "larger-than-hr",
        "no-voxels",
        "axes-differ",
        "unknown-profile",
        "too-few-profiles",
        "negative-width",
        "gap-too-large",
        "zero-spacing",
        "negative-spacing",
    ],
)
def test_from_profile_names_the_axis_at_fault(arguments, message):
    with pytest.raises(InputError, match=message):
        SeparableAcquisition.from_profile(**{"hr_shape": (8, 6), "lr_shape": (4, 3), **arguments})


@pytest.mark.parametrize("shape", [(4,), (5, 4), (2, 2, 3, 4)], ids=["vector", "taller-than-wide", "four-dimensional"])
def test_matrices_of_another_shape_are_refused(shape):
    with pytest.raises(InputError, match="axis 1: matrix of"):
        SeparableAcquisition([np.eye(3), np.zeros(shape)])


# ---- images that do not fit


def test_apply_matrix_names_the_axis():
    with pytest.raises(InputError, match="axis 1: 5 voxels, but the operator was made for 6"):
        apply_matrix(torch.eye(6), draw(1, 1, 8, 5), axis=1)


@pytest.mark.parametrize("method, size", [("forward", (8, 6)), ("adjoint", (4, 3)), ("pseudo_inverse", (4, 3))])
def test_images_of_another_size_are_refused(operator, method, size):
    with pytest.raises(InputError, match=r"need .* 2 spatial axes"):
        getattr(operator, method)(draw(1, *size))
    with pytest.raises(InputError, match=f"axis 1: {size[1] + 1} voxels, but the operator was made for {size[1]}"):
        getattr(operator, method)(draw(1, 1, size[0], size[1] + 1))


@pytest.mark.parametrize("size", [(4, 1), (1, 1), (4, 4), (3, 4)], ids=str)
def test_a_measurement_of_another_size_is_refused_and_not_broadcast(operator, size):
    with pytest.raises(InputError):
        operator.project(draw(1, 1, 8, 6), draw(1, 1, *size))


def test_another_number_of_images_than_matrices_is_refused():
    operator = SeparableAcquisition([np.stack([box_matrix(8, 4)] * 3), box_matrix(6, 3)])
    for batch in (1, 2, 6):
        with pytest.raises(InputError, match=rf"{batch}.*3|3.*{batch}"):
            operator.forward(draw(batch, 1, 8, 6))


@pytest.mark.parametrize("dtype", [torch.int16, torch.uint8, torch.int64], ids=str)
def test_integer_images_are_refused_and_not_truncated(operator, dtype):
    with pytest.raises(InputError, match="float"):
        operator.forward(torch.full((1, 1, 8, 6), 100, dtype=dtype))


@pytest.mark.parametrize("damping", [-0.1, torch.tensor([0.1, -0.1])], ids=["one", "one-per-image"])
def test_negative_damping_is_refused(operator, damping):
    with pytest.raises(InputError, match="regularisation"):
        operator.project(draw(2, 1, 8, 6), draw(2, 1, 4, 3), damping)


# ---- ill-conditioned operators


def test_what_is_not_measured_is_not_invented():
    """A rank-deficient operator: consistent measurements are met, and an impossible one as well as can be."""
    matrix = box_matrix(8, 4)
    matrix[3] = matrix[2]
    operator = SeparableAcquisition([matrix, np.eye(3)])
    sr, lr = draw(1, 1, 8, 3).double(), draw(1, 1, 4, 3, seed=1).double()
    consistent = operator.forward(draw(1, 1, 8, 3, seed=2).double())
    assert (operator.forward(operator.project(sr, consistent)) - consistent).abs().max() <= 1e-12
    misfit = operator.forward(operator.project(sr, lr)) - lr
    assert misfit.abs().max() > 0.1
    assert operator.adjoint(misfit).abs().max() <= 1e-12


def test_a_very_wide_profile_does_not_amplify_rounding_errors():
    operator = SeparableAcquisition.from_profile((32, 32, 32), (16, 16, 16), "gaussian", fwhm_mm=8.0)
    hr = draw(1, 1, 32, 32, 32)
    lr = operator.forward(hr)
    projected = operator.project(torch.zeros_like(hr), lr)
    assert torch.isfinite(projected).all() and torch.linalg.vector_norm(projected) <= 1.01 * torch.linalg.vector_norm(
        hr
    )
    assert (operator.forward(projected) - lr).abs().max() <= 1e-5


# ---- in a training run


def test_mixed_precision_does_not_reach_the_physics(operator):
    """Under autocast the projection stays exact: it is a constraint, not a layer."""
    sr, lr = draw(1, 1, 8, 6), draw(1, 1, 4, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        projected = operator.project(sr, lr)
        measured = operator.forward(projected)
    assert projected.dtype == torch.float32
    assert (operator.forward(projected) - lr).abs().max() <= 1e-5
    assert (measured - lr).abs().max() <= 1e-5


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad], ids=["inference_mode", "no_grad"])
@pytest.mark.parametrize("built", ["inside", "outside"])
def test_an_operator_first_used_for_inference_can_train(mode, built):
    make = lambda: SeparableAcquisition([box_matrix(8, 4), torch.eye(6).double()])  # noqa: E731
    operator = make()
    sr, lr = draw(1, 1, 8, 6), draw(1, 1, 4, 6)
    with mode():
        operator = make() if built == "inside" else operator
        operator.project(sr, lr)
    for image in (sr, sr.double()):
        image.requires_grad_()
        operator.project(image, lr.to(image.dtype)).square().sum().backward()
        assert image.grad.abs().max() > 0


def test_one_operator_serves_several_types(operator):
    sr, lr = draw(1, 1, 8, 6).double(), draw(1, 1, 4, 3).double()
    exact = operator.project(sr, lr)
    assert (operator.project(sr.float(), lr.float()) - exact).abs().max() <= 1e-5
    assert torch.equal(operator.project(sr, lr), exact)
    assert operator.project(sr.bfloat16(), lr.bfloat16()).dtype == torch.bfloat16


def test_memory_layout_does_not_matter():
    operator = SeparableAcquisition.from_profile((8, 6, 4), (4, 3, 2))
    sr, lr = draw(2, 2, 8, 6, 4), draw(2, 2, 4, 3, 2)
    strided = sr.permute(0, 1, 4, 2, 3).contiguous().permute(0, 1, 3, 4, 2)
    for image in (strided, sr.to(memory_format=torch.channels_last_3d)):
        assert (operator.project(image, lr) - operator.project(sr, lr)).abs().max() <= 1e-6


def test_arguments_are_left_untouched(operator):
    sr, lr = draw(1, 1, 8, 6), draw(1, 1, 4, 3)
    operator.project(sr, lr, 0.1)
    assert torch.equal(sr, draw(1, 1, 8, 6)) and torch.equal(lr, draw(1, 1, 4, 3))


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))], ids=["copy", "pickle"])
def test_an_operator_travels_to_worker_processes(operator, duplicate):
    sr, lr = draw(1, 1, 8, 6), draw(1, 1, 4, 3)
    expected = operator.project(sr, lr)
    assert torch.equal(duplicate(operator).project(sr, lr), expected)
