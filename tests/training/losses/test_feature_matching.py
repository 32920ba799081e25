"""Feature matching by hand; its properties are in test_image_losses."""

from __future__ import annotations

import pytest
import torch

from medsr_monai.system.errors import InputError
from medsr_monai.training.losses import FeatureMatchingLoss


def test_layers_count_alike_and_nothing_flows_into_the_real_side():
    fake = [torch.zeros(1, 1, 2, requires_grad=True), torch.zeros(1, 8, 4, requires_grad=True)]
    real = [torch.full((1, 1, 2), 1.0, requires_grad=True), torch.full((1, 8, 4), 3.0, requires_grad=True)]
    loss = FeatureMatchingLoss()(fake, real)
    assert loss.item() == pytest.approx((1 + 3) / 2)
    loss.backward()
    assert all(layer.grad is not None for layer in fake) and all(layer.grad is None for layer in real)


def test_layers_that_do_not_correspond_are_refused():
    layer = torch.zeros(1, 1, 2)
    for fake, real in (([], []), ([layer], [layer, layer])):
        with pytest.raises(InputError, match="same number and at least one"):
            FeatureMatchingLoss()(fake, real)
