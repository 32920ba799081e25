"""The perceptual loss around a feature network; its properties are in test_image_losses."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from medsr_monai.networks import ConvolutionalFeatures, OnSlices, VGG19Features
from medsr_monai.system.errors import InputError
from medsr_monai.training.losses import PerceptualLoss


class Powers(nn.Module):
    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        return [image, 10 * image]


def test_layers_and_distance_by_hand():
    sr, hr = torch.full((1, 1, 2, 2), 0.5), torch.zeros(1, 1, 2, 2)
    assert PerceptualLoss(Powers())(sr, hr).item() == pytest.approx((0.5 + 5) / 2)
    assert PerceptualLoss(Powers(), layers=[1])(sr, hr).item() == pytest.approx(5)
    assert PerceptualLoss(Powers(), layers=[1], distance="mse")(sr, hr).item() == pytest.approx(25)
    assert PerceptualLoss(nn.Identity())(sr, hr).item() == pytest.approx(0.5)  # one map instead of a list


def test_cosine_compares_directions_of_feature_vectors():
    loss = PerceptualLoss(nn.Identity(), distance="cosine")
    sr = torch.tensor([[3.0, 0.0]]).reshape(1, 2, 1, 1)
    for hr, expected in (([5.0, 0.0], 0), ([0.0, 0.1], 2), ([-7.0, 0.0], 4), ([1.0, 1.0], 2 - 2**0.5)):
        assert loss(sr, torch.tensor([hr]).reshape(1, 2, 1, 1)).item() == pytest.approx(expected, abs=1e-6)
    nothing = torch.zeros(1, 2, 1, 1, requires_grad=True)
    loss(nothing, sr).backward()
    assert nothing.grad.abs().max() <= 200  # bounded where the direction is not defined


def test_the_network_is_frozen_and_nobodys_parameter():
    features = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    loss = PerceptualLoss(features).train()
    assert not features.training and not any(p.requires_grad for p in features.parameters())
    assert not loss.state_dict() and not list(loss.parameters())
    before = {name: value.clone() for name, value in features.state_dict().items()}
    sr = torch.rand(1, 1, 5, 5, requires_grad=True)
    hr = torch.rand(1, 1, 5, 5, requires_grad=True)
    loss(sr, hr).backward()
    assert sr.grad.abs().max() > 0 and hr.grad is None
    assert all(torch.equal(value, before[name]) for name, value in features.state_dict().items())


def test_the_network_follows_the_loss():
    loss = PerceptualLoss(ConvolutionalFeatures(2, widths=(2,))).double()
    image = torch.rand(1, 1, 4, 4, dtype=torch.float64)
    assert loss(image, image).dtype == torch.float64
    assert {p.device.type for p in loss.to("meta").features.parameters()} == {"meta"}


def test_a_2d_network_sees_volumes_slice_by_slice():
    loss = PerceptualLoss(OnSlices(VGG19Features(None, layer="conv1_1"), slices_per_axis=2))
    sr, hr = torch.rand(1, 1, 4, 5, 6, requires_grad=True), torch.rand(1, 1, 4, 5, 6)
    value = loss(sr, hr)
    value.backward()
    assert value > 0 and sr.grad.isfinite().all() and sr.grad.abs().max() > 0


def test_bad_options_are_named():
    with pytest.raises(InputError, match="distance 'l2'"):
        PerceptualLoss(Powers(), distance="l2")
    with pytest.raises(InputError, match="need at least one"):
        PerceptualLoss(Powers(), layers=[])
    image = torch.rand(1, 1, 2, 2)
    with pytest.raises(InputError, match="no layer 2, the feature network has 2"):
        PerceptualLoss(Powers(), layers=[2])(image, image)
