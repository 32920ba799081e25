"""``run.json``: what an evaluation was made with, how it ended, and whether a folder holds another one."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch

from medsr_monai.evaluation.record.fields import reading
from medsr_monai.system.errors import InputError
from medsr_monai.system.json_files import read_json, write_json
from medsr_monai.system.provenance import canonical_json, device_name, now, versions

FORMAT = "medsr-evaluation-run"
FILE = "run.json"
ENDINGS = {"completed": "", "interrupted": "was interrupted", "failed": "ended with an error"}


def read_manifest(folder: Path) -> dict[str, Any]:
    """Nested settings, versions and digests, as JSON; an `InputError` where the file is missing or damaged."""
    with reading(folder / FILE) as content:
        return content


def ending_of(manifest: Mapping[str, Any]) -> str:
    """How a run that is not completed ended, or that it did not; empty for one that is."""
    return ENDINGS.get(str(manifest.get("status")), "has not ended, or was killed")


class ManifestWriter:
    """Keep the manifest of an evaluation that runs.

    Every figure depends on the identity, whichever cases, conditions and methods there are. With ``resume``, results of
    an earlier run count.
    """

    def __init__(self, folder: Path, identity: Mapping[str, Any], resume: bool) -> None:
        self.path = folder / FILE
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
            if _differs(value, settings.get(key)):
                raise InputError(f"{self.path.parent}: holds an evaluation with another '{key}'; {way_out}")
        self._earlier = float(seconds)

    def begin(self, settings: Mapping[str, Any], device: str, bundle_root: str | Path | None) -> None:
        """Write that it runs, with its settings, the identity among them."""
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
            self.content["status"] = "completed"
        except BaseException as error:
            self.content["status"] = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
            with suppress(InputError):  # what went wrong first is what must be said
                self._write()
            raise
        self._write()

    def _write(self) -> None:
        self.content["seconds"] = round(self._earlier + time.monotonic() - self._began, 3)
        write_json(self.content, self.path)


def _differs(ours: Any, theirs: Any) -> bool:
    # A method that is new here, or no longer asked for, does not touch the others' results.
    if isinstance(ours, dict) and isinstance(theirs, dict):
        return any(theirs[name] != ours[name] for name in ours.keys() & theirs.keys())
    return bool(theirs != ours)


def _bundle(root: str | Path | None) -> dict[str, Any] | None:
    metadata = None if root is None else Path(root).resolve() / "configs" / "metadata.json"
    if metadata is None or not metadata.is_file():
        return None
    content = read_json(metadata, "mend the bundle")
    return {"folder": metadata.parents[1].name, "name": content.get("name"), "version": content.get("version")}
