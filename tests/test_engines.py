"""Training lowers the loss it says it lowers, stops when it goes wrong, and one bad scan does not hold up the rest."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from ignite.engine import Events
from monai.data import Dataset
from monai.engines.utils import IterationEvents
from monai.transforms import Compose
from torch import nn
from torch.utils.data import DataLoader

from medsr_monai.data import RandomPatchDataset
from medsr_monai.engines import (
    FidelityTrainer,
    VolumeUpscaler,
    prepare_acquired_batch,
    prepare_measured_batch,
    prepare_volume,
    warmup_stable_decay,
)
from medsr_monai.errors import InputError
from medsr_monai.geometry import Grid
from medsr_monai.inferers import ConsistentInferer
from medsr_monai.networks import RRDBNet
from medsr_monai.transforms import (
    NormaliseIntensityd,
    RandAcquired,
    ReorientToCanonicald,
    RestoreIntensityd,
    UpscaledGridd,
)
from medsr_monai.volumes import LoadVolumed, SaveVolumed, read_volume, write_volume

PATCH = 8


def patches(count: int = 4, noise: float = 0.0) -> list[dict]:
    """Smooth patches and their measurements."""
    rng = np.random.default_rng(0)
    axes = np.meshgrid(*[np.linspace(0, 1, PATCH)] * 3, indexing="ij")
    result = []
    for index in range(count):
        waves = sum(np.sin(rng.uniform(4, 12) * axis + rng.uniform(0, 6)) for axis in axes)
        measure = RandAcquired("hr", noise=(noise, noise), noise_prob=float(noise > 0)).set_random_state(index)
        result.append(measure({"hr": torch.from_numpy(0.5 + waves / 6).float()[None]}))
    return result


def network(seed: int = 0) -> RRDBNet:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return RRDBNet(3, scale=2, features=4, growth=4, dense_blocks=1)


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


def standing_still(parameters) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.0)


def collect_losses(trainer: FidelityTrainer) -> list[float]:
    losses = []
    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda e: losses.append(float(e.state.output["loss"])))
    return losses


# ---- training


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

    trainer.add_event_handler(IterationEvents.BACKWARD_COMPLETED, note)
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
    with pytest.raises(FloatingPointError, match=r"iteration 3: the loss is (nan|inf)"):
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


# ---- the learning rate


@pytest.mark.parametrize("warmup, total, decay, floor", [(10, 100, 40, 0.01), (1, 20, 5, 0.1), (0, 30, 30, 0.0)])
def test_learning_rate_rises_stays_and_falls(warmup, total, decay, floor):
    factors = np.array([warmup_stable_decay(warmup, total, decay, floor)(i) for i in range(total + 5)])
    rise, stay, fall = factors[:warmup], factors[warmup : total - decay], factors[total - decay : total + 1]
    np.testing.assert_allclose(rise, (np.arange(warmup) + 1) / max(1, warmup))
    assert (stay == 1).all()
    assert fall[0] == 1 and (np.diff(fall) < 0).all() and fall[-1] == pytest.approx(floor)
    assert fall[len(fall) // 2] == pytest.approx((1 + floor) / 2, abs=0.16)
    np.testing.assert_allclose(factors[total:], floor)


def test_learning_rate_without_decay_stays():
    assert [warmup_stable_decay(2, 10, 0)(i) for i in (0, 1, 5, 9)] == [0.5, 1, 1, 1]


# ---- upscaling volumes


def write_scans(folder, names, rng) -> list[str]:
    files = []
    for name in names:
        path = folder / f"{name}.nii.gz"
        write_volume(path, rng.random((5, 6, 4)).astype(np.float32), Grid((5, 6, 4), np.diag([1.0, 2.0, 3.0, 1.0])))
        files.append(str(path))
    return files


def upscaler_of(files, output_dir, **kwargs) -> VolumeUpscaler:
    preprocessing = Compose([LoadVolumed("image"), ReorientToCanonicald("image"), NormaliseIntensityd("image")])
    postprocessing = Compose(
        [
            RestoreIntensityd("pred", source="image"),
            UpscaledGridd("pred", source="image"),
            SaveVolumed("pred", output_dir=output_dir),
        ]
    )
    return VolumeUpscaler(
        dataset=Dataset([{"image": file} for file in files], preprocessing),
        network=kwargs.pop("network", network()),
        device=torch.device("cpu"),
        inferer=ConsistentInferer(),
        postprocessing=postprocessing,
        progress=False,
        **kwargs,
    )


def test_volumes_are_upscaled_one_by_one(tmp_path, rng):
    files = write_scans(tmp_path, ["a", "b"], rng)
    net = network().train()
    upscaler_of(files, tmp_path / "out", network=net).run()
    assert not net.training
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["a_sr.nii.gz", "b_sr.nii.gz"]
    for name in ("a", "b"):
        lr, sr = read_volume(tmp_path / f"{name}.nii.gz"), read_volume(tmp_path / "out" / f"{name}_sr.nii.gz")
        assert sr.shape == (10, 12, 8)
        again = sr.data.reshape(5, 2, 6, 2, 4, 2).mean(axis=(1, 3, 5))
        np.testing.assert_allclose(again, lr.data, atol=1e-5)


@pytest.mark.parametrize("position", [0, 1, 2])
def test_one_bad_file_does_not_hold_up_the_others(position, tmp_path, rng, capsys):
    names = ["one", "two", "three"]
    files = write_scans(tmp_path, names, rng)
    bad = tmp_path / f"{names[position]}.nii.gz"
    bad.write_bytes(b"no volume")
    with pytest.raises(InputError) as caught:
        upscaler_of(files, tmp_path / "out").run()
    assert str(bad) in str(caught.value) and "\n" not in str(caught.value)
    good = [name for name in names if name != names[position]]
    assert not any(name in str(caught.value).replace(str(tmp_path), "") for name in good)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == sorted(f"{name}_sr.nii.gz" for name in good)
    assert "Traceback" not in "".join(capsys.readouterr())


def test_every_bad_file_is_named(tmp_path, rng):
    files = [*write_scans(tmp_path, ["good"], rng), str(tmp_path / "missing.nii"), str(tmp_path / "gone.nii.gz")]
    with pytest.raises(InputError, match=r"missing\.nii: no such file; .*gone\.nii\.gz: no such file"):
        upscaler_of(files, tmp_path / "out").run()


def test_result_that_cannot_be_written_is_bad_input(tmp_path, rng):
    files = write_scans(tmp_path, ["a"], rng)
    (tmp_path / "out").write_text("a file where the folder should be")
    with pytest.raises(InputError, match="out"):
        upscaler_of(files, tmp_path / "out").run()


def test_a_bug_is_not_taken_for_bad_input(tmp_path, rng):
    class Broken(RRDBNet):
        def forward(self, image):
            raise ZeroDivisionError("a bug")

    files = write_scans(tmp_path, ["a", "b"], rng)
    with pytest.raises(ZeroDivisionError, match="a bug"):
        upscaler_of(files, tmp_path / "out", network=Broken(3, features=4, growth=4, dense_blocks=1)).run()


def test_nothing_of_a_volume_is_kept(tmp_path, rng):
    upscaler = upscaler_of(write_scans(tmp_path, ["a", "b"], rng), tmp_path / "out")
    upscaler.run()
    assert upscaler.state.output is None and upscaler.state.batch is None and upscaler.data_loader == []


# ---- batches


def test_batches_are_taken_apart():
    lr, hr = torch.rand(1, 1, 2, 2, 2), torch.rand(1, 1, 4, 4, 4)
    taken = prepare_measured_batch({"lr": lr, "hr": hr}, "cpu", dtype=torch.float64)
    assert [t.dtype for t in taken] == [torch.float64] * 2 and torch.equal(taken[1], hr.double())
    volume, label = prepare_volume({"image": lr}, "cpu")
    assert torch.equal(volume, lr) and label is None
