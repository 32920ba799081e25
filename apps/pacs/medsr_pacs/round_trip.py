"""Fetch a study, upscale its series, send the derived series back."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from medsr_monai.system.errors import InputError
from medsr_pacs.delivery import derived_files
from medsr_pacs.identifiers import checked_uid
from medsr_pacs.instances import VOLUMES, read_instance
from medsr_pacs.remote import Remote
from medsr_pacs.upscaling import Upscale


@dataclass(frozen=True)
class Outcome:
    """What became of one series: `n_sent` derived images, or why there are none. `is_error`: it should have worked."""

    series: str
    n_images: int
    n_sent: int = 0
    reason: str = ""
    is_error: bool = False


def upscale_study(
    source: Remote, destination: Remote, study: str, upscale: Upscale, series: str | None = None
) -> Iterator[Outcome]:
    """Fetch a study or one series of it, upscale, and send; yields the outcome of each series.

    What is no image volume, and what this program made itself, is left alone. A series that cannot be upscaled does not
    keep the others from being sent. `series`: None or ``all`` for all of the study.

    Raises:
        InputError: a UID is none, the archive has nothing there, or does not answer.
    """
    checked_uid("study", study)
    wanted = None if series in (None, "all") else checked_uid("series", str(series))
    with tempfile.TemporaryDirectory(prefix="medsr-pacs-") as name:
        folders = source.fetch(study, wanted, Path(name) / "fetched").folders
        if not folders:
            raise InputError(f"{source.name}: has no instances of {'this series' if wanted else 'this study'}")
        for number, (uid, folder) in enumerate(sorted(folders.items())):
            # Numbered: the dots of a UID would look like the suffix of a file.
            yield _upscale_series(uid, folder, Path(name) / f"derived-{number}", destination, upscale)


def _upscale_series(uid: str, folder: Path, target: Path, destination: Remote, upscale: Upscale) -> Outcome:
    files = sorted(folder.iterdir())
    instances = [read_instance(file) for file in files]
    if any(instance.is_own_result for instance in instances):
        return Outcome(uid, len(files), reason="is a result of this program")
    if not all(instance.sop_class in VOLUMES for instance in instances):
        return Outcome(uid, len(files), reason="is no CT, MR or PET volume")
    sent: list[Path] = []
    try:
        upscale(folder, target)
        destination.send(derived_files(target), sent.append)
    except InputError as error:
        return Outcome(uid, len(files), len(sent), str(error), is_error=True)
    return Outcome(uid, len(files), len(sent))
