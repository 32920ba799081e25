"""Where the outputs of an upscaling go."""

from __future__ import annotations

import os
from pathlib import Path

from medsr_monai.system.errors import InputError
from medsr_monai.volumes import (
    DICOM_SUFFIX,
    STREAMABLE_SUFFIXES,
    VolumePath,
    refuse_overwriting,
    streamable_suffix,
    volume_stem,
)


class OutputNames:
    """Names outputs after their sources: ``<stem of the source>_<postfix><suffix>`` in a folder.

    Args:
        output_dir: the folder; created where it is missing.
        postfix: what to append to the stem; may be empty.
        suffix: .nii, .nii.gz, .mha, .nrrd or .ome.zarr; .dcm for a folder of its own for each DICOM series.
        output_file: the one file to write, instead of a name in `output_dir`.

    Raises:
        InputError: an unknown suffix.
    """

    def __init__(
        self,
        output_dir: str | Path = ".",
        postfix: str = "sr",
        suffix: str = ".nii.gz",
        output_file: str | Path | None = None,
    ) -> None:
        if suffix not in (*STREAMABLE_SUFFIXES, DICOM_SUFFIX):
            raise InputError(f"suffix {suffix}: supported are {', '.join(STREAMABLE_SUFFIXES)}, {DICOM_SUFFIX}")
        self.output_dir = Path(output_dir)
        self.postfix = postfix
        self.suffix = suffix
        self.output_file = None if output_file is None else Path(output_file)
        self._sources: dict[Path, tuple[str, str]] = {}

    def path(self, source: VolumePath, label: str = "") -> Path:
        """Name an output of a source.

        Args:
            source: its path.
            label: what a second output of the same source has behind its stem: ``<...>_<label><suffix>``.

        Raises:
            InputError: it would replace the input, or the output of another input.
        """
        name = "_".join(part for part in (volume_stem(source), self.postfix) if part)
        suffix = "" if self.suffix == DICOM_SUFFIX else self.suffix
        path = self.output_file or self.output_dir / f"{name}{suffix}"
        if label:
            stem = path.name[: len(path.name) - len(_written_suffix(path))]
            path = path.with_name(f"{stem}_{label}{path.name[len(stem) :]}")
        refuse_overwriting(source, path)
        earlier = self._sources.setdefault(Path(os.path.realpath(path)), (str(source), label))
        if earlier != (str(source), label):
            raise InputError(f"{path}: already written from {earlier[0]}; give {source} another output_dir")
        return path


def _written_suffix(path: Path) -> str:
    """The suffix that a name has; the folder of a DICOM series has none."""
    suffix = streamable_suffix(path)
    return "" if suffix == DICOM_SUFFIX else suffix
