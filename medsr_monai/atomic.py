"""Write a file completely or not at all."""

from __future__ import annotations

import os
import secrets
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
