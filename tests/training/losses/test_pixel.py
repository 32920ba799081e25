"""Charbonnier and gradient loss against numbers; their properties are in test_image_losses."""

from __future__ import annotations

import math

import pytest
import torch

from medsr_monai.system.errors import InputError
from medsr_monai.training.losses import CharbonnierLoss, GradientLoss


def test_charbonnier_by_hand():
    sr, hr = torch.tensor([[[[0.3, 0.0]]]]), torch.tensor([[[[0.0, 0.0]]]])
    assert CharbonnierLoss(0.4)(sr, hr).item() == pytest.approx((0.5 + 0.4) / 2)
    for epsilon in (0.0, -1.0, math.nan):
        with pytest.raises(InputError, match="epsilon"):
            CharbonnierLoss(epsilon)


def test_gradient_by_hand_each_axis_alike():
    hr = torch.zeros(1, 1, 2, 3, 4)
    sr = hr.clone()
    sr[..., 2:] = 0.6  # one edge among three along the last axis
    assert GradientLoss()(sr, hr).item() == pytest.approx(0.6 / 3 / 3)
    assert GradientLoss()(sr.transpose(2, 4), hr.transpose(2, 4)).item() == pytest.approx(0.6 / 3 / 3)


def test_an_axis_without_neighbours_is_named():
    image = torch.zeros(1, 1, 4, 1)
    with pytest.raises(InputError, match="axis 1 has 1 voxel"):
        GradientLoss()(image, image)


@pytest.mark.parametrize("dims", [2, 3])
def test_gradient_magnitude_does_not_mind_which_way_an_edge_points(dims):
    ramp = torch.arange(6.0).reshape(1, 1, 6, *[1] * (dims - 1)).expand(1, 1, *[6] * dims)
    turned = ramp.transpose(2, 3)
    assert GradientLoss()(turned, ramp) > 0.3
    assert GradientLoss(magnitude=True)(turned, ramp).item() == pytest.approx(0, abs=1e-6)
    assert GradientLoss(magnitude=True)(2 * ramp, ramp).item() == pytest.approx(1, rel=1e-3)
    assert GradientLoss(magnitude=True)(torch.zeros_like(ramp), ramp).item() == pytest.approx(1, rel=1e-3)
