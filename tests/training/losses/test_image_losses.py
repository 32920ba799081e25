"""Properties of every loss between two images."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from medsr_monai.networks import ConvolutionalFeatures
from medsr_monai.system.errors import InputError
from medsr_monai.training.losses import (
    CharbonnierLoss,
    FeatureMatchingLoss,
    FrequencyLoss,
    GradientLoss,
    PerceptualLoss,
)

Loss = Callable[[Tensor, Tensor], Tensor]
LOSSES: dict[str, Callable[[int], Loss]] = {
    "charbonnier": lambda dims: CharbonnierLoss(),
    "gradient": lambda dims: GradientLoss(),
    "gradient magnitude": lambda dims: GradientLoss(magnitude=True),
    "frequency": lambda dims: FrequencyLoss(),
    "frequency-none": lambda dims: FrequencyLoss("none"),
    "frequency-magnitude": lambda dims: FrequencyLoss("none", "magnitude"),
    "frequency-radial-magnitude": lambda dims: FrequencyLoss("radial", "magnitude"),
    "feature-matching": lambda dims: lambda sr, hr: FeatureMatchingLoss()([sr, sr**2], [hr, hr**2]),
    "perceptual-l1": lambda dims: PerceptualLoss(ConvolutionalFeatures(dims, widths=(2, 3))),
    "perceptual-mse": lambda dims: PerceptualLoss(ConvolutionalFeatures(dims, widths=(2, 3)), [0, -1], "mse"),
    "perceptual-cosine": lambda dims: PerceptualLoss(ConvolutionalFeatures(dims, widths=(2, 3)), None, "cosine"),
}
CONSTANT_OFFSETS_ARE_FREE = ("gradient", "gradient magnitude", "frequency", "frequency-radial-magnitude")
SIZES = {2: (6, 5), 3: (4, 5, 6)}


@pytest.fixture(params=[2, 3], ids=["2d", "3d"])
def dims(request) -> int:
    return request.param


@pytest.fixture(params=LOSSES)
def name(request) -> str:
    return request.param


def pair(dims: int) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(0)
    return torch.rand(2, 1, *SIZES[dims], generator=rng), torch.rand(2, 1, *SIZES[dims], generator=rng)


def test_least_at_equality_with_a_finite_gradient(name, dims):
    loss, (sr, hr) = LOSSES[name](dims), pair(dims)
    least = 1e-3 if name == "charbonnier" else 0.0
    same = hr.clone().requires_grad_()
    value = loss(same, hr)
    assert value.shape == () and value.item() == pytest.approx(least, abs=1e-7)
    (slope,) = torch.autograd.grad(value, same)
    assert slope.isfinite().all() and slope.abs().max() < 1e-6
    assert loss(sr, hr) > least + 1e-4
    assert loss(hr + (sr - hr) / 2, hr) < loss(sr, hr)


def test_the_gradient_leads_from_sr_to_hr(name, dims):
    loss, (sr, hr) = LOSSES[name](dims), pair(dims)
    sr.requires_grad_()
    hr.requires_grad_()
    value = loss(sr, hr)
    (slope,) = torch.autograd.grad(value, sr)
    assert slope.isfinite().all()
    with torch.no_grad():
        assert loss(sr - 1e-3 * slope / slope.norm(), hr) < value


def test_same_numbers_every_time_and_on_exchange_of_the_images(name, dims):
    (sr, hr), values = pair(dims), []
    for _ in range(2):
        values.append(LOSSES[name](dims)(sr, hr).item())
    assert values[0] == values[1]
    assert LOSSES[name](dims)(hr, sr).item() == pytest.approx(values[0], rel=1e-5)


def test_a_mean_over_the_batch(name, dims):
    loss, (sr, hr) = LOSSES[name](dims), pair(dims)
    each = [loss(sr[i : i + 1], hr[i : i + 1]).item() for i in range(2)]
    assert loss(sr, hr).item() == pytest.approx(sum(each) / 2, rel=1e-5)


def test_offsets_cost_where_they_should(name, dims):
    loss, (_, hr) = LOSSES[name](dims), pair(dims)
    cost = loss(hr + 0.3, hr).item()
    assert (cost < 1e-6) == (name in CONSTANT_OFFSETS_ARE_FREE)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_low_precision_is_computed_in_float32(name, dims, dtype):
    if name == "feature-matching":
        pytest.skip("the test's own squares overflow, not the loss")
    loss = LOSSES[name](dims)
    sr, hr = (image.to(dtype) * 1000 for image in pair(dims))
    value = loss(sr, hr)
    assert value.dtype == torch.float32 and value.isfinite()
    assert value.item() == pytest.approx(loss(sr.float(), hr.float()).item(), rel=1e-6)


def test_images_of_different_shapes_are_refused(name, dims):
    sr, hr = pair(dims)
    with pytest.raises(InputError, match="must be the same"):
        LOSSES[name](dims)(sr[:1], hr)
