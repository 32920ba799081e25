"""Simulated measurements: random ones can be replayed, noise is Rician, and the grid covers the same field of view."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data import MetaTensor

from medsr_monai.acquisition import (
    PROFILES,
    AcquisitionDraw,
    AcquisitionRange,
    FixedWindow,
    RobustRange,
    SeparableAcquisition,
    add_rician_noise,
    kspace_matrix,
    patch_matrix,
)
from medsr_monai.geometry import Grid, corner_error_mm
from medsr_monai.system.errors import InputError
from medsr_monai.transforms import Acquired, RandAcquired

SHAPE = (8, 6, 12)
SEEDS = st.integers(0, 2**31 - 1)
ALL_PROFILES = dict.fromkeys(PROFILES, 1.0)


def random_image(seed: int = 0, shape: tuple[int, ...] = SHAPE) -> torch.Tensor:
    return torch.rand(1, *shape, generator=torch.Generator().manual_seed(seed))


def operator(data: dict) -> SeparableAcquisition:
    return SeparableAcquisition([data[f"matrix_{axis}"] for axis in range(3)])


# ---- drawing


@settings(derandomize=True, deadline=None, max_examples=60)
@given(seed=SEEDS, axes=st.integers(1, 3), mixed=st.sampled_from([0.0, 0.5, 1.0]))
def test_draw_is_replayable_and_inside_its_ranges(seed, axes, mixed):
    ranges = AcquisitionRange(
        profiles=ALL_PROFILES, mixed=mixed, box_width=(0.7, 1.3), box_width_prob=0.5, gaussian_width=(0.5, 0.9)
    )
    drawn, again = (ranges.draw(np.random.RandomState(seed), axes) for _ in range(2))
    assert drawn == again and hash(drawn) == hash(again)
    assert len(drawn.profiles) == len(drawn.widths) == axes
    for profile, width in zip(drawn.profiles, drawn.widths, strict=True):
        low, high = (0.5, 0.9) if profile == "gaussian" else (0.7, 1.3)
        assert profile in PROFILES and low <= width <= high
    assert 0 <= drawn.noise <= 0.03
    assert mixed > 0 or len(set(drawn.profiles)) == 1


def draws(count: int = 400, **ranges) -> list[AcquisitionDraw]:
    rng = np.random.RandomState(3)
    return [AcquisitionRange(**ranges).draw(rng, 3) for _ in range(count)]


def test_probabilities_are_what_they_say():
    drawn = draws(profiles={"box": 0.5, "gaussian": 0.25, "kspace": 0.25}, mixed=0.2, noise_prob=0.3)
    share = {name: np.mean([d.profiles[0] == name for d in drawn]) for name in PROFILES}
    assert share == {name: pytest.approx(p, abs=0.08) for name, p in zip(PROFILES, (0.5, 0.25, 0.25), strict=True)}
    assert np.mean([d.noise > 0 for d in drawn]) == pytest.approx(0.3, abs=0.08)
    # Of three independent axes, all agree with probability 0.5^3 + 2 * 0.25^3.
    assert np.mean([len(set(d.profiles)) > 1 for d in drawn]) == pytest.approx(0.2 * (1 - 0.15625), abs=0.07)
    assert len({d.noise_seed for d in drawn}) > 390


def test_probability_of_zero_is_never():
    drawn = draws(100, profiles={"box": 1.0, "kspace": 0.0}, box_width_prob=0.0, noise_prob=0.0)
    assert {d.profiles for d in drawn} == {("box",) * 3}
    assert {d.widths for d in drawn} == {(1.0,) * 3} and {d.noise for d in drawn} == {0.0}


@pytest.mark.parametrize("profiles", [{}, {"box": 1, "sinc": 1}], ids=["none", "unknown"])
def test_profiles_that_do_not_exist_are_refused(profiles):
    with pytest.raises(InputError, match="box, gaussian, kspace"):
        RandAcquired("hr", profiles=profiles)


# ---- measuring with a draw


@settings(derandomize=True, deadline=None, max_examples=30)
@given(seed=SEEDS, scale=st.sampled_from([(2, 2, 2), (1, 1, 4), (4, 3, 1)]))
def test_a_draw_applied_twice_gives_the_same(seed, scale):
    transform = RandAcquired("hr", scale=scale, profiles=ALL_PROFILES, mixed=0.5, noise_prob=0.7)
    transform.set_random_state(seed)
    data = {"hr": random_image(seed % 97)}
    called = transform(data)
    for again in (transform.apply(data, transform.drawn), RandAcquired("hr", scale=scale).apply(data, transform.drawn)):
        assert set(again) == set(called) == {"hr", "lr", "matrix_0", "matrix_1", "matrix_2", "regularisation"}
        assert all(torch.equal(again[key], called[key]) for key in called)
    replayed = RandAcquired("hr", scale=scale, profiles=ALL_PROFILES, mixed=0.5, noise_prob=0.7).set_random_state(seed)
    assert torch.equal(replayed(data)["lr"], called["lr"])
    assert set(data) == {"hr"}


@settings(derandomize=True, deadline=None, max_examples=30)
@given(seed=SEEDS, scale=st.sampled_from([(2, 2, 2), (1, 1, 4), (4, 3, 1)]))
def test_measurement_is_the_operator_that_is_handed_on(seed, scale):
    transform = RandAcquired("hr", scale=scale, profiles=ALL_PROFILES, mixed=0.5, noise_prob=0.0).set_random_state(seed)
    data = transform({"hr": random_image(seed % 89)})
    assert data["lr"].shape == (1, *(n // s for n, s in zip(SHAPE, scale, strict=True)))
    assert all(data[f"matrix_{axis}"].dtype == torch.float32 for axis in range(3))
    assert torch.equal(operator(data).forward(data["hr"][None])[0], data["lr"])
    for axis, factor in enumerate(scale):
        torch.testing.assert_close(data[f"matrix_{axis}"].sum(dim=1), torch.ones(SHAPE[axis] // factor))
        assert factor > 1 or torch.equal(data[f"matrix_{axis}"], torch.eye(SHAPE[axis]))


BOX = AcquisitionDraw(("box",) * 3, (1.0,) * 3, 0.0, 0)


def test_box_of_the_voxels_width_is_the_average():
    hr = random_image()
    lr = RandAcquired("hr").apply({"hr": hr}, BOX)["lr"]
    torch.testing.assert_close(lr, torch.nn.functional.avg_pool3d(hr, 2))


@pytest.mark.parametrize(
    "drawn, regularisation",
    [
        (BOX, 0.0),
        (replace(BOX, profiles=("kspace",) * 3), 0.0),
        (replace(BOX, noise=0.015), 0.25),
        (replace(BOX, profiles=("box", "box", "gaussian")), (0.002 / 0.03) ** 2),
        (replace(BOX, profiles=("gaussian",) * 3, noise=0.03), 1.0),
    ],
    ids=["box", "kspace", "noise", "gaussian", "gaussian-noise"],
)
def test_damping_suits_the_noise(drawn, regularisation):
    data = RandAcquired("hr", noise_to_prior=0.03, gaussian_floor=0.002).apply({"hr": random_image()}, drawn)
    assert float(data["regularisation"]) == pytest.approx(regularisation)
    assert data["regularisation"].shape == ()


def test_noise_of_a_draw_has_its_strength_and_seed():
    transform, hr = RandAcquired("hr"), 5 + random_image(shape=(24, 24, 24))
    clean = transform.apply({"hr": hr}, BOX)["lr"]
    noisy, other = (transform.apply({"hr": hr}, replace(BOX, noise=0.02, noise_seed=s))["lr"] for s in (1, 2))
    assert float((noisy - clean).std()) == pytest.approx(0.02, rel=0.05)
    assert not torch.equal(noisy, other)


def test_patch_that_is_no_multiple_is_refused():
    with pytest.raises(InputError, match="axis 2: a patch of 12 voxels is not a multiple of the scale 5"):
        RandAcquired("hr", scale=(2, 2, 5)).apply({"hr": random_image()}, BOX)


def test_meta_data_stay_out_of_the_batch():
    data = RandAcquired("hr").apply({"hr": MetaTensor(random_image())}, BOX)
    assert not any(isinstance(value, MetaTensor) for value in data.values())


# ---- matrices of a patch


@settings(derandomize=True, deadline=None, max_examples=60)
@given(
    profile=st.sampled_from(PROFILES),
    n_lr=st.integers(1, 12),
    factor=st.integers(1, 4),
    width=st.floats(0.3, 1.8),
)
def test_patch_matrix_rows_sum_to_one(profile, n_lr, factor, width):
    matrix = patch_matrix(profile, n_lr * factor, n_lr, width)
    assert matrix.shape == (n_lr, n_lr * factor)
    np.testing.assert_allclose(matrix.sum(axis=1), 1, atol=1e-12)
    # Nothing tells left from right.
    np.testing.assert_allclose(matrix, matrix[::-1, ::-1], atol=1e-12)


@pytest.mark.parametrize("n_hr, n_lr", [(16, 8), (15, 5), (20, 5), (12, 12)])
def test_patch_kspace_keeps_the_low_frequencies_of_the_mirrored_patch(n_hr, n_lr):
    """A mirrored patch is a sum of cosines: those below the cut-off are sampled, those above it vanish."""
    matrix = patch_matrix("kspace", n_hr, n_lr, 1.0)

    def cosine(order: int, n: int) -> np.ndarray:
        return np.cos(np.pi * order * (np.arange(n) + 0.5) / n)

    for order in range(n_hr):
        expected = cosine(order, n_lr) if order < n_lr else np.zeros(n_lr)
        np.testing.assert_allclose(matrix @ cosine(order, n_hr), expected, atol=1e-12)


def test_patch_kspace_does_not_wrap_around():
    """A ramp jumps from its end to its start in a periodic image, which rings; in a mirrored one there is no jump."""
    n_hr, n_lr = 32, 16
    ramp = np.arange(n_hr) / n_hr
    expected = (np.arange(n_lr) + 0.5) / n_lr - 0.5 / n_hr
    step = np.zeros(n_hr)
    step[-4:] = 1
    periodic, mirrored = kspace_matrix(n_hr, n_lr), patch_matrix("kspace", n_hr, n_lr, 1.0)
    assert np.abs(periodic @ ramp - expected).max() > 0.04
    assert np.abs(mirrored @ ramp - expected).max() < 0.005
    assert np.abs(periodic @ step)[:4].max() > 0.04
    assert np.abs(mirrored @ step)[:4].max() < 0.001, "nothing from the other end"


# ---- noise


@pytest.mark.parametrize("sigma", [0.01, 3.0])
def test_rician_noise_without_signal_is_rayleigh(sigma):
    noise = add_rician_noise(torch.zeros(40_000), sigma, seed=1)
    assert float(noise.min()) >= 0
    assert float(noise.mean()) == pytest.approx(sigma * math.sqrt(math.pi / 2), rel=0.01)
    assert float(noise.std()) == pytest.approx(sigma * math.sqrt(2 - math.pi / 2), rel=0.02)


def test_rician_noise_on_a_strong_signal_is_gaussian():
    signal, sigma = 20.0, 1.0
    noise = add_rician_noise(torch.full((40_000,), signal), sigma, seed=2) - signal
    assert float(noise.mean()) == pytest.approx(sigma**2 / (2 * signal), abs=0.02)
    assert float(noise.std()) == pytest.approx(sigma, rel=0.02)


def test_noise_is_its_seeds_alone():
    image = random_image()
    assert torch.equal(add_rician_noise(image, 0.1, 4), add_rician_noise(image, 0.1, 4))
    assert not torch.equal(add_rician_noise(image, 0.1, 4), add_rician_noise(image, 0.1, 5))
    assert torch.equal(add_rician_noise(image, 0.0, 4), image)


# ---- a whole volume


def volume(shape: tuple[int, ...] = SHAPE, spacing_mm: float = 1.0) -> MetaTensor:
    affine = np.eye(4)
    affine[:3, :3] = spacing_mm * np.array([[0, -0.8, 0.1], [1.2, 0, 0], [0.1, 0.2, 1.5]])
    affine[:3, 3] = (3, -40, 7)
    return MetaTensor(random_image(shape=shape), affine=torch.tensor(affine), meta={"filename_or_obj": "hr.nii"})


def grid_of(image: MetaTensor) -> Grid:
    return Grid(tuple(image.shape[1:]), image.affine.numpy())


@pytest.mark.parametrize("scale", [2, (1, 1, 4), (1.5, 2.3, 1), 2.5, (1.2, 3.0, 1.9)])
@pytest.mark.parametrize("profile", PROFILES)
def test_measurement_covers_the_same_field_of_view(scale, profile):
    hr = volume((8, 7, 11))
    lr = Acquired("hr", scale=scale, profile=profile)({"hr": hr})["lr"]
    factors = np.broadcast_to(scale, 3)
    assert tuple(lr.shape[1:]) == tuple(math.floor(n / f + 0.5) for n, f in zip((8, 7, 11), factors, strict=True))
    assert corner_error_mm(grid_of(hr), grid_of(lr)) < 1e-9
    np.testing.assert_allclose(lr.affine.numpy(), grid_of(hr).downscaled(scale).affine, atol=1e-12)
    assert lr.dtype == torch.float32 and lr.meta["filename_or_obj"] == "hr.nii"


def test_box_measurement_keeps_the_mean():
    hr = volume((9, 7, 11))
    lr = Acquired("hr", scale=(1.5, 7 / 3, 2.75))({"hr": hr})["lr"]
    assert tuple(lr.shape[1:]) == (6, 3, 4)
    assert float(lr.mean()) == pytest.approx(float(hr.mean()), rel=1e-6)
    halves = Acquired("hr", scale=2)({"hr": volume()})["lr"]
    torch.testing.assert_close(halves.as_tensor(), torch.nn.functional.avg_pool3d(volume().as_tensor(), 2))


@pytest.mark.parametrize("profile", ["box", "gaussian"])
def test_profile_is_in_millimetres(profile):
    small = Acquired("hr", scale=2, profile=profile, fwhm_mm=3.0)({"hr": volume()})["lr"]
    large = Acquired("hr", scale=2, profile=profile, fwhm_mm=9.0)({"hr": volume(spacing_mm=3.0)})["lr"]
    other = Acquired("hr", scale=2, profile=profile, fwhm_mm=3.0)({"hr": volume(spacing_mm=3.0)})["lr"]
    torch.testing.assert_close(small.as_tensor(), large.as_tensor())
    assert float((small.as_tensor() - other.as_tensor()).abs().max()) > 0.01
    gap = Acquired("hr", scale=(1, 1, 3), profile=profile, gap_mm=1.2)({"hr": volume()})["lr"]
    assert float((gap - Acquired("hr", scale=(1, 1, 3), profile=profile)({"hr": volume()})["lr"]).abs().max()) > 0.01


@pytest.mark.parametrize("rule", [None, RobustRange(), RobustRange(20, 60), FixedWindow(-1024, 2000)])
def test_noise_is_a_share_of_the_intensity_window(rule):
    hr = 500 * volume((24, 24, 24)) - 200
    low, high = (rule or RobustRange()).window(hr.numpy())
    share = 0.02 * 500 / (high - low)
    clean, noisy, again, other = (
        Acquired("hr", noise=noise, seed=seed, intensity=rule)({"hr": hr})["lr"].as_tensor()
        for noise, seed in ((0, 0), (share, 1), (share, 1), (share, 2))
    )
    assert torch.equal(noisy, again) and not torch.equal(noisy, other)
    assert float((noisy - clean).std()) == pytest.approx(share * (high - low), rel=0.1)
    if rule is None:
        assert abs(float((noisy - clean).mean())) < 0.005 * (high - low), "a floor at zero, not at -200, would shift it"


@pytest.mark.parametrize("profile", PROFILES)
def test_one_slice_is_measured_as_the_volume_that_is_that_slice(profile):
    affine = torch.diag(torch.tensor([0.5, 0.7, 3.0, 1.0], dtype=torch.float64))
    volume = MetaTensor(random_image(1, (12, 9, 1)), affine=affine)
    of_volume = Acquired("hr", scale=(2, 3, 1), profile=profile)({"hr": volume})["lr"]
    of_slice = Acquired("hr", scale=(2, 3), profile=profile)({"hr": MetaTensor(volume[..., 0], affine=affine)})["lr"]
    assert of_slice.shape == (1, 6, 3)
    torch.testing.assert_close(of_slice.as_tensor(), of_volume[..., 0].as_tensor(), rtol=0, atol=1e-6)
    torch.testing.assert_close(of_slice.affine, of_volume.affine)
