"""Checkpoints: the state from which training resumes, and the best network so far."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from medsr_monai.system.errors import InputError
from medsr_monai.system.json_files import first_line, read_json, save_atomically, write_json

CHECKPOINT_NAME = "checkpoint_epoch={epoch}.pt"


def unwrapped(item: Any) -> Any:
    """Unwrap a ``DistributedDataParallel``, whose state dict has other names; return anything else unchanged."""
    return item.module if isinstance(item, DistributedDataParallel) else item


def scalers_of(trainer: Engine) -> dict[str, torch.amp.GradScaler]:
    return trainer.scalers() if hasattr(trainer, "scalers") else {}


def epoch_of(path: Path) -> int:
    return int(path.stem.split("=")[1])


def take_up(item: Any, state: Any) -> None:
    """Load a state, except an optimiser's options and a schedule's learning rate, which come from the settings.

    PyTorch restores these too, and a diverged training could not be resumed with a lower learning rate.
    """
    if isinstance(item, Optimizer):
        options = [{key: value for key, value in group.items() if key != "params"} for group in item.param_groups]
        saved = [set(group) - {"params"} for group in state["param_groups"]]
        if saved != [set(group) for group in options]:  # PyTorch would load it and fail at the next step
            raise ValueError(f"made by another optimiser than {type(item).__name__}")
        item.load_state_dict(state)
        for group, wanted in zip(item.param_groups, options, strict=True):
            learning_rate, base = group["lr"], group.get("initial_lr")
            group.update(wanted)
            is_rescaled = base is not None and base != group["initial_lr"]
            group["lr"] = learning_rate * group["initial_lr"] / base if is_rescaled else learning_rate
    elif isinstance(item, LRScheduler):
        item.load_state_dict({key: value for key, value in state.items() if key != "base_lrs"})
    else:
        item.load_state_dict(state)


class ResumableCheckpoint:
    """Save after every epoch all state that an exact resumption needs; keep the latest files.

    Args:
        directory: folder of the files.
        objects: objects with a ``state_dict``: network, EMA network, optimizer, schedule. ``save`` adds the trainer's
            position, and its gradient scalers if it has ``scalers()``.
        keep: number of files to keep.
        weights: name of one of the objects; its state is also saved alone as ``model.pt``, the file that a bundle
            ships.

    Raises:
        InputError: ``weights`` is not one of the objects.
    """

    def __init__(
        self, directory: str | Path, objects: Mapping[str, Any], keep: int = 2, weights: str | None = "ema"
    ) -> None:
        if weights is not None and weights not in objects:
            raise InputError(f"checkpoint: weights '{weights}' must be one of {sorted(objects)}")
        self.directory = Path(directory)
        self.objects = dict(objects)
        self.keep = keep
        self.weights = weights

    def attach(self, trainer: Engine) -> None:
        trainer.add_event_handler(Events.EPOCH_COMPLETED, self.save)

    def checkpoints(self) -> list[Path]:
        """The files from which a run can resume, oldest first."""
        return sorted(self.directory.glob(CHECKPOINT_NAME.format(epoch="*")), key=epoch_of)

    def save(self, trainer: Engine) -> None:
        """Write the checkpoint of the completed epoch and remove the oldest; in a distributed run, only on rank 0."""
        if idist.get_rank() != 0:
            return
        state: dict[str, Any] = {name: unwrapped(item).state_dict() for name, item in self.objects.items()}
        scalers = {name: scaler.state_dict() for name, scaler in scalers_of(trainer).items()}
        position = {"epoch": trainer.state.epoch, "epoch_length": trainer.state.epoch_length}
        state["trainer"] = {**position, "scalers": scalers}
        save_atomically(state, self.directory / CHECKPOINT_NAME.format(epoch=trainer.state.epoch))
        if self.weights is not None:
            save_atomically(state[self.weights], self.directory / "model.pt")
        # Checkpoints of later epochs belong to an earlier run that was not resumed, so they are not removed.
        for old in [path for path in self.checkpoints() if epoch_of(path) <= trainer.state.epoch][: -self.keep]:
            old.unlink()

    def resume(self, trainer: Engine) -> int:
        """Load the latest checkpoint and return its epoch, 0 without one.

        After the last epoch, the trainer then has nothing to run. Learning rates and the optimisers' options come from
        the settings, not from the checkpoint.

        Raises:
            InputError: the file is damaged or belongs to another configuration.
        """
        found = self.checkpoints()
        if not found:
            return 0
        try:
            state = torch.load(found[-1], map_location="cpu", weights_only=True)
            for name, item in self.objects.items():
                take_up(unwrapped(item), state[name])
            for name, scaler in scalers_of(trainer).items():
                # A disabled scaler (another device) saves nothing; the scaler then starts as a new one.
                if saved := state["trainer"].get("scalers", {}).get(name):
                    scaler.load_state_dict(saved)
            epoch, length = state["trainer"]["epoch"], state["trainer"]["epoch_length"]
        except Exception as error:
            message = f"{found[-1]}: cannot resume: {first_line(error)}; remove it or set 'resume' to false"
            raise InputError(message) from error
        if length != trainer.state.epoch_length:
            raise InputError(
                f"{found[-1]}: epochs of {length} iterations, now {trainer.state.epoch_length}; "
                "keep 'epoch_length', or start again in another 'ckpt_dir'"
            )
        # Only the position is restored, because this run may have more epochs than the interrupted one.
        trainer.state.epoch = epoch
        trainer.state.iteration = epoch * length
        if trainer.state.max_epochs is not None and epoch >= trainer.state.max_epochs:
            # If ignite is run past its end, it starts again at epoch 0, with these weights.
            trainer.add_event_handler(Events.STARTED, lambda engine: engine.terminate())
        return epoch


class BestCheckpoint:
    """Keep the weights of the network with the best figure so far, in the format of a bundle's ``model.pt``.

    A JSON file of the same name beside the weights holds the figure and its epoch. So a resumed training compares with
    the best of all its sessions.

    Args:
        directory: folder of the files.
        network: the network to save, usually ``EMAHandler.ema_model``.
        metric: a metric of the evaluator, e.g. ``psnr``.
        mode: ``max`` if a larger figure is better, ``min`` if a smaller one is.
        name: file name of the weights; default ``best_METRIC.pt``.
        resume: True compares with the best in the folder; otherwise the first validation replaces it.

    Raises:
        InputError: the mode is unknown, or the JSON file is damaged or of another metric.
    """

    def __init__(
        self,
        directory: str | Path,
        network: nn.Module,
        metric: str,
        mode: str = "max",
        name: str | None = None,
        resume: bool = True,
    ) -> None:
        if mode not in ("max", "min"):
            raise InputError(f"best checkpoint: mode '{mode}' must be 'max' or 'min'")
        self.path = Path(directory) / (name or f"best_{metric}.pt")
        self.record_path = self.path.with_suffix(".json")
        self.network = network
        self.metric = metric
        self.mode = mode
        self.best: float | None = self._recorded() if resume else None

    def _recorded(self) -> float | None:
        """The best figure of an earlier session; None without it or its weights."""
        if not (self.record_path.exists() and self.path.exists()):
            return None
        record = read_json(self.record_path, "remove it or set 'resume' to false")
        found = record.get("metric"), record.get("mode")
        if found != (self.metric, self.mode):
            raise InputError(
                f"{self.record_path}: best {found[0]} ({found[1]}), now {self.metric} ({self.mode}); give another name"
            )
        if not isinstance(record.get("best"), (int, float, str)):
            raise InputError(f"{self.record_path}: has no 'best'; remove it or set 'resume' to false")
        return float(record["best"])

    def attach(self, evaluator: Engine) -> None:
        # EPOCH_COMPLETED computes the metrics in the order of attachment; at COMPLETED, all of them exist.
        evaluator.add_event_handler(Events.COMPLETED, self.compare)

    def compare(self, evaluator: Engine) -> None:
        """Save the network if it is the best so far; in a distributed run, only on rank 0."""
        if self.metric not in evaluator.state.metrics:
            known = ", ".join(sorted(evaluator.state.metrics)) or "nothing"
            raise InputError(f"best checkpoint: no metric is named '{self.metric}'; the evaluator measures {known}")
        value = float(evaluator.state.metrics[self.metric])
        epoch = evaluator.state.epoch
        if math.isnan(value):
            raise FloatingPointError(f"validation of epoch {epoch}: {self.metric} is not a number")
        if self.best is not None and (value <= self.best if self.mode == "max" else value >= self.best):
            return
        self.best = value
        if idist.get_rank() == 0:
            save_atomically(unwrapped(self.network).state_dict(), self.path)
            # Write the record second: if the run ends in between, the weights are better than recorded, never worse.
            write_json({"metric": self.metric, "mode": self.mode, "best": value, "epoch": epoch}, self.record_path)
