"""Write a file, or a folder, completely or not at all."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def replacing(path: str | Path, suffix: str = ".tmp") -> Iterator[Path]:
    """Yield a hidden name beside `path`; what is written there takes its place at the end, or vanishes on any error.

    Args:
        path: the file to write; its folder is made where it is missing. A link keeps pointing where it did, and what it
            points to is replaced.
        suffix: of the temporary name, for writers that choose the format by it.

    Raises:
        OSError: the folder or the file cannot be written.
    """
    target = Path(os.path.realpath(path))
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".medsr-{secrets.token_hex(6)}{suffix}")
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:  # KeyboardInterrupt too must leave nothing behind
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


@contextmanager
def replacing_folder(path: str | Path, suffix: str = ".tmp") -> Iterator[Path]:
    """Yield a new hidden folder beside `path`; it takes its place at the end, or vanishes on any error.

    A folder cannot be replaced in one step: for an instant neither the old nor the new one has the name, but never half
    of one.

    Args:
        path: the folder to write; the folder that it is in is made where it is missing.
        suffix: of the temporary name.

    Raises:
        OSError: the folder cannot be written.
    """
    target = Path(os.path.realpath(path))
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary, old = (target.with_name(f".medsr-{secrets.token_hex(6)}{suffix}") for _ in range(2))
    try:
        temporary.mkdir()
        yield temporary
        for file in temporary.rglob("*"):
            if file.is_file():
                with open(file, "rb+") as opened:
                    os.fsync(opened.fileno())
        if target.exists():
            os.rename(target, old)
        try:
            os.rename(temporary, target)
        except BaseException:
            if old.exists():
                os.rename(old, target)
            raise
    except BaseException:  # KeyboardInterrupt too must leave nothing behind
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    shutil.rmtree(old, ignore_errors=True)
