"""Where a record's results, features and pictures lie, one file each: what exists need not be computed again."""

from __future__ import annotations

import hashlib
from collections.abc import Container, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from medsr_monai.evaluation.record.fields import parse, reading
from medsr_monai.evaluation.record.rows import Result
from medsr_monai.system.atomic import TEMPORARY
from medsr_monai.system.errors import InputError
from medsr_monai.system.json_files import write_json, writing
from medsr_monai.system.provenance import canonical_json


def digest_of(content: Any) -> str:
    """SHA-256 of what can be written as JSON."""
    return hashlib.sha256(canonical_json(content).encode()).hexdigest()


class ResultFolder:
    """``results/CASE/CONDITION/METHOD.json`` below a folder, features beside them, and pictures in ``views``."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def path(self, case: str, condition: str, method: str) -> Path:
        return self.folder / "results" / case / condition / f"{method}.json"

    def features_path(self, case: str, condition: str, method: str) -> Path:
        return self.path(case, condition, method).with_name(f"{method}.features.npz")

    def views_path(self, case: str, condition: str) -> Path:
        return self.folder / "views" / f"{case}.{condition}.npz"

    def views(self) -> list[Path]:
        """The files of pictures; none where no pictures were kept."""
        return sorted((self.folder / "views").glob("*.npz"))

    def write(self, result: Result) -> None:
        """Write a result completely or not at all."""
        write_json(asdict(result), self.path(*result.key))

    def read(self, case: str, condition: str, method: str, digest: str) -> Result | None:
        """A result, None where there is none with this digest, or a damaged one."""
        try:
            with reading(self.path(case, condition, method)) as content:
                result = parse(Result, content)
        except InputError:
            return None
        return result if result.digest == digest else None

    def keep_views(self, wanted: Container[Path]) -> None:
        """Remove the pictures of cases and conditions that are no longer asked for: they would not fit the tables."""
        for path in self.views():
            if path not in wanted:
                path.unlink(missing_ok=True)

    def sweep(self) -> None:
        """Remove what writers that were killed have left half-written."""
        for name in ("results", "views"):
            for left in (self.folder / name).rglob(f"{TEMPORARY}*"):
                left.unlink(missing_ok=True)


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays as .npz, compressed, without pickles, completely or not at all."""
    with writing(path, ".npz") as temporary:
        np.savez_compressed(temporary, **arrays)  # type: ignore[arg-type]
