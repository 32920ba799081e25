"""What sets the frequency loss apart from the mean squared error."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from medsr_monai.system.errors import InputError
from medsr_monai.training.losses import FrequencyLoss
from medsr_monai.training.losses.frequency import radial_weights

SIZES = [(7, 8), (4, 5, 6)]


@pytest.mark.parametrize("size", SIZES)
def test_without_options_it_is_the_mse(size):
    sr, hr = torch.rand(2, 2, *size), torch.rand(2, 2, *size)
    assert FrequencyLoss("none")(sr, hr).item() == pytest.approx(functional.mse_loss(sr, hr).item(), rel=1e-5)


def test_radial_weights_by_hand():
    weights = radial_weights((4, 1), torch.device("cpu"), torch.float64)
    assert weights.flatten().tolist() == pytest.approx([0, 1, 2, 1])  # 0, 1/4, 1/2, 1/4 over their mean of 1/4
    assert radial_weights((1, 1), torch.device("cpu"), torch.float64).tolist() == [[0]]


def test_radial_weighting_charges_fast_waves_more():
    place = torch.arange(16.0)
    hr = torch.zeros(1, 1, 16, 16)
    slow, fast = (hr + torch.cos(2 * torch.pi * k * place / 16) for k in (1, 5))
    loss = FrequencyLoss("radial")
    assert loss(fast, hr).item() == pytest.approx(5 * loss(slow, hr).item(), rel=1e-4)
    assert functional.mse_loss(fast, hr).item() == pytest.approx(functional.mse_loss(slow, hr).item(), rel=1e-5)


@pytest.mark.parametrize("size", SIZES)
def test_magnitudes_do_not_see_a_cyclic_shift(size):
    hr = torch.rand(1, 1, *size)
    shifted = hr.roll(2, dims=-1)
    assert FrequencyLoss("radial", "magnitude")(shifted, hr).item() < 1e-10
    assert FrequencyLoss("radial", "complex")(shifted, hr).item() > 1e-2


def test_autocast_changes_nothing():
    sr, hr = torch.rand(1, 1, 8, 8), torch.rand(1, 1, 8, 8)
    expected = FrequencyLoss()(sr, hr)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(FrequencyLoss()(sr, hr), expected)


def test_unknown_options_are_named():
    with pytest.raises(InputError, match="weighting 'log'"):
        FrequencyLoss("log")
    with pytest.raises(InputError, match="compare 'phase'"):
        FrequencyLoss(compare="phase")
