"""Normalising and restoring are inverse to each other; noise is reduced where it is asked for."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data import MetaTensor

from medsr_monai.acquisition import FixedWindow, RobustRange
from medsr_monai.transforms import (
    DenoiseCurvatureFlowd,
    NormaliseIntensityd,
    RestoreIntensityd,
)

SHAPE = (5, 4, 6)


def textured(rng: np.random.Generator, channels: int = 1, shape: tuple[int, ...] = SHAPE) -> MetaTensor:
    """A bright half on a dark one, (channels, *shape) float32."""
    image = 0.02 * rng.standard_normal((channels, *shape))
    image[:, : shape[0] // 2] += rng.uniform(0.5, 1.0, (channels, shape[0] // 2, *shape[1:]))
    return MetaTensor(torch.from_numpy(image).float(), affine=torch.diag(torch.tensor([2.0, 3.0, 4.0, 1.0])))


def normalise(image: torch.Tensor) -> dict:
    return NormaliseIntensityd("image")({"image": image})


@settings(derandomize=True, deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 2**31),
    channels=st.integers(1, 3),
    centre=st.sampled_from([0.0, -1000.0, 40.0, 1e6]),
    spread=st.sampled_from([0.0, 1e-6, 1e-3, 1.0, 4000.0]),
)
def test_restoring_undoes_normalising(seed, channels, centre, spread):
    image = centre + spread * textured(np.random.default_rng(seed), channels)
    normalised = normalise(image)
    assert torch.isfinite(normalised["image"]).all()
    restored = RestoreIntensityd("image", source="image")(normalised)["image"]
    # What rounding leaves is a few units in the last place of the largest number involved.
    tolerance = 4e-7 * max(1.0, float(image.abs().max()))
    assert float((restored - image).abs().max()) <= tolerance


def test_window_becomes_zero_to_one(rng):
    image = 700 * textured(rng, shape=(12, 12, 12)) - 300
    normalised = normalise(image)["image"].numpy()
    assert np.percentile(normalised, 0.5) == pytest.approx(0, abs=1e-5)
    foreground = normalised[normalised > normalised.mean()]
    assert np.percentile(foreground, 99.5) == pytest.approx(1, abs=1e-5)
    assert normalised.max() > 1 > 0 > normalised.min(), "nothing is clipped"


@pytest.mark.parametrize("rule", [FixedWindow(), FixedWindow(-1024, 2000), RobustRange(20, 60)])
def test_the_rule_that_is_given_counts(rule, rng):
    image = 700 * textured(rng) - 300
    normalised = NormaliseIntensityd("image", rule)({"image": image})
    low, high = rule.window(image[0].numpy())
    torch.testing.assert_close(torch.as_tensor(normalised["image"]), (torch.as_tensor(image) - low) / (high - low))
    assert (low, high) == (rule.low, rule.high) if isinstance(rule, FixedWindow) else low > image.min()


def test_size_of_the_background_does_not_move_the_upper_end(rng):
    tissue = rng.uniform(60, 100, 1000)
    windows = [
        RobustRange().window(np.concatenate([tissue, np.zeros(background)])) for background in (1000, 3000, 20000)
    ]
    assert windows[0] == windows[1] == windows[2]
    assert windows[0] == (0, pytest.approx(np.percentile(tissue, 99.5)))


@pytest.mark.parametrize("value", [0.0, -3.5, 1e5])
def test_constant_image_has_a_window_to_divide_by(value):
    low, high = RobustRange().window(np.full(SHAPE, value))
    assert low == value and high > low
    assert float(normalise(torch.full((1, *SHAPE), value))["image"].abs().max()) == 0


def test_a_single_bright_voxel_is_still_a_range():
    image = torch.zeros(SHAPE)
    image[2, 2, 2] = 5
    low, high = RobustRange().window(image.numpy())
    assert low == 0 and high == pytest.approx(5)


def test_every_channel_has_its_own_window(rng):
    image = textured(rng, 3) * torch.tensor([1.0, 50.0, 2000.0]).reshape(3, 1, 1, 1) - 7
    together = normalise(image)
    assert together["image_window"].shape == (3, 2)
    for channel in range(3):
        alone = normalise(image[channel : channel + 1])
        assert torch.equal(together["image"][channel], alone["image"][0])
        assert torch.equal(together["image_window"][channel], alone["image_window"][0])


def test_another_image_is_restored_with_the_window_of_its_source(rng):
    normalised = normalise(90 * textured(rng, 2) + 20)
    larger = normalised["image"].repeat_interleave(2, dim=1)
    restored = RestoreIntensityd("pred", source="image")({**normalised, "pred": larger})["pred"]
    expected = RestoreIntensityd("image", source="image")(normalised)["image"].repeat_interleave(2, dim=1)
    assert torch.equal(torch.as_tensor(restored), torch.as_tensor(expected))


def test_affine_stays_and_the_input_is_not_changed(rng):
    image = textured(rng)
    before = image.clone()
    data = {"image": image}
    normalised = NormaliseIntensityd("image")(data)
    restored = RestoreIntensityd("image", source="image")(normalised)
    assert set(data) == {"image"} and torch.equal(data["image"], before)
    assert torch.equal(normalised["image"].affine, image.affine) and torch.equal(restored["image"].affine, image.affine)


def test_curvature_flow_reduces_noise_and_leaves_the_rest(rng):
    clean = torch.zeros(1, 12, 12, 12)
    clean[:, :6] = 100
    noisy = MetaTensor(clean + 5 * torch.from_numpy(rng.standard_normal(clean.shape)).float(), affine=torch.eye(4) * 2)
    smooth = DenoiseCurvatureFlowd("image", steps=3)({"image": noisy})["image"]
    assert smooth.shape == noisy.shape and torch.equal(smooth.affine, noisy.affine)
    assert float((smooth - clean).std()) < 0.8 * float((noisy - clean).std())
    assert float(smooth.mean()) == pytest.approx(float(noisy.mean()), abs=0.5)
    untouched = DenoiseCurvatureFlowd("image", steps=0)({"image": noisy})["image"]
    assert torch.equal(untouched, noisy)
