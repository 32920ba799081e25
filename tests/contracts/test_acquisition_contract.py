"""One contract over every kind of acquisition: linear, with an adjoint, an exact pseudo-inverse and a projection."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from medsr_monai.acquisition import (
    SeparableAcquisition,
    box_matrix,
    gaussian_matrix,
    kspace_matrix,
    profile_matrix,
)

BATCH, CHANNELS = 3, 2
TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5}


def acquisition(hr_shape: tuple[int, ...], lr_shape: tuple[int, ...], *args, **kwargs) -> SeparableAcquisition:
    return SeparableAcquisition.from_profile(hr_shape, lr_shape, *args, **kwargs)


def one_per_image(*profiles: str, n_hr: int, n_lr: int) -> np.ndarray:
    """One matrix for every image of the batch, (B, n_lr, n_hr)."""
    return np.stack([profile_matrix(profile, n_hr, n_lr) for profile in profiles])


BOXES_OF_THREE_WIDTHS = np.stack([box_matrix(8, 4, width) for width in (1.2, 2.0, 2.7)])

OPERATORS: dict[str, Callable[[], SeparableAcquisition]] = {
    "box-2d": lambda: acquisition((8, 6), (4, 3)),
    "box-integer": lambda: acquisition((8, 6, 4), (4, 2, 2)),
    "box-non-integer": lambda: acquisition((7, 9, 5), (3, 4, 4)),
    "box-through-plane": lambda: acquisition((4, 5, 8), (4, 5, 2)),
    "box-gap": lambda: acquisition((12, 8, 5), (4, 2, 5), spacing_mm=(0.5, 1.0, 1.0), gap_mm=(0.4, 1.5, 0.0)),
    "box-overlap": lambda: acquisition((8, 9), (4, 3), fwhm_mm=(2.6, 3.9)),
    "gaussian": lambda: acquisition((8, 9, 6), (4, 3, 4), "gaussian"),
    "gaussian-mm": lambda: acquisition(
        (8, 9, 10), (4, 3, 5), "gaussian", spacing_mm=(0.7, 0.5, 1.2), fwhm_mm=(1.4, 2.0, 2.5)
    ),
    "gaussian-gap": lambda: acquisition((8, 12), (8, 3), "gaussian", spacing_mm=(1.0, 1.5), gap_mm=2.0),
    "gaussian-wide": lambda: acquisition((8, 9), (4, 3), "gaussian", fwhm_mm=(3.0, 4.5)),
    "gaussian-point-samples": lambda: acquisition((8, 9), (4, 3), "gaussian", fwhm_mm=0.0),
    "kspace-even": lambda: acquisition((8, 12), (4, 6), "kspace"),
    "kspace-odd": lambda: acquisition((9, 10, 6), (3, 5, 1), "kspace"),
    "kspace-non-integer": lambda: acquisition((7, 10, 9), (4, 7, 5), "kspace"),
    "mixed-profiles": lambda: acquisition(
        (8, 9, 6), (4, 4, 3), ("kspace", "gaussian", "box"), fwhm_mm=(None, 2.0, None)
    ),
    "identity": lambda: acquisition((5, 4, 3), (5, 4, 3)),
    "sides-of-1": lambda: acquisition((1, 8, 1), (1, 4, 1)),
    "to-one-voxel": lambda: acquisition((6, 5, 4), (1, 1, 1), ("box", "gaussian", "kspace")),
    "batched-widths": lambda: SeparableAcquisition([BOXES_OF_THREE_WIDTHS, box_matrix(5, 5), box_matrix(6, 4)]),
    "batched-profiles": lambda: SeparableAcquisition(
        [
            one_per_image("box", "gaussian", "kspace", n_hr=8, n_lr=4),
            one_per_image("kspace", "box", "gaussian", n_hr=7, n_lr=3),
        ]
    ),
}


@pytest.fixture(params=OPERATORS)
def operator(request) -> SeparableAcquisition:
    return OPERATORS[request.param]()


@pytest.fixture(params=TOLERANCE, ids=["float64", "float32"])
def dtype(request) -> torch.dtype:
    return request.param


def draw(shape: tuple[int, ...], dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(BATCH, CHANNELS, *shape, generator=generator, dtype=torch.float64).to(dtype)


def assert_same(actual: Tensor, expected: Tensor, tolerance: float) -> None:
    """The largest difference, relative to the largest value."""
    assert actual.shape == expected.shape
    error = (actual - expected).abs().max() / expected.abs().max().clamp_min(1e-30)
    assert error <= tolerance, f"largest relative error {error:.2e}, allowed {tolerance:.0e}"


def dense(operator: SeparableAcquisition, i: int) -> np.ndarray:
    """The whole operator of image ``i`` as one matrix."""
    matrix = np.ones((1, 1))
    for factor in operator.matrices:
        matrix = np.kron(matrix, (factor[i] if factor.ndim == 3 else factor).numpy())
    return matrix


def apply_dense(matrices: list[np.ndarray], image: Tensor) -> Tensor:
    """One matrix per image of the batch on its flattened channels."""
    rows = [channels.numpy() @ matrix.T for channels, matrix in zip(image.flatten(2), matrices, strict=True)]
    return torch.as_tensor(np.stack(rows))


def norm_each(image: Tensor) -> Tensor:
    return torch.linalg.vector_norm(image.flatten(1), dim=1)


# ---- a linear operator and its adjoint


def test_forward_and_adjoint_have_the_shapes_they_promise(operator, dtype):
    lr = operator.forward(draw(operator.hr_shape, dtype))
    assert lr.shape == (BATCH, CHANNELS, *operator.lr_shape) and lr.dtype == dtype
    hr = operator.adjoint(lr)
    assert hr.shape == (BATCH, CHANNELS, *operator.hr_shape) and hr.dtype == dtype


def test_forward_is_linear(operator, dtype):
    x, y = draw(operator.hr_shape, dtype, 1), draw(operator.hr_shape, dtype, 2)
    assert_same(operator(2.5 * x - 3 * y), 2.5 * operator(x) - 3 * operator(y), TOLERANCE[dtype])


def test_adjoint_satisfies_the_inner_product_identity(operator, dtype):
    for seed in range(3):
        x, y = draw(operator.hr_shape, dtype, seed), draw(operator.lr_shape, dtype, seed + 10)
        left, right = operator(x) * y, x * operator.adjoint(y)
        scale = norm_each(operator(x)) * norm_each(y)
        difference = (left.flatten(1).sum(1) - right.flatten(1).sum(1)).abs() / scale
        assert difference.max() <= min(1e-5, 10 * TOLERANCE[dtype])


def test_images_of_a_batch_and_channels_do_not_mix(operator):
    x = draw(operator.hr_shape)
    x[1, 0] = 0
    lr = operator(x)
    assert lr[1, 0].abs().max() == 0 and lr[0].abs().max() > 0 and lr[1, 1].abs().max() > 0


def test_forward_equals_the_kronecker_product_of_its_matrices(operator):
    x = draw(operator.hr_shape)
    expected = apply_dense([dense(operator, i) for i in range(BATCH)], x)
    assert_same(operator(x).flatten(2), expected, 1e-12)


def test_constants_are_preserved(operator, dtype):
    for matrix in operator.matrices:
        assert (matrix.sum(-1) - 1).abs().max() <= 1e-12
    constant = torch.full((BATCH, CHANNELS, *operator.hr_shape), -1.75, dtype=dtype)
    assert_same(
        operator(constant), torch.full((BATCH, CHANNELS, *operator.lr_shape), -1.75, dtype=dtype), TOLERANCE[dtype]
    )


def test_both_ends_of_an_axis_are_treated_alike(operator):
    """A flipped image gives the flipped measurement: the grids share their centre, with no half-voxel shift."""
    axes = tuple(range(2, 2 + len(operator.hr_shape)))
    x = draw(operator.hr_shape)
    assert_same(operator(x.flip(axes)), operator(x).flip(axes), 1e-12)


# ---- the pseudo-inverse


def test_pseudo_inverse_is_moore_penrose(operator, dtype):
    tolerance = 20 * TOLERANCE[dtype]
    x, x2 = draw(operator.hr_shape, dtype, 1), draw(operator.hr_shape, dtype, 2)
    y, y2 = draw(operator.lr_shape, dtype, 3), draw(operator.lr_shape, dtype, 4)
    pinv = operator.pseudo_inverse
    assert_same(operator(pinv(operator(x))), operator(x), tolerance)
    assert_same(pinv(operator(pinv(y))), pinv(y), tolerance)
    for map_, a, b in ((lambda v: operator(pinv(v)), y, y2), (lambda v: pinv(operator(v)), x, x2)):
        left, right = (map_(a) * b).flatten(1).sum(1), (a * map_(b)).flatten(1).sum(1)
        assert ((left - right).abs() / (norm_each(a) * norm_each(b))).max() <= tolerance


def test_pseudo_inverse_equals_that_of_the_dense_matrix(operator):
    y = draw(operator.lr_shape)
    expected = apply_dense([np.linalg.pinv(dense(operator, i)) for i in range(BATCH)], y)
    assert_same(operator.pseudo_inverse(y).flatten(2), expected, 1e-9)


def test_damped_inverse_equals_its_closed_form(operator):
    y, damping = draw(operator.lr_shape), 0.07
    inverses = []
    for matrix in (dense(operator, i) for i in range(BATCH)):
        gram = matrix @ matrix.T
        inverses.append(matrix.T @ np.linalg.inv(gram + damping * np.linalg.eigvalsh(gram).max() * np.eye(len(gram))))
    assert_same(operator.pseudo_inverse(y, damping).flatten(2), apply_dense(inverses, y), 1e-9)


# ---- the projection


def test_projection_is_exact(operator, dtype):
    """For any measurement, consistent with some image or drawn at random: the largest error counts."""
    sr = draw(operator.hr_shape, dtype, 1)
    for lr in (draw(operator.lr_shape, dtype, 2), operator(draw(operator.hr_shape, dtype, 3)), 100 + operator(sr)):
        assert_same(operator(operator.project(sr, lr)), lr, TOLERANCE[dtype])


def test_projection_is_idempotent(operator, dtype):
    sr, lr = draw(operator.hr_shape, dtype, 1), draw(operator.lr_shape, dtype, 2)
    once = operator.project(sr, lr)
    assert_same(operator.project(once, lr), once, 10 * TOLERANCE[dtype])


def test_projection_leaves_a_consistent_image_where_it_is(operator, dtype):
    sr = draw(operator.hr_shape, dtype, 1)
    assert_same(operator.project(sr, operator(sr)), sr, TOLERANCE[dtype])


def test_projection_moves_the_least_distance(operator):
    sr, lr = draw(operator.hr_shape, seed=1), draw(operator.lr_shape, seed=2)
    projected = operator.project(sr, lr)
    moved = projected - sr
    for seed in range(3, 6):
        z = draw(operator.hr_shape, seed=seed)
        unseen = z - operator.pseudo_inverse(operator(z))  # in the null space: A cannot see it
        assert operator(unseen).abs().max() <= 1e-9
        angle = (moved * unseen).flatten(1).sum(1).abs() / (norm_each(moved) * norm_each(z))
        assert angle.max() <= 1e-9
        assert (operator(projected + unseen) - lr).abs().max() <= 1e-8
        assert (norm_each(moved + unseen) >= norm_each(moved) * (1 - 1e-12)).all()
        if operator.hr_shape != operator.lr_shape:
            assert (norm_each(moved + unseen) > norm_each(moved)).all()


@pytest.mark.parametrize("damping", [0.0, 0.05, 3.0])
def test_projection_is_non_expansive(operator, damping):
    lr = draw(operator.lr_shape, seed=1)
    a, b = draw(operator.hr_shape, seed=2), draw(operator.hr_shape, seed=3)
    apart = norm_each(operator.project(a, lr, damping) - operator.project(b, lr, damping))
    assert (apart <= norm_each(a - b) * (1 + 1e-12)).all()


def test_damping_goes_monotonically_from_exact_to_none(operator):
    sr, lr = draw(operator.hr_shape, seed=1), draw(operator.lr_shape, seed=2)
    dampings = [0.0, 1e-12, 1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0, 1e12]
    images = [operator.project(sr, lr, damping) for damping in dampings]
    misfits = torch.stack([norm_each(operator(image) - lr) for image in images])
    moves = torch.stack([norm_each(image - sr) for image in images])
    assert (misfits[2:-1].diff(dim=0) > 0).all() and (moves[2:-1].diff(dim=0) < 0).all()
    assert_same(images[1], images[0], 1e-5)
    assert_same(images[-1], sr, 1e-9)
    untouched = norm_each(operator(sr) - lr)
    assert (misfits[0] <= 1e-9 * untouched).all() and (misfits[-1] <= untouched).all()


def test_damping_may_differ_from_image_to_image(operator):
    sr, lr = draw(operator.hr_shape, seed=1), draw(operator.lr_shape, seed=2)
    dampings = [0.0, 0.02, 1.5]
    together = operator.project(sr, lr, torch.tensor(dampings, dtype=torch.float64))
    for i, damping in enumerate(dampings):
        assert_same(together[i], operator.project(sr, lr, damping)[i], 1e-10)


# ---- differentiable, and on any device


@pytest.mark.parametrize("damping", [0.0, 0.1], ids=["exact", "damped"])
@pytest.mark.parametrize("name", ["box-non-integer", "gaussian", "kspace", "batched", "3d"])
def test_gradients_are_those_of_finite_differences(name, damping):
    matrices = {
        "box-non-integer": [box_matrix(3, 2), box_matrix(2, 1)],
        "gaussian": [gaussian_matrix(4, 2, 1.7), gaussian_matrix(3, 2, 1.1)],
        "kspace": [kspace_matrix(4, 2), kspace_matrix(3, 1)],
        "batched": [one_per_image("box", "kspace", n_hr=4, n_lr=2), box_matrix(2, 1)],
        "3d": [box_matrix(2, 1), gaussian_matrix(2, 1, 1.0), box_matrix(2, 2)],
    }
    operator = SeparableAcquisition(matrices[name])
    generator = torch.Generator().manual_seed(0)
    sr, lr = (
        torch.randn(2, 1, *shape, dtype=torch.float64, generator=generator, requires_grad=True)
        for shape in (operator.hr_shape, operator.lr_shape)
    )
    assert torch.autograd.gradcheck(operator.forward, (sr,))
    assert torch.autograd.gradcheck(operator.adjoint, (lr,))
    assert torch.autograd.gradcheck(lambda a, b: operator.project(a, b, damping), (sr, lr))


def test_gradient_of_the_projection_is_blind_to_what_was_measured(operator):
    """The projected output changes only in the null space, so that is where all its gradient lies."""
    sr = draw(operator.hr_shape, seed=1).requires_grad_()
    operator.project(sr, draw(operator.lr_shape, seed=2)).mul(draw(operator.hr_shape, seed=3)).sum().backward()
    assert operator(sr.grad).abs().max() <= 1e-8


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_gives_what_the_cpu_gives(dtype):
    for operator in (make() for make in OPERATORS.values()):
        sr, lr = draw(operator.hr_shape, dtype, 1), draw(operator.lr_shape, dtype, 2)
        projected = operator.project(sr.cuda(), lr.cuda())
        assert projected.is_cuda
        assert_same(projected.cpu(), operator.project(sr, lr), 20 * TOLERANCE[dtype])
        assert_same(operator.adjoint(lr.cuda()).cpu(), operator.adjoint(lr), TOLERANCE[dtype])
        assert_same(operator(projected).cpu(), lr, TOLERANCE[dtype])


# ---- against independent implementations


@pytest.mark.parametrize("profile", ["box", "gaussian", "kspace"])
@pytest.mark.parametrize("n", [1, 2, 5, 8])
def test_neutral_parameters_give_the_identity(profile, n):
    assert np.abs(profile_matrix(profile, n, n) - np.eye(n)).max() <= 1e-12
    operator = acquisition((n, 3), (n, 3), profile)
    x = draw((n, 3))
    for image in (operator(x), operator.adjoint(x), operator.pseudo_inverse(x), operator.project(x * 0, x)):
        assert_same(image, x, 1e-12)


def truncate_by_fft(signal: np.ndarray, n_lr: int) -> np.ndarray:
    """Crop the spectrum, and shift the sampling points to the centres of the larger voxels."""
    n_hr = len(signal)
    spectrum = np.fft.fft(signal)
    shift = 0.5 * n_hr / n_lr - 0.5  # where the first large voxel is centred, in small voxels
    cropped = np.zeros(n_lr, dtype=complex)
    for k in range(-(n_lr // 2), n_lr // 2 + 1):
        weight = 0.5 if 2 * abs(k) == n_lr else 1.0
        cropped[k % n_lr] += weight * spectrum[k % n_hr] * np.exp(2j * np.pi * k * shift / n_hr)
    measured = np.fft.ifft(cropped) * n_lr / n_hr
    assert np.abs(measured.imag).max() <= 1e-12
    return measured.real


@pytest.mark.parametrize(
    "n_hr, n_lr", [(8, 4), (12, 3), (9, 3), (9, 6), (10, 7), (7, 4), (7, 6), (8, 7), (6, 1), (6, 2), (32, 8)]
)
def test_kspace_truncation_equals_fft_cropping(n_hr, n_lr, rng):
    signal = rng.standard_normal(n_hr)
    assert np.abs(kspace_matrix(n_hr, n_lr) @ signal - truncate_by_fft(signal, n_lr)).max() <= 1e-12


@pytest.mark.parametrize("n_hr, n_lr", [(12, 4), (12, 5), (9, 6)])
def test_kspace_truncation_samples_low_frequencies_at_voxel_centres(n_hr, n_lr):
    """A wave below the cut-off is measured exactly where the low-resolution voxels are centred."""
    wave = lambda position: np.cos(2 * np.pi * (position + 0.5) / n_hr - 0.3)  # noqa: E731
    centres = (np.arange(n_lr) + 0.5) * n_hr / n_lr - 0.5
    assert np.abs(kspace_matrix(n_hr, n_lr) @ wave(np.arange(n_hr)) - wave(centres)).max() <= 1e-12
    above = np.cos(2 * np.pi * (n_lr // 2 + 1) * np.arange(n_hr) / n_hr)
    assert np.abs(kspace_matrix(n_hr, n_lr) @ above).max() <= 1e-12


@pytest.mark.parametrize("factor", [(2, 2, 2), (1, 1, 4), (3, 1, 2), (8, 1, 1)], ids=str)
def test_box_of_integer_factor_is_average_pooling(factor):
    lr_shape = (3, 2, 4)
    operator = acquisition(tuple(n * f for n, f in zip(lr_shape, factor, strict=True)), lr_shape)
    x, y = draw(operator.hr_shape, seed=1), draw(lr_shape, seed=2)
    assert_same(operator(x), functional.avg_pool3d(x, factor), 1e-12)
    repeated = y
    for axis, f in enumerate(factor):
        repeated = repeated.repeat_interleave(f, dim=axis + 2)
    assert_same(operator.pseudo_inverse(y), repeated, 1e-12)


@pytest.mark.parametrize("n_hr, n_lr, width", [(12, 4, 3.0), (7, 3, 7 / 3), (10, 4, 1.3), (9, 4, 4.0), (8, 4, 0.5)])
def test_box_equals_numerical_integration(n_hr, n_lr, width):
    """A piecewise constant signal, averaged over a slab that ends with the field of view."""
    samples = 200_000
    position = (np.arange(samples) + 0.5) / samples * n_hr - 0.5
    voxel = np.rint(position).astype(int)
    matrix = box_matrix(n_hr, n_lr, width)
    for row in range(n_lr):
        centre = (row + 0.5) * n_hr / n_lr - 0.5
        inside = np.abs(position - centre) <= width / 2
        expected = np.bincount(voxel[inside], minlength=n_hr) / inside.sum()
        assert np.abs(matrix[row] - expected).max() <= 5e-4


@pytest.mark.parametrize("spacing_mm, fwhm_mm", [(1.0, 2.0), (0.5, 2.0), (1.4, 1.0), (0.7, 5.0)])
@pytest.mark.parametrize("n_hr, n_lr", [(12, 4), (10, 4), (7, 3)])
def test_gaussian_equals_numerical_integration_in_mm(n_hr, n_lr, spacing_mm, fwhm_mm):
    per_voxel = 2000
    position_mm = ((np.arange(n_hr * per_voxel) + 0.5) / per_voxel - 0.5) * spacing_mm
    matrix = acquisition(
        (n_hr, 3), (n_lr, 3), "gaussian", spacing_mm=(spacing_mm, 9.0), fwhm_mm=(fwhm_mm, 4.0)
    ).matrices[0]
    for row in range(n_lr):
        centre_mm = ((row + 0.5) * n_hr / n_lr - 0.5) * spacing_mm
        profile = 0.5 ** ((2 * (position_mm - centre_mm) / fwhm_mm) ** 2)  # one half at half the FWHM, by definition
        weights = profile.reshape(n_hr, per_voxel).sum(1)
        assert np.abs(matrix[row].numpy() - weights / weights.sum()).max() <= 1e-6
