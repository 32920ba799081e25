"""Results on disk, one file each: what exists need not be computed again."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Container
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from medsr_monai.system.atomic import replacing
from medsr_monai.system.errors import InputError
from medsr_monai.system.json_files import write_json
from medsr_monai.system.provenance import canonical_json

HR = "hr"


@dataclass(frozen=True)
class Result:
    """One method under one condition on one case.

    Args:
        digest: of everything that the figures depend on.
        case: its name.
        subject: whose it is.
        degradation: of the condition.
        noise: of the condition.
        condition: name of both.
        method: its name.
        figures: measures by name; None where one cannot be had.
        reasons: why not, by name.
        seconds: that the method took.
        peak_mib: memory that it took, None where the system does not say.
        power_db: of the result by frequency band.
        hr_power_db: of the reference.
    """

    digest: str
    case: str
    subject: str
    degradation: str
    noise: float
    condition: str
    method: str
    figures: dict[str, float | None]
    reasons: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    peak_mib: float | None = None
    power_db: list[float] = field(default_factory=list)
    hr_power_db: list[float] = field(default_factory=list)


def digest_of(content: Any) -> str:
    """SHA-256 of what can be written as JSON."""
    return hashlib.sha256(canonical_json(content).encode()).hexdigest()


def _is_whole(result: Result) -> bool:
    """Whether a result from a file has the types that the tables need: one that was edited is computed again."""
    tables = isinstance(result.figures, dict) and isinstance(result.reasons, dict)
    lists = isinstance(result.power_db, list) and isinstance(result.hr_power_db, list)
    if not (tables and lists and isinstance(result.subject, str)):
        return False
    numbers = [*result.figures.values(), *result.power_db, *result.hr_power_db, result.peak_mib]
    return all(value is None or _is_number(value) for value in numbers) and _is_number(result.seconds)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


class ResultFolder:
    """``results/CASE/CONDITION/METHOD.json`` below a folder, and features beside them as .npz.

    Args:
        folder: the evaluation's.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def path(self, case: str, condition: str, method: str) -> Path:
        return self.folder / "results" / case / condition / f"{method}.json"

    def features_path(self, case: str, condition: str, method: str) -> Path:
        return self.path(case, condition, method).with_suffix("").with_name(f"{method}.features.npz")

    def views_path(self, case: str, condition: str) -> Path:
        return self.folder / "views" / f"{case}.{condition}.npz"

    def write(self, result: Result) -> None:
        """Write a result completely or not at all.

        Raises:
            InputError: the folder cannot be written.
        """
        write_json(asdict(result), self.path(result.case, result.condition, result.method))

    def read(self, case: str, condition: str, method: str, digest: str) -> Result | None:
        """A result, None where there is none with this digest, or a damaged one."""
        try:
            content = json.loads(self.path(case, condition, method).read_text("utf-8"))
            result = Result(**content)
        except (OSError, ValueError, TypeError):
            return None
        return result if result.digest == digest and _is_whole(result) else None

    def keep_views(self, wanted: Container[Path]) -> None:
        """Remove the pictures of cases and conditions that are no longer asked for: they would not fit the tables."""
        for path in (self.folder / "views").glob("*.npz"):
            if path not in wanted:
                path.unlink(missing_ok=True)

    def sweep(self) -> None:
        """Remove what writers that were killed have left half-written."""
        for name in ("results", "views"):
            for left in (self.folder / name).rglob(".medsr-*"):
                left.unlink(missing_ok=True)


def write_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write arrays as .npz, compressed, without pickles, completely or not at all.

    Raises:
        InputError: the folder cannot be written.
    """
    try:
        with replacing(path, ".npz") as temporary:
            np.savez_compressed(temporary, **arrays)  # type: ignore[arg-type]
    except OSError as error:
        raise InputError(f"{path}: cannot write: {error.strerror or error}") from error


def read_arrays(path: Path) -> dict[str, np.ndarray] | None:
    """The arrays of an .npz file, None if there is none or a damaged one."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except Exception:  # zipfile and numpy raise what they like for a damaged file
        return None
