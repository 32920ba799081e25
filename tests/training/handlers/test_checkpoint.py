"""Training that was interrupted ends as if it had not been; a crash while saving leaves the old file."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import ignite.distributed as idist
import numpy as np
import pytest
import torch
from ignite.engine import Events
from ignite.handlers import EMAHandler
from monai.handlers import LrScheduleHandler
from monai.transforms import Compose, RandAxisFlipd, RandSpatialCropd, ToTensord
from torch import Tensor, nn
from torch.utils.data import DataLoader

from medsr_monai.networks import RRDBNet, load_weights
from medsr_monai.system.errors import InputError
from medsr_monai.system.json_files import save_atomically
from medsr_monai.training import FidelityTrainer, warmup_stable_decay
from medsr_monai.training.data import RandomPatchDataset
from medsr_monai.training.handlers import ResumableCheckpoint
from medsr_monai.transforms import RandAcquired

EPOCH_LENGTH = 2


@dataclass
class Run:
    """A training as train.json puts it together."""

    network: nn.Module
    ema: EMAHandler
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    checkpoint: ResumableCheckpoint
    trainer: FidelityTrainer
    losses: list[float]

    def states(self) -> dict:
        return {name: item.state_dict() for name, item in self.checkpoint.objects.items()}


def adam(parameters) -> torch.optim.Optimizer:
    return torch.optim.Adam(parameters, lr=1e-2)


def run_of(
    folder: Path,
    epochs: int,
    num_workers: int = 0,
    features: int = 4,
    seed: int = 0,
    half: bool = False,
    optimiser=adam,
    **checkpoint,
) -> Run:
    torch.manual_seed(seed)
    network = RRDBNet(3, features=features, growth=4, dense_blocks=1)
    optimizer = optimiser(network.parameters())
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, warmup_stable_decay(2, 8, 3))
    ema = EMAHandler(network, momentum=0.1)
    images = [{"hr": np.random.default_rng(i).random((1, 10, 10, 10), dtype=np.float32)} for i in range(3)]
    transform = Compose(
        [
            RandSpatialCropd("hr", roi_size=(8, 8, 8), random_size=False),
            RandAxisFlipd("hr", prob=0.5),
            ToTensord("hr", track_meta=False),
            RandAcquired("hr", noise_prob=0.5),
        ]
    )
    dataset = RandomPatchDataset(images, transform, length=EPOCH_LENGTH * 2, seed=1)
    trainer = FidelityTrainer(
        device=torch.device("cpu"),
        max_epochs=epochs,
        train_data_loader=DataLoader(dataset, batch_size=2, num_workers=num_workers),
        network=network,
        optimizer=optimizer,
        loss_function=nn.L1Loss(),
        amp=half,
        amp_dtype=torch.float16 if half else None,
        train_handlers=[LrScheduleHandler(schedule, print_lr=False, epoch_level=False)],
    )
    objects = {"network": network, "ema": ema.ema_model, "optimizer": optimizer, "lr_scheduler": schedule}
    run = Run(network, ema, optimizer, schedule, ResumableCheckpoint(folder, objects, **checkpoint), trainer, [])
    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda e: run.losses.append(float(e.state.output["loss"])))
    ema.attach(trainer, name="ema_momentum")
    run.checkpoint.attach(trainer)
    return run


def assert_equal(a, b, where: str = "") -> None:
    """Bit for bit, whatever a state dict holds."""
    assert type(a) is type(b), where
    if isinstance(a, Tensor):
        assert a.dtype == b.dtype and torch.equal(a, b), where
    elif isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for key in a:
            assert_equal(a[key], b[key], f"{where}/{key}")
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b), where
        for index, pair in enumerate(zip(a, b, strict=True)):
            assert_equal(*pair, f"{where}/{index}")
    else:
        assert a == b, where


# ---- resuming


@pytest.mark.parametrize("num_workers", [0, 1])
def test_interrupted_training_ends_as_if_it_had_not_been(num_workers, tmp_path):
    whole = run_of(tmp_path / "whole", 4, num_workers)
    whole.trainer.run()

    first = run_of(tmp_path / "parts", 2, num_workers)
    first.trainer.run()
    # Another seed: everything that counts must come from the checkpoint.
    second = run_of(tmp_path / "parts", 4, num_workers, seed=99)
    assert second.checkpoint.resume(second.trainer) == 2
    second.trainer.run()

    assert second.trainer.state.epoch == whole.trainer.state.epoch == 4
    assert second.trainer.state.iteration == whole.trainer.state.iteration == 4 * EPOCH_LENGTH
    assert first.losses + second.losses == whole.losses
    assert len(set(whole.losses)) == len(whole.losses)
    assert_equal(second.states(), whole.states())
    weights = [torch.load(tmp_path / name / "model.pt", weights_only=True) for name in ("whole", "parts")]
    assert_equal(*weights)


def test_gradient_scalers_are_restored(tmp_path):
    """A scaler that has lowered its scale, and counts the steps since, goes on from there."""

    def half_of(folder: str, epochs: int, seed: int = 0) -> Run:
        run = run_of(tmp_path / folder, epochs, half=True, seed=seed)
        run.trainer.gradient_scaler = torch.amp.GradScaler("cpu", init_scale=2.0**7, growth_interval=3)
        return run

    whole, first = half_of("whole", 4), half_of("parts", 2)
    whole.trainer.run()
    first.trainer.run()
    second = half_of("parts", 4, seed=99)
    second.checkpoint.resume(second.trainer)
    assert_equal(second.trainer.gradient_scaler.state_dict(), first.trainer.gradient_scaler.state_dict())
    assert (
        second.trainer.gradient_scaler.state_dict()["scale"] == 2.0**8
        and first.trainer.gradient_scaler._growth_tracker == 1
    )
    second.trainer.run()
    assert_equal(second.trainer.gradient_scaler.state_dict(), whole.trainer.gradient_scaler.state_dict())
    assert first.losses + second.losses == whole.losses
    assert_equal(second.states(), whole.states())


def test_a_scaler_begins_anew_where_the_checkpoint_did_not_scale(tmp_path):
    run_of(tmp_path, 1).trainer.run()
    state = torch.load(tmp_path / "checkpoint_epoch=1.pt", weights_only=True)
    assert state["trainer"]["scalers"] == {"scaler": {}}
    scaled = run_of(tmp_path, 2, half=True)
    before = scaled.trainer.gradient_scaler.state_dict()
    assert scaled.checkpoint.resume(scaled.trainer) == 1 and scaled.trainer.gradient_scaler.state_dict() == before != {}


def test_the_average_and_the_weights_are_both_restored(tmp_path):
    first = run_of(tmp_path, 2)
    first.trainer.run()
    second = run_of(tmp_path, 4, seed=99)
    second.checkpoint.resume(second.trainer)
    assert_equal(second.states(), first.states())
    pairs = zip(first.network.parameters(), first.ema.ema_model.parameters(), strict=True)
    assert not all(torch.equal(a, b) for a, b in pairs), "the average must lag behind"
    assert second.optimizer.param_groups[0]["lr"] == first.optimizer.param_groups[0]["lr"]


def test_training_that_is_complete_does_nothing_more(tmp_path):
    run_of(tmp_path, 2).trainer.run()
    again = run_of(tmp_path, 2, seed=99)
    again.checkpoint.resume(again.trainer)
    before = again.states()["network"]["head.weight"].clone()
    again.trainer.run()
    assert again.losses == [] and torch.equal(again.states()["network"]["head.weight"], before)
    assert [path.name for path in again.checkpoint.checkpoints()] == ["checkpoint_epoch=1.pt", "checkpoint_epoch=2.pt"]


def test_nothing_to_resume_from(tmp_path):
    run = run_of(tmp_path / "empty", 1)
    before = {name: value.clone() for name, value in run.network.state_dict().items()}
    assert run.checkpoint.resume(run.trainer) == 0
    assert_equal(dict(run.network.state_dict()), before)


def test_a_new_run_in_an_old_folder_keeps_its_own(tmp_path):
    run_of(tmp_path, 5, keep=1).trainer.run()
    again = run_of(tmp_path, 2, keep=1)
    again.trainer.run()
    assert {path.name for path in again.checkpoint.checkpoints()} == {"checkpoint_epoch=2.pt", "checkpoint_epoch=5.pt"}


@pytest.mark.parametrize("keep", [1, 2])
def test_only_the_newest_stay(keep, tmp_path):
    run = run_of(tmp_path, 4, keep=keep)
    run.trainer.run()
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [*(f"checkpoint_epoch={epoch}.pt" for epoch in range(5 - keep, 5)), "model.pt"]


def test_epochs_are_ordered_as_numbers(tmp_path):
    for epoch in (9, 10, 100, 11):
        (tmp_path / f"checkpoint_epoch={epoch}.pt").touch()
    found = ResumableCheckpoint(tmp_path, {}, weights=None).checkpoints()
    assert [path.stem.split("=")[1] for path in found] == ["9", "10", "11", "100"]


def test_shipped_weights_are_the_average(tmp_path):
    run = run_of(tmp_path, 1)
    run.trainer.run()
    loaded = load_weights(RRDBNet(3, features=4, growth=4, dense_blocks=1), tmp_path / "model.pt")
    assert_equal(dict(loaded.state_dict()), dict(run.ema.ema_model.state_dict()))


def test_weights_that_are_none_of_the_objects_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"weights 'ema' must be one of \['network'\]"):
        ResumableCheckpoint(tmp_path, {"network": nn.Linear(1, 1)})


def damage_half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def damage_empty(path: Path) -> None:
    path.write_bytes(b"")


def damage_text(path: Path) -> None:
    path.write_text("no checkpoint\nat all\n")


def foreign_weights(path: Path) -> None:
    torch.save({"weight": torch.zeros(3)}, path)


def foreign_tensor(path: Path) -> None:
    torch.save(torch.zeros(3), path)


def foreign_pickle(path: Path) -> None:
    torch.save({"network": Path("x")}, path)


def foreign_network(path: Path) -> None:
    folder = path.parent / "other"
    run_of(folder, 1, features=6).trainer.run()
    os.replace(folder / "checkpoint_epoch=1.pt", path)


@pytest.mark.parametrize(
    "spoil",
    [damage_half, damage_empty, damage_text, foreign_weights, foreign_tensor, foreign_pickle, foreign_network],
)
def test_damaged_or_foreign_checkpoint_is_one_line(spoil, tmp_path):
    run_of(tmp_path, 1).trainer.run()
    path = tmp_path / "checkpoint_epoch=1.pt"
    spoil(path)
    run = run_of(tmp_path, 2)
    with pytest.raises(InputError) as caught:
        run.checkpoint.resume(run.trainer)
    message = str(caught.value)
    assert message.startswith(f"{path}: cannot resume: ") and "\n" not in message
    assert message.endswith("; remove it or set 'resume' to false")


def test_a_lower_learning_rate_and_other_options_are_those_of_the_settings(tmp_path):
    first = run_of(tmp_path, 2)
    first.trainer.run()
    second = run_of(
        tmp_path, 4, optimiser=lambda parameters: torch.optim.Adam(parameters, lr=1e-3, betas=(0.5, 0.9)), seed=99
    )
    second.checkpoint.resume(second.trainer)
    (before,), (group,) = first.optimizer.param_groups, second.optimizer.param_groups
    assert group["betas"] == (0.5, 0.9) and group["initial_lr"] == 1e-3
    assert group["lr"] == pytest.approx(before["lr"] / 10)
    assert_equal(second.optimizer.state_dict()["state"], first.optimizer.state_dict()["state"])
    second.trainer.run()
    assert group["lr"] == pytest.approx(1e-3 * warmup_stable_decay(2, 8, 3)(8))


def test_the_checkpoint_of_another_optimiser_is_one_line(tmp_path):
    run_of(tmp_path, 1).trainer.run()
    run = run_of(tmp_path, 2, optimiser=lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9))
    with pytest.raises(InputError, match=r"checkpoint_epoch=1\.pt: cannot resume: made by another optimiser than SGD;"):
        run.checkpoint.resume(run.trainer)


def test_checkpoint_of_other_epochs_is_refused(tmp_path):
    run_of(tmp_path, 1).trainer.run()
    run = run_of(tmp_path, 2)
    run.trainer.state.epoch_length = 7
    with pytest.raises(InputError, match=r"checkpoint_epoch=1\.pt: epochs of 2 iterations, now 7; keep .epoch_length."):
        run.checkpoint.resume(run.trainer)


# ---- saving


@pytest.mark.parametrize("crash", [KeyboardInterrupt, MemoryError, ZeroDivisionError])
def test_a_crash_while_saving_leaves_the_old_file(crash, tmp_path, monkeypatch):
    path = save_atomically({"a": torch.ones(3)}, tmp_path / "deep" / "model.pt")

    def torn(objects, file):
        Path(file).write_bytes(b"half a ")
        raise crash

    monkeypatch.setattr(torch, "save", torn)
    with pytest.raises(crash):
        save_atomically({"a": torch.zeros(3)}, path)
    assert os.listdir(path.parent) == ["model.pt"], "nothing temporary stays"
    assert torch.equal(torch.load(path, weights_only=True)["a"], torch.ones(3))


@pytest.mark.parametrize(
    "error",
    [OSError(28, "No space left on device"), RuntimeError("write failed: No space left on device\nframe #0: c10\n")],
    ids=["os", "torch"],
)
def test_a_full_disk_while_saving_is_bad_input(error, tmp_path, monkeypatch):
    path = save_atomically({"a": torch.ones(3)}, tmp_path / "model.pt")

    def full(objects, file):
        Path(file).write_bytes(b"half a ")
        raise error

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(InputError, match=r"model\.pt: cannot write: .*No space left on device$") as caught:
        save_atomically({"a": torch.zeros(3)}, path)
    assert "\n" not in str(caught.value)
    assert os.listdir(tmp_path) == ["model.pt"]
    assert torch.equal(torch.load(path, weights_only=True)["a"], torch.ones(3))


def test_a_write_that_pytorch_does_not_explain_is_said_plainly(tmp_path, monkeypatch):
    def full(objects, file):
        raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 768 vs 662\nframe #0: c10\n")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(InputError, match=r"model\.pt: cannot write: not all of it .* disk full\?$"):
        save_atomically({}, tmp_path / "model.pt")


def test_a_folder_that_is_a_file_is_bad_input(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"model\.pt: cannot write: "):
        save_atomically({}, tmp_path / "file" / "model.pt")


def test_others_may_read_what_is_saved(tmp_path):
    path = save_atomically({"a": torch.ones(3)}, tmp_path / "model.pt")
    assert path.stat().st_mode & 0o777 == 0o644


# ---- several processes


def test_only_the_first_process_writes(tmp_path, monkeypatch):
    monkeypatch.setattr(idist, "get_rank", lambda: 1)
    run_of(tmp_path, 1).trainer.run()
    assert list(tmp_path.iterdir()) == []


def test_a_wrapped_network_is_saved_and_loaded_without_its_wrapper(tmp_path):
    meeting = f"file://{tmp_path / 'meeting'}"
    idist.initialize("gloo", init_method=meeting, rank=0, world_size=1, timeout=timedelta(seconds=60))
    try:
        run = run_of(tmp_path / "runs", 1)
        run.checkpoint.objects["network"] = nn.parallel.DistributedDataParallel(run.network)
        run.trainer.run()
        state = torch.load(tmp_path / "runs" / "checkpoint_epoch=1.pt", weights_only=True)["network"]
        assert_equal(dict(state), dict(run.network.state_dict()))
        again = run_of(tmp_path / "runs", 2, seed=99)
        again.checkpoint.objects["network"] = nn.parallel.DistributedDataParallel(again.network)
        again.checkpoint.resume(again.trainer)
        assert_equal(dict(again.network.state_dict()), dict(run.network.state_dict()))
    finally:
        idist.finalize()
