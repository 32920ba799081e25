"""Write a file, a folder, or several of them together, completely or not at all."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType

TEMPORARY = ".medsr-"
"""Prefix of the temporary names of files and folders that are not complete."""


class Together:
    """A context manager for files and folders: all get their names when all are complete, none if one fails.

    Use it around :func:`replacing`. No file system renames two files in one step, so they
    are renamed one right after the other. Ctrl-C does not stop this; only a process killed between two renames leaves
    some without the others.

    Raises:
        OSError: on exit, a file cannot be renamed.
    """

    def __init__(self) -> None:
        self._complete: list[tuple[Path, Path]] = []

    def add(self, temporary: Path, target: Path) -> None:
        """Add a complete file or folder, to be renamed on exit."""
        self._complete.append((temporary, target))

    def __enter__(self) -> Together:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                for temporary, target in self._complete:
                    if target.exists() and target.is_dir() != temporary.is_dir():
                        if target.is_dir():
                            raise IsADirectoryError(0, "a folder is in the way", str(target))
                        raise NotADirectoryError(0, "a file is in the way", str(target))
                with ExitStack() as renames:  # tries every rename, even if Ctrl-C interrupted the one before
                    for temporary, target in self._complete:
                        renames.callback(_put, temporary, target)
        finally:
            for temporary, _ in self._complete:
                _remove(temporary)
            self._complete.clear()


@contextmanager
def replacing(
    path: str | Path, suffix: str = ".tmp", together: Together | None = None, folder: bool = False
) -> Iterator[Path]:
    """Yield a hidden name beside `path`; the file or folder replaces `path` at the end, or is removed on any error.

    A folder cannot be replaced in one step: for an instant, no folder has the name. The name never has an incomplete
    folder.

    Args:
        path: the file or folder to write. A missing parent is created. If `path` is a link, the link stays and its
            target is replaced.
        suffix: of the temporary name, for writers that choose the format by it.
        together: renames it together with others; None renames it at once.
        folder: make a new folder of the hidden name.

    Yields:
        The temporary name.

    Raises:
        OSError: the folder or the file cannot be written.
    """
    target = Path(os.path.realpath(path))
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = _hidden_beside(target, suffix)
    try:
        if folder:
            temporary.mkdir()
        yield temporary
        for file in (file for file in temporary.rglob("*") if file.is_file()) if folder else (temporary,):
            with open(file, "rb+") as opened:
                os.fsync(opened.fileno())
        if together is None:
            _put(temporary, target)
        else:
            together.add(temporary, target)
    except BaseException:  # KeyboardInterrupt too must leave nothing behind
        _remove(temporary)
        raise


def _hidden_beside(target: Path, suffix: str) -> Path:
    return target.with_name(f"{TEMPORARY}{secrets.token_hex(6)}{suffix}")


def _put(temporary: Path, target: Path) -> None:
    """Rename to the final name and replace what had it."""
    if not temporary.is_dir():
        os.replace(temporary, target)
        return
    old = _hidden_beside(target, target.suffix)
    if target.exists():
        os.rename(target, old)
    try:
        os.rename(temporary, target)
    except BaseException:
        if old.exists():
            os.rename(old, target)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _remove(temporary: Path) -> None:
    if temporary.is_dir():
        shutil.rmtree(temporary, ignore_errors=True)
        return
    with suppress(OSError):
        temporary.unlink(missing_ok=True)
