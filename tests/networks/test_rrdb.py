"""RRDBNet as the ESRGAN paper has it; what every network promises is in tests/contracts."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from medsr_monai.networks import RRDBNet
from medsr_monai.networks.blocks import RRDB


@pytest.mark.parametrize("num_blocks, dense_blocks", [(1, 3), (2, 3), (3, 1)])
def test_depth_is_as_published(num_blocks, dense_blocks):
    """Five convolutions per dense block; head, end of trunk and two at the end around them."""
    network = RRDBNet(2, features=4, growth=2, num_blocks=num_blocks, dense_blocks=dense_blocks)
    assert sum(isinstance(m, RRDB) for m in network.modules()) == num_blocks
    assert sum(isinstance(m, nn.Conv2d) for m in network.modules()) == 5 * dense_blocks * num_blocks + 4
    assert network.receptive_radius == 5 * dense_blocks * num_blocks + 4


def test_one_code_path_in_2d_and_3d():
    """A 3D network whose kernels are a 2D network's, in the middle slice, computes that network's slices."""
    settings = {"features": 4, "growth": 2, "num_blocks": 1, "dense_blocks": 2}
    flat, deep = RRDBNet(2, scale=(2, 3), **settings), RRDBNet(3, scale=(1, 2, 3), **settings)
    with torch.no_grad():
        for (name, weight), (other, target) in zip(flat.named_parameters(), deep.named_parameters(), strict=True):
            assert name == other
            values = torch.randn(weight.shape, generator=torch.Generator().manual_seed(weight.numel())) * 0.2
            weight.copy_(values)
            if weight.ndim == 4:
                target.zero_()
                target[:, :, 1] = values
            else:
                target.copy_(values)
        volume = torch.randn(1, 1, 3, 5, 4, generator=torch.Generator().manual_seed(0))
        slices = torch.stack([flat(volume[:, :, i]) for i in range(3)], dim=2)
        assert (deep(volume) - slices).abs().max() <= 1e-5 * slices.abs().max()


def test_weights_load_from_another_scale_but_for_the_last_layer():
    """Everything before the sub-pixel layer is the same at any scale, so a network can be fine-tuned to another."""
    two, four = RRDBNet(3, scale=2, features=4, growth=2), RRDBNet(3, scale=(1, 1, 4), features=4, growth=2)
    different = [name for name, weight in two.state_dict().items() if weight.shape != four.state_dict()[name].shape]
    assert different == ["tail.2.weight", "tail.2.bias"]


def test_it_learns_a_residual():
    """A few steps on one image bring the output closer than interpolation was."""
    torch.manual_seed(0)
    network = RRDBNet(2, features=8, growth=4)
    hr = torch.rand(1, 1, 16, 16, generator=torch.Generator().manual_seed(1))
    lr = nn.functional.avg_pool2d(hr, 2)
    optimiser = torch.optim.Adam(network.parameters(), 1e-2)
    losses = []
    for _ in range(30):
        optimiser.zero_grad()
        loss = nn.functional.l1_loss(network(lr), hr)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]
