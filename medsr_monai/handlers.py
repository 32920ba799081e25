"""Handlers that an engine takes: checkpoints to resume from, a table of results per case."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from torch import Tensor

from medsr_monai.acquisition import SeparableAcquisition
from medsr_monai.atomic import replacing
from medsr_monai.errors import InputError
from medsr_monai.interpolation import cubic_bspline
from medsr_monai.metrics import (
    foreground_mask,
    foreground_percentile,
    gradient_magnitude_distance,
    psnr,
    spectrum_distance,
    ssim,
)

CHECKPOINT_NAME = "checkpoint_epoch={epoch}.pt"


def save_atomically(objects: Any, path: str | Path) -> Path:
    """``torch.save`` under a temporary name beside, then rename: a crash leaves the old file or the new one, never a
    half.

    Raises:
        InputError: the folder cannot be written.
    """
    path = Path(path)
    try:
        with replacing(path) as temporary:
            torch.save(objects, temporary)
    except (OSError, RuntimeError) as error:  # PyTorch reports a full disk as a RuntimeError
        raise InputError(f"{path}: cannot write: {_first_line(error)}") from error
    return path


def _first_line(error: Exception) -> str:
    """What an error says, without the stack that PyTorch appends."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


class ResumableCheckpoint:
    """Save all that training needs to go on exactly where it was, after every epoch; keep the latest few.

    Args:
        directory: where the files lie.
        objects: what has a ``state_dict``: network, EMA network, optimizer, schedule. The trainer is added by
            ``attach``.
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
        found = self.directory.glob(CHECKPOINT_NAME.format(epoch="*"))
        return sorted(found, key=lambda path: int(path.stem.split("=")[1]))

    def save(self, trainer: Engine) -> None:
        """Write the checkpoint of the epoch just completed and remove the oldest."""
        state: dict[str, Any] = {name: item.state_dict() for name, item in self.objects.items()}
        state["trainer"] = {"epoch": trainer.state.epoch, "epoch_length": trainer.state.epoch_length}
        save_atomically(state, self.directory / CHECKPOINT_NAME.format(epoch=trainer.state.epoch))
        if self.weights is not None:
            save_atomically(state[self.weights], self.directory / "model.pt")
        for old in self.checkpoints()[: -self.keep]:
            old.unlink()

    def resume(self, trainer: Engine) -> int:
        """Load the latest checkpoint, if there is one; after that of the last epoch there is nothing left to run.

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
                item.load_state_dict(state[name])
            epoch, length = state["trainer"]["epoch"], state["trainer"]["epoch_length"]
        except Exception as error:
            message = f"{found[-1]}: cannot resume: {_first_line(error)}; remove it or set 'resume' to false"
            raise InputError(message) from error
        if length != trainer.state.epoch_length:
            raise InputError(f"{found[-1]}: epochs of {length} iterations, now {trainer.state.epoch_length}")
        # Only the position is restored: the run may have been given more epochs than the one that was interrupted.
        trainer.state.epoch = epoch
        trainer.state.iteration = epoch * length
        if trainer.state.max_epochs is not None and epoch >= trainer.state.max_epochs:
            # Asked to run past its end, ignite would start anew at epoch 0, with these weights.
            trainer.add_event_handler(Events.STARTED, lambda engine: engine.terminate())
        return epoch


class CaseTable:
    """Fidelity per case, beside cubic B-spline interpolation of the same measurement, as a CSV file.

    Columns: ``case``, ``profile`` and ``noise`` of the simulated acquisition; of both, over the foreground
    (conventions: :mod:`medsr_monai.metrics`), PSNR in dB, SSIM, and the distances of gradient magnitudes (no unit) and
    of spectra (dB), which are 0 for equal texture; ``consistency_max``, the largest ``|A(sr) - lr|`` as a share of the
    reference's range. The last row is the mean.

    Args:
        path: the CSV file; written when the evaluation is complete.
        profile: the simulated acquisition.
        noise: its noise.
    """

    MEASURES = {
        "psnr": psnr,
        "ssim": ssim,
        "gradient_distance": gradient_magnitude_distance,
        "spectrum_distance": spectrum_distance,
    }
    SCORES = (*(f"{measure}_{image}" for measure in MEASURES for image in ("cubic", "sr")), "consistency_max")

    def __init__(self, path: str | Path, profile: str = "box", noise: float = 0.0) -> None:
        self.path = Path(path)
        self.profile = profile
        self.noise = noise
        self.rows: list[dict[str, Any]] = []

    def attach(self, evaluator: Engine) -> None:
        """Add a row after every iteration, and write at the end."""
        evaluator.add_event_handler(Events.STARTED, lambda engine: self.rows.clear())
        evaluator.add_event_handler(Events.ITERATION_COMPLETED, self.add)
        evaluator.add_event_handler(Events.COMPLETED, self.write)

    def add(self, evaluator: Engine) -> None:
        """Measure the cases of one iteration, decollated: ``image`` (the measurement), ``pred`` and ``label``."""
        state: Any = evaluator.state
        for item, output in zip(state.batch, state.output, strict=True):
            lr, sr, hr = (output[key][None].as_subclass(Tensor) for key in ("image", "pred", "label"))
            row = {"case": item["case"], "profile": self.profile, "noise": self.noise, **self.score(lr, sr, hr)}
            self.rows.append(row)
            print("  ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{v}" for k, v in row.items()), flush=True)

    def score(self, lr: Tensor, sr: Tensor, hr: Tensor) -> dict[str, float]:
        """The scores of one case.

        Args:
            lr: (1, 1, *lr_shape).
            sr: (1, 1, *hr_shape).
            hr: (1, 1, *hr_shape).
        """
        unit = foreground_percentile(hr).reshape(-1, *[1] * (hr.ndim - 1))
        reference = hr / unit
        mask = foreground_mask(reference)
        cubic = cubic_bspline(lr, hr.shape[2:])
        acquisition = SeparableAcquisition.from_profile(hr.shape[2:], lr.shape[2:], self.profile)
        residual = (acquisition.forward(sr) - lr).abs().max() / (hr.max() - hr.min())
        values = [measure(image / unit, reference, mask) for measure in self.MEASURES.values() for image in (cubic, sr)]
        return {name: float(value) for name, value in zip(self.SCORES, [*values, residual], strict=True)}

    def write(self, evaluator: Engine) -> None:
        """Write the table under a temporary name beside, then rename."""
        mean = {name: sum(row[name] for row in self.rows) / len(self.rows) for name in self.SCORES}
        try:
            with replacing(self.path) as temporary, open(temporary, "w", newline="") as file:
                writer = csv.DictWriter(file, ["case", "profile", "noise", *self.SCORES])
                writer.writeheader()
                writer.writerows([*self.rows, {"case": "mean", "profile": self.profile, "noise": self.noise, **mean}])
        except OSError as error:
            raise InputError(f"{self.path}: cannot write: {error.strerror or error}") from error
