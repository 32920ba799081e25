"""Checkpoints: what training resumes from, and the best network so far."""

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
    """The network inside a ``DistributedDataParallel``, whose own state dict has other names; anything else as is."""
    return item.module if isinstance(item, DistributedDataParallel) else item


def scalers_of(trainer: Engine) -> dict[str, torch.amp.GradScaler]:
    """The trainer's gradient scalers by name, if it tells them."""
    return trainer.scalers() if hasattr(trainer, "scalers") else {}


def epoch_of(path: Path) -> int:
    """The epoch that a checkpoint's name tells."""
    return int(path.stem.split("=")[1])


def take_up(item: Any, state: Any) -> None:
    """Load a state, except an optimiser's options and a schedule's learning rate, which the settings say anew.

    PyTorch restores them too, so that a training that diverged could not be resumed with a lower learning rate.

    Raises:
        ValueError: the state is another kind of optimiser's; PyTorch would load it and fail at the next step.
    """
    if isinstance(item, Optimizer):
        options = [{key: value for key, value in group.items() if key != "params"} for group in item.param_groups]
        saved = [set(group) - {"params"} for group in state["param_groups"]]
        if saved != [set(group) for group in options]:
            raise ValueError(f"made by another optimiser than {type(item).__name__}")
        item.load_state_dict(state)
        for group, wanted in zip(item.param_groups, options, strict=True):
            rate, base = group["lr"], group.get("initial_lr")
            group.update(wanted)
            scaled = base is not None and base != group["initial_lr"]
            group["lr"] = rate * group["initial_lr"] / base if scaled else rate
    elif isinstance(item, LRScheduler):
        rates = getattr(item, "base_lrs", None)
        item.load_state_dict(state)
        if rates is not None:
            item.base_lrs = rates
    else:
        item.load_state_dict(state)


class ResumableCheckpoint:
    """Save all that training needs to go on exactly where it was, after every epoch; keep the latest few.

    Args:
        directory: where the files lie.
        objects: what has a ``state_dict``: network, EMA network, optimizer, schedule. The trainer's position, and its
            gradient scalers if it has ``scalers()``, are added by ``attach``.
        keep: how many files to keep.
        weights: name of one of the objects, whose state is also saved alone as ``model.pt``, the file that a bundle
            ships.
    """

    def __init__(
        self, directory: str | Path, objects: Mapping[str, Any], keep: int = 2, weights: str | None = "ema"
    ) -> None:
        if weights is not None and weights not in objects:
            raise InputError(f"checkpoint: weights '{weights}' is none of {sorted(objects)}")
        self.directory = Path(directory)
        self.objects = dict(objects)
        self.keep = keep
        self.weights = weights

    def attach(self, trainer: Engine) -> None:
        """Save after every epoch of the trainer."""
        trainer.add_event_handler(Events.EPOCH_COMPLETED, self.save)

    def checkpoints(self) -> list[Path]:
        """The files that can be resumed from, oldest first."""
        return sorted(self.directory.glob(CHECKPOINT_NAME.format(epoch="*")), key=epoch_of)

    def save(self, trainer: Engine) -> None:
        """Write the checkpoint of the epoch just completed and remove the oldest; in a distributed run, rank 0 does."""
        if idist.get_rank() != 0:
            return
        state: dict[str, Any] = {name: unwrapped(item).state_dict() for name, item in self.objects.items()}
        scalers = {name: scaler.state_dict() for name, scaler in scalers_of(trainer).items()}
        position = {"epoch": trainer.state.epoch, "epoch_length": trainer.state.epoch_length}
        state["trainer"] = {**position, "scalers": scalers}
        save_atomically(state, self.directory / CHECKPOINT_NAME.format(epoch=trainer.state.epoch))
        if self.weights is not None:
            save_atomically(state[self.weights], self.directory / "model.pt")
        # Those of later epochs are an earlier run's, which this one did not resume: not this one's to remove.
        for old in [path for path in self.checkpoints() if epoch_of(path) <= trainer.state.epoch][: -self.keep]:
            old.unlink()

    def resume(self, trainer: Engine) -> int:
        """Load the latest checkpoint, if there is one; after that of the last epoch there is nothing left to run.

        Learning rates and the optimisers' options are those of the settings, not of the checkpoint.

        Returns:
            The epoch reached, 0 without a checkpoint.

        Raises:
            InputError: the file is damaged or was made by another configuration.
        """
        found = self.checkpoints()
        if not found:
            return 0
        try:
            state = torch.load(found[-1], map_location="cpu", weights_only=True)
            for name, item in self.objects.items():
                take_up(unwrapped(item), state[name])
            for name, scaler in scalers_of(trainer).items():
                # Nothing is saved of one that did not scale, on another device; it then begins as a new one does.
                if saved := state["trainer"].get("scalers", {}).get(name):
                    scaler.load_state_dict(saved)
            epoch, length = state["trainer"]["epoch"], state["trainer"]["epoch_length"]
        except Exception as error:
            message = f"{found[-1]}: cannot resume: {first_line(error)}; remove it or set 'resume' to false"
            raise InputError(message) from error
        if length != trainer.state.epoch_length:
            raise InputError(
                f"{found[-1]}: epochs of {length} iterations, now {trainer.state.epoch_length}; "
                "keep 'epoch_length', or begin anew in another 'ckpt_dir'"
            )
        # Only the position is restored: the run may have been given more epochs than the one that was interrupted.
        trainer.state.epoch = epoch
        trainer.state.iteration = epoch * length
        if trainer.state.max_epochs is not None and epoch >= trainer.state.max_epochs:
            # Asked to run past its end, ignite would start anew at epoch 0, with these weights.
            trainer.add_event_handler(Events.STARTED, lambda engine: engine.terminate())
        return epoch


class BestCheckpoint:
    """Keep the weights of the network with the best figure so far, a bundle's ``model.pt`` by another name.

    Beside the weights lies a JSON file of the same name with the figure and its epoch, so that a resumed training goes
    on to compare with the best of all its sessions.

    Args:
        directory: where the files lie.
        network: whose weights are saved, usually ``EMAHandler.ema_model``.
        metric: a name that the evaluator measures, e.g. ``psnr``.
        mode: ``max`` if a larger figure is better, ``min`` if a smaller one is.
        name: of the weights; default ``best_METRIC.pt``.
        resume: compare with the best that the folder holds; otherwise the first validation replaces it.

    Raises:
        InputError: another mode, or a JSON file that is damaged or of another metric.
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
            raise InputError(f"best checkpoint: mode '{mode}': choose 'max' or 'min'")
        self.path = Path(directory) / (name or f"best_{metric}.pt")
        self.record_path = self.path.with_suffix(".json")
        self.network = network
        self.metric = metric
        self.mode = mode
        self.best: float | None = self._recorded() if resume else None

    def _recorded(self) -> float | None:
        """The best figure of an earlier session, None without one or without its weights."""
        if not (self.record_path.exists() and self.path.exists()):
            return None
        record = read_json(self.record_path, "remove it or set 'resume' to false")
        found = record.get("metric"), record.get("mode")
        if found != (self.metric, self.mode):
            raise InputError(
                f"{self.record_path}: best {found[0]} ({found[1]}), now {self.metric} ({self.mode}): give another name"
            )
        if not isinstance(record.get("best"), (int, float, str)):
            raise InputError(f"{self.record_path}: has no 'best'; remove it or set 'resume' to false")
        return float(record["best"])

    def attach(self, evaluator: Engine) -> None:
        """Compare after every validation."""
        # Metrics are computed when the epoch is complete, in the order of attachment; here all of them are there.
        evaluator.add_event_handler(Events.COMPLETED, self.compare)

    def compare(self, evaluator: Engine) -> None:
        """Save the network if it is the best so far; in a distributed run, rank 0 does.

        Raises:
            InputError: the evaluator does not measure the metric; the message lists what it does measure.
            FloatingPointError: the metric is not a number.
        """
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
            # Second: if the run ends in between, the weights are better than recorded, never worse.
            write_json({"metric": self.metric, "mode": self.mode, "best": value, "epoch": epoch}, self.record_path)
