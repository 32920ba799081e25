"""The record of a training run: versions, device, settings, data, duration and results."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from numbers import Real
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events

from medsr_monai.system.errors import InputError, said_once
from medsr_monai.system.json_files import first_line, read_json, write_json
from medsr_monai.system.provenance import canonical_json, device_name, file_digest, now, versions


def scalars(output: Any) -> dict[str, float]:
    """Find the numbers in an engine's output by name: of a dictionary and those within it, or the first of a list."""
    if isinstance(output, Sequence) and not isinstance(output, str):
        output = output[0] if output else {}
    found: dict[str, float] = {}
    for name, value in output.items() if isinstance(output, Mapping) else ():
        if isinstance(value, Mapping):
            found.update(scalars(value))
        elif isinstance(value, Real) or (isinstance(value, torch.Tensor) and value.numel() == 1):
            found[str(name)] = float(value)
    return found


class RunManifest:
    """Write ``run.json``, the record of a training, and update it while the training runs.

    Files are recorded by name and SHA-256, without folders, which often reveal the origin of data; the configuration is
    kept as given. ``status`` is ``running``, ``completed``, ``interrupted`` (by the user, or by a handler that ended
    the run before its last epoch) or ``failed``, with the error's first line. After a kill, it still says ``running``;
    ``updated`` is the last time of writing.

    Args:
        path: the JSON file.
        config: all settings of the run; in a bundle ``medsr_monai.merged_config``.
        splits: files by set, e.g. ``train``, ``val`` and ``test``.
        seed: of all randomness.
        device: device of the run.

    Raises:
        InputError: a file cannot be read.
    """

    def __init__(
        self,
        path: str | Path,
        config: Mapping[str, Any],
        splits: Mapping[str, Sequence[str | Path]],
        seed: int,
        device: str | torch.device,
    ) -> None:
        self.path = Path(path)
        self.config = canonical_json(config)
        self.splits = {name: [Path(file) for file in files] for name, files in splits.items()}
        self.seed = seed
        self.device = torch.device(device)
        self.content: dict[str, Any] = {}
        self._resumed = (0, 0)
        self._earlier_seconds = 0.0
        self._began = time.monotonic()

    def attach(self, trainer: Engine, evaluator: Engine | None = None) -> None:
        """Record at the trainer's start and after each epoch and validation; in a distributed run, only on rank 0.

        Attach it after a checkpoint was resumed: a resumed run continues the record, any other starts a new one.
        """
        self._note_position(trainer)
        if idist.get_rank() != 0:
            return
        trainer.add_event_handler(Events.STARTED, self.start)
        trainer.add_event_handler(Events.EPOCH_COMPLETED, self.update)
        trainer.add_event_handler(Events.COMPLETED, self.complete)
        if evaluator is not None:
            evaluator.add_event_handler(Events.COMPLETED, self.add_validation)

    def run(self, trainer: Engine) -> None:
        """Run the trainer and record how it ended, also after an error, Ctrl-C, or before its first iteration.

        Ignite's event for errors does not work here, because the first handler that raises the error again hides it
        from the others. Bad input is raised, and not logged with a traceback as well.
        """
        self._note_position(trainer)
        try:
            with said_once():
                trainer.run()
        except BaseException as error:
            if idist.get_rank() == 0:
                with suppress(InputError):  # an error of the record must not hide the error that ended the run
                    self.fail(trainer, error)
            raise

    def _note_position(self, trainer: Engine) -> None:
        # If ignite is run past its end, it starts again at 0, so the position is read as early as possible.
        self._resumed = max(self._resumed, (trainer.state.epoch, trainer.state.iteration))

    def start(self, trainer: Engine) -> None:
        """Start a session; it continues the existing record if the trainer resumed from a checkpoint."""
        self._note_position(trainer)
        is_resumed = self._resumed[0] > 0 and self.path.exists()
        earlier = read_json(self.path, "remove it to start a new record") if is_resumed else {}
        self._earlier_seconds = float(earlier.get("seconds", 0.0))
        began = now()
        session = {"started": began, "from_epoch": self._resumed[0]}
        self.content = {
            "status": "running",
            "error": None,
            "started": earlier.get("started", began),
            "versions": versions(),
            "device": device_name(self.device),
            "seed": self.seed,
            "config_sha256": hashlib.sha256(self.config.encode()).hexdigest(),
            "config": json.loads(self.config),
            "splits": {
                name: [{"name": file.name, "sha256": file_digest(file)} for file in files]
                for name, files in self.splits.items()
            },
            "losses": earlier.get("losses", {}),
            # A checkpoint may be older than the last validation of the previous session.
            "validations": [v for v in earlier.get("validations", []) if v["epoch"] <= self._resumed[0]],
            "sessions": [*earlier.get("sessions", []), session],
        }
        self._began = time.monotonic()
        self.update(trainer)

    def update(self, trainer: Engine) -> None:
        """Write the progress of the run."""
        self.content["losses"] = scalars(trainer.state.output) or self.content["losses"]
        position = (trainer.state.epoch, trainer.state.iteration)
        epochs, iterations = position if position[0] > 0 else self._resumed
        self.content.update(epochs=epochs, max_epochs=trainer.state.max_epochs, iterations=iterations)
        self._write()

    def add_validation(self, evaluator: Engine) -> None:
        """Add the metrics of a validation, at the trainer's epoch."""
        if self.content:
            row = {"epoch": evaluator.state.epoch, "metrics": scalars(evaluator.state.metrics)}
            self.content["validations"].append(row)
            self._write()

    def complete(self, trainer: Engine) -> None:
        last = trainer.state.max_epochs
        whole = last is None or max(trainer.state.epoch, self._resumed[0]) >= last
        self._end("completed" if whole else "interrupted")
        self.update(trainer)

    def fail(self, trainer: Engine, error: BaseException) -> None:
        if not self.content:
            self.start(trainer)
        by_user = isinstance(error, KeyboardInterrupt)
        self.content["error"] = None if by_user else f"{type(error).__name__}: {first_line(error)}"
        self._end("interrupted" if by_user else "failed")
        self._write()

    def _end(self, status: str) -> None:
        self.content["status"] = status
        self.content["sessions"][-1]["ended"] = now()

    def _write(self) -> None:
        seconds = round(time.monotonic() - self._began, 3)
        self.content["sessions"][-1].update(
            status=self.content["status"], seconds=seconds, config_sha256=self.content["config_sha256"]
        )
        self.content.update(updated=now(), seconds=round(self._earlier_seconds + seconds, 3))
        write_json(self.content, self.path)
