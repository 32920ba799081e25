"""Write a file, or a folder, completely or not at all; several of them together."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType

TEMPORARY = ".medsr-"
"""How the names begin that files and folders have until they are complete."""


class Together:
    """Files and folders that appear under their names when all of them are complete, and none if one fails.

    A context manager around those of :func:`replacing` and :func:`replacing_folder`. No file system renames two files
    in one step, so they are renamed one right after the other; only a process that is killed between two renames leaves
    one without the other. Ctrl-C does not come between.

    Raises:
        OSError: on leaving it, a name that cannot be given.
    """

    def __init__(self) -> None:
        self._complete: list[tuple[Path, Path]] = []

    def add(self, temporary: Path, target: Path) -> None:
        """Take over what is complete."""
        self._complete.append((temporary, target))

    def __enter__(self) -> Together:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                for temporary, target in self._complete:
                    _refuse_another_kind(temporary, target)
                with ExitStack() as renames:  # each is tried, even where Ctrl-C ended the one before
                    for temporary, target in self._complete:
                        renames.callback(_put, temporary, target)
        finally:
            for temporary, _ in self._complete:
                _remove(temporary)
            self._complete.clear()


@contextmanager
def replacing(path: str | Path, suffix: str = ".tmp", together: Together | None = None) -> Iterator[Path]:
    """Yield a hidden name beside `path`; what is written there takes its place at the end, or vanishes on any error.

    Args:
        path: the file to write; its folder is made where it is missing. A link keeps pointing where it did, and what it
            points to is replaced.
        suffix: of the temporary name, for writers that choose the format by it.
        together: what gives the name, with those of other files; None to give it at once.

    Raises:
        OSError: the folder or the file cannot be written.
    """
    target = Path(os.path.realpath(path))
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = _hidden_beside(target, suffix)
    try:
        yield temporary
        _flush(temporary)
        if together is None:
            _put(temporary, target)
        else:
            together.add(temporary, target)
    except BaseException:  # KeyboardInterrupt too must leave nothing behind
        _remove(temporary)
        raise


@contextmanager
def replacing_folder(path: str | Path, suffix: str = ".tmp", together: Together | None = None) -> Iterator[Path]:
    """Yield a new hidden folder beside `path`; it takes its place at the end, or vanishes on any error.

    A folder cannot be replaced in one step: for an instant neither the old nor the new one has the name, but never half
    of one.

    Args:
        path: the folder to write; the folder that it is in is made where it is missing.
        suffix: of the temporary name.
        together: see :func:`replacing`.

    Raises:
        OSError: the folder cannot be written.
    """
    target = Path(os.path.realpath(path))
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = _hidden_beside(target, suffix)
    try:
        temporary.mkdir()
        yield temporary
        for file in temporary.rglob("*"):
            if file.is_file():
                _flush(file)
        if together is None:
            _put(temporary, target)
        else:
            together.add(temporary, target)
    except BaseException:  # KeyboardInterrupt too must leave nothing behind
        _remove(temporary)
        raise


def _hidden_beside(target: Path, suffix: str) -> Path:
    return target.with_name(f"{TEMPORARY}{secrets.token_hex(6)}{suffix}")


def _flush(file: Path) -> None:
    with open(file, "rb+") as opened:
        os.fsync(opened.fileno())


def _refuse_another_kind(temporary: Path, target: Path) -> None:
    """A file does not take the place of a folder, nor a folder that of a file."""
    if target.exists() and target.is_dir() != temporary.is_dir():
        kind = IsADirectoryError if target.is_dir() else NotADirectoryError
        raise kind(0, "a folder is in the way" if target.is_dir() else "a file is in the way", str(target))


def _put(temporary: Path, target: Path) -> None:
    """Give the name; what had it is gone."""
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
