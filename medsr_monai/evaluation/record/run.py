"""The folder that ``medsr evaluate`` wrote, read and checked; what is damaged or something else is refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medsr_monai.evaluation.record.manifest import read_manifest
from medsr_monai.evaluation.record.tables import CaseTable, Spectra, Summary
from medsr_monai.system.errors import InputError


@dataclass(frozen=True)
class EvaluationRun:
    """All that a report shows, but for the pictures; numbers that are not finite are None."""

    folder: Path
    manifest: Mapping[str, Any]
    table: CaseTable
    summary: Summary
    spectra: Spectra

    @classmethod
    def read(cls, folder: str | Path) -> EvaluationRun:
        """Read an evaluation's folder, without its pictures.

        Args:
            folder: what `medsr evaluate --out` named.

        Raises:
            InputError: the folder is missing, is not an evaluation's, or a file of it is missing or damaged.
        """
        folder = Path(folder)
        if not folder.is_dir():
            raise InputError(f"{folder}: no such folder; name the one that `medsr evaluate --out` wrote")
        table = CaseTable.read(folder)
        return cls(folder, read_manifest(folder), table, Summary.read(folder, table), Spectra.read(folder, table))
