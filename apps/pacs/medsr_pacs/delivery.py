"""Send a derived series so that a crash in between neither loses an image nor sends one twice."""

from __future__ import annotations

import os
from pathlib import Path

from medsr_monai.system.errors import InputError
from medsr_pacs.instances import read_instance
from medsr_pacs.remote import Remote

SENT = "sent.txt"


def derived_files(folder: Path) -> list[Path]:
    """The files of a derived series, in order."""
    files = sorted(folder.glob("*.dcm"))
    if not files:
        raise InputError("upscaling wrote no images")
    for file in files:
        read_instance(file)
    return files


def deliver(folder: Path, remote: Remote, ask_first: bool) -> int:
    """Send what was not sent yet; returns how many images the series has.

    Each confirmed image is noted in the folder. After a crash, only the first one that is not noted may have been
    stored all the same (of a batch by DICOMweb: the first ones); the archive is asked for those. Derived UIDs are
    always the same for the same images and settings, so where an archive cannot be asked, sending again replaces.

    Args:
        folder: of the derived series.
        remote: where it goes.
        ask_first: whether the archive can be asked what it has: not where it may have an older series of these UIDs.

    Raises:
        UnreachableError: try again later; what was confirmed is noted.
        RefusedError: the archive does not take it.
    """
    files = derived_files(folder)
    notes = folder / SENT
    was_interrupted = notes.exists()
    noted = set(notes.read_text().split()) if was_interrupted else set()
    left = [file for file in files if file.name not in noted]
    with open(notes, "a") as log:
        # A crash in the middle of a line left a name that no file has; the next one begins a line of its own.
        log.write("\n")

        def note(file: Path) -> None:
            log.write(f"{file.name}\n")
            log.flush()

        while was_interrupted and ask_first and left:
            instance = read_instance(left[0])
            if not remote.holds(instance.study, instance.series, instance.sop_instance):
                break
            note(left.pop(0))
        if left:
            remote.send(left, note)
        log.flush()
        os.fsync(log.fileno())
    return len(files)
