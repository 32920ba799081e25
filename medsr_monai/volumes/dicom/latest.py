"""What was found last in a source stays known as long as none of its files changes.

One command asks for the same series several times (to choose it, to plan, to read, to write), and reading the headers
of a thousand slices takes seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Generic, TypeVar

from medsr_monai.volumes.dicom.members import files_below

Found = TypeVar("Found")


class Latest(Generic[Found]):
    """Remembers one answer."""

    def __init__(self) -> None:
        self._known: tuple[Hashable, Found] | None = None

    def get(self, question: Hashable, source: Path, find: Callable[[], Found]) -> Found:
        """The answer, found again only where another question was asked since, or a file was changed.

        Args:
            question: what is asked.
            source: the folder or file that the answer comes from.
            find: finds it.
        """
        # Before the answer is found: a file that changes meanwhile makes the next one be found again.
        state = (question, _fingerprint(source))
        known = self._known
        if known is None or known[0] != state:
            known = self._known = (state, find())
        return known[1]


def _fingerprint(source: Path) -> tuple[tuple[str, int, int, int, int], ...]:
    files = files_below(source) if source.is_dir() else [source]
    stats = ((str(file), file.stat()) for file in files if file.is_file())
    return tuple((name, s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns) for name, s in stats)
