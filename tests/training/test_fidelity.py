"""Training lowers the loss it says it lowers, and stops when it goes wrong."""

from __future__ import annotations

import math

import pytest
import torch
from monai.engines.utils import IterationEvents
from monai.transforms import Compose
from torch import nn
from torch.utils.data import DataLoader

from medsr_monai.training import FidelityTrainer, prepare_acquired_batch
from medsr_monai.training.data import RandomPatchDataset
from tests.training.samples import collect_losses, network, patches, standing_still


def trainer_of(items, epochs: int = 1, optimizer=None, net: nn.Module | None = None, **kwargs) -> FidelityTrainer:
    net = network() if net is None else net
    return FidelityTrainer(
        device=torch.device("cpu"),
        max_epochs=epochs,
        train_data_loader=DataLoader(items, batch_size=2),
        network=net,
        optimizer=torch.optim.Adam(net.parameters(), lr=3e-3) if optimizer is None else optimizer(net.parameters()),
        loss_function=kwargs.pop("loss_function", nn.L1Loss()),
        **kwargs,
    )


def test_training_lowers_the_loss():
    trainer = trainer_of(patches(2), epochs=40)
    losses = collect_losses(trainer)
    trainer.run()
    assert len(losses) == 40
    assert losses[-1] < 0.6 * losses[0]


@pytest.mark.parametrize("weight", [0.0, 0.2, 3.0])
@pytest.mark.parametrize("loss_function", [nn.L1Loss(), nn.MSELoss()], ids=["l1", "mse"])
def test_loss_is_the_projected_one_and_a_share_of_the_unprojected(weight, loss_function):
    items, net = patches(2, noise=0.02), network()
    trainer = trainer_of(
        items, optimizer=standing_still, net=net, unprojected_weight=weight, loss_function=loss_function
    )
    trainer.run()
    output = trainer.state.output
    batch = next(iter(DataLoader(items, batch_size=2)))
    lr, hr, _, measured = prepare_acquired_batch(batch)
    with torch.no_grad():
        sr = net(lr)
        projected = measured["acquisition"].project(sr, lr, measured["regularisation"])
        expected = loss_function(projected, hr) + weight * loss_function(sr, hr)
    assert float(output["loss"]) == pytest.approx(float(expected), rel=1e-6)
    torch.testing.assert_close(output["pred"], projected)
    assert torch.equal(output["image"], lr) and torch.equal(output["label"], hr)
    assert not output["loss"].requires_grad and not output["pred"].requires_grad


def test_every_sample_is_projected_with_its_own_acquisition():
    items = patches(6)
    batch = next(iter(DataLoader(items, batch_size=6)))
    lr, hr, _, measured = prepare_acquired_batch(batch)
    assert {tuple(item["matrix_0"].flatten().tolist()) for item in items} != {
        tuple(items[0]["matrix_0"].flatten().tolist())
    }
    measured_again = measured["acquisition"].forward(measured["acquisition"].project(torch.rand_like(hr), lr))
    torch.testing.assert_close(measured_again, lr, rtol=0, atol=1e-4)


@pytest.mark.parametrize("clip_norm", [1e-4, 0.5, None])
def test_gradient_is_clipped(clip_norm):
    trainer = trainer_of(
        patches(2),
        optimizer=standing_still,
        clip_norm=clip_norm,
        loss_function=lambda sr, hr: 1e3 * (sr - hr).abs().mean(),
    )
    norms = []

    def note(engine):
        norms.append(torch.stack([p.grad.norm() for p in engine.network.parameters()]).norm().item())

    trainer.add_event_handler(IterationEvents.MODEL_COMPLETED, note)
    trainer.run()
    assert len(norms) == 1
    if clip_norm is None:
        assert norms[0] > 1
    else:
        assert norms[0] == pytest.approx(clip_norm, rel=1e-3)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_training_stops_at_the_iteration_that_goes_wrong(bad):
    items, net = patches(8), network()
    items[4]["hr"] = items[4]["hr"].clone()
    items[4]["hr"][0, 1, 2, 3] = bad
    trainer = trainer_of(items, net=net)
    losses = collect_losses(trainer)
    with pytest.raises(FloatingPointError, match=r"iteration 3: the term 'pixel' is (nan|inf)"):
        trainer.run()
    assert len(losses) == 2
    assert all(bool(torch.isfinite(p).all()) for p in net.parameters()), "the weights are those before it"


def test_events_of_an_iteration_fire_in_order():
    trainer, seen = trainer_of(patches(2)), []
    order = [
        IterationEvents.FORWARD_COMPLETED,
        IterationEvents.LOSS_COMPLETED,
        IterationEvents.BACKWARD_COMPLETED,
        IterationEvents.MODEL_COMPLETED,
    ]
    for event in order:
        trainer.add_event_handler(event, lambda engine, name: seen.append(name), event)
    trainer.run()
    assert seen == order


def test_mixed_precision_is_projected_in_full():
    trainer = trainer_of(patches(2), amp=True, optimizer=standing_still)
    trainer.run()
    assert trainer.state.output["pred"].dtype == torch.float32
    assert math.isfinite(float(trainer.state.output["loss"]))


def test_trainer_tells_its_data_set_the_epoch():
    rows = patches(2)
    dataset = RandomPatchDataset(rows, Compose([]), length=2)
    epochs = []
    dataset.set_epoch = epochs.append
    trainer_of(dataset, epochs=3, optimizer=standing_still).run()
    assert epochs == [1, 2, 3]
