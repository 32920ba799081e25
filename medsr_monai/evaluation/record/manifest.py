"""What an evaluation was made with: its manifest, and whether a folder holds another one."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from medsr_monai.evaluation.distributions import describe
from medsr_monai.system.errors import InputError
from medsr_monai.system.json_files import read_json, write_json
from medsr_monai.system.provenance import canonical_json, device_name, file_digest, now, versions
from medsr_monai.system.version import __version__

if TYPE_CHECKING:
    from medsr_monai.evaluation.evaluation import Evaluation

FORMAT = "medsr-evaluation-run"


def state_digest(network: nn.Module) -> str:
    """SHA-256 of a network's weights."""
    digest = hashlib.sha256()
    for name, values in network.state_dict().items():
        digest.update(name.encode())
        digest.update(values.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def identity_of(evaluation: Evaluation, weights: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    """What every figure of an evaluation depends on, whichever cases, conditions and methods it has.

    Args:
        evaluation: of which.
        weights: SHA-256 of files of weights by the method that reads them.

    Returns:
        What can be written as JSON.
    """
    features = evaluation.perceptual_features
    return {
        "medsr_monai": __version__,
        "scale": list(evaluation.scale),
        "seed": evaluation.seed,
        "assumed_profile": evaluation.assumed_profile,
        "consistency": evaluation.consistency,
        "perception": evaluation.perception,
        "network": str(evaluation.network),
        "models": {name: str(entry["network"]) for name, entry in evaluation.models.items()},
        "weights": {name: dict(files) for name, files in weights.items()},
        "masks": None if evaluation.masks is None else Path(evaluation.masks).name,
        "perceptual_features": None if features is None else f"{describe(features)}, weights {state_digest(features)}",
        "niqe_model": None if evaluation.niqe_model is None else file_digest(Path(evaluation.niqe_model)),
    }


class EvaluationRecord:
    """``run.json`` of an evaluation.

    Args:
        folder: that it is in.
        identity: of the evaluation, see `identity_of`.
        resume: whether results of an earlier run count.
    """

    def __init__(self, folder: Path, identity: Mapping[str, Any], resume: bool) -> None:
        self.path = folder / "run.json"
        self.identity = json.loads(canonical_json(identity))
        self.resume = resume
        self.content: dict[str, Any] = {}
        self._began = time.monotonic()
        self._earlier = 0.0

    def check(self) -> None:
        """Refuse a folder that holds something else.

        Raises:
            InputError: it holds an evaluation with other settings, or another program's record.
        """
        if not self.path.exists():
            return
        way_out = "choose another output folder, or compute everything again with 'resume' False"
        earlier = read_json(self.path, "choose another output folder, or remove it")
        if earlier.get("format") != FORMAT:
            raise InputError(f"{self.path.parent}: holds the record of something else; choose another output folder")
        if not self.resume:
            return
        settings = earlier.get("settings", {})
        seconds = earlier.get("seconds", 0.0)
        if not isinstance(settings, dict) or not isinstance(seconds, int | float):
            raise InputError(f"{self.path}: damaged; {way_out}")
        for key, value in self.identity.items():
            theirs = settings.get(key)
            # A method that is new here, or no longer asked for, does not touch the others' results.
            if isinstance(value, dict) and isinstance(theirs, dict):
                differs = any(theirs[name] != value[name] for name in value.keys() & theirs.keys())
            else:
                differs = theirs != value
            if differs:
                raise InputError(f"{self.path.parent}: holds an evaluation with another '{key}'; {way_out}")
        self._earlier = float(seconds)

    def begin(self, settings: Mapping[str, Any], device: str, bundle_root: str | Path | None) -> None:
        """Write that it runs.

        Args:
            settings: all that can be written as JSON, the identity among them.
            device: that it computes on.
            bundle_root: folder of the bundle, or None.
        """
        self._began = time.monotonic()
        self.content = {
            "format": FORMAT,
            "status": "running",
            "started": now(),
            "bundle": _bundle(bundle_root),
            "settings": json.loads(canonical_json(settings)),
            "versions": versions(),
            "device": device_name(torch.device(device)),
        }
        self._write()

    @contextmanager
    def ending(self) -> Iterator[None]:
        """Write at the end whether all was done, it was interrupted, or it failed."""
        try:
            yield
        except BaseException as error:
            self.content["status"] = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
            with suppress(InputError):  # what went wrong first is what must be said
                self._write()
            raise
        self.content["status"] = "completed"
        self._write()

    def _write(self) -> None:
        self.content["seconds"] = round(self._earlier + time.monotonic() - self._began, 3)
        write_json(self.content, self.path)


def _bundle(root: str | Path | None) -> dict[str, Any] | None:
    metadata = None if root is None else Path(root) / "configs" / "metadata.json"
    if metadata is None or not metadata.is_file():
        return None
    content = read_json(metadata, "mend the bundle")
    return {
        "folder": metadata.parent.parent.resolve().name,
        "name": content.get("name"),
        "version": content.get("version"),
    }
