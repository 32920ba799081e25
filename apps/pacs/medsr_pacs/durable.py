"""Changes of folders that are on the disk when the call returns, and are there whole or not at all after a crash."""

from __future__ import annotations

import os
import secrets
import shutil
from contextlib import suppress
from pathlib import Path

BLOCK = 4096


def sync(place: Path) -> None:
    """Have the names in a folder, or the contents of a file, on the disk."""
    handle = os.open(place, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def move(source: Path, target: Path) -> None:
    """Rename within one file system; `target` must not be a folder with something in it."""
    os.rename(source, target)
    sync(target.parent)
    if source.parent != target.parent:
        sync(source.parent)


def make_folder(folder: Path) -> None:
    """Make one folder, if it is not there."""
    if not folder.is_dir():
        folder.mkdir(exist_ok=True)
        sync(folder.parent)


def discard(folder: Path, scratch: Path) -> None:
    """Remove a folder, if it is there: in one step into `scratch`, which a start empties, then from the disk."""
    if folder.is_dir():
        doomed = scratch / f"old-{secrets.token_hex(6)}"
        move(folder, doomed)
        shutil.rmtree(doomed, ignore_errors=True)


def sync_files(folder: Path) -> None:
    """Have the contents of all files of a folder on the disk."""
    for place in (*folder.iterdir(), folder):
        sync(place)


def size_on_disk(root: Path) -> int:
    """Bytes of all files below a folder, each rounded up to a block, so that tiny files count too."""
    total = 0
    for parent, _, names in os.walk(root):
        for name in names:
            with suppress(OSError):  # it may go while we look
                total += in_blocks(os.stat(os.path.join(parent, name)).st_size)
    return total


def in_blocks(n_bytes: int) -> int:
    """Bytes rounded up to a block."""
    return max(1, -(-n_bytes // BLOCK)) * BLOCK
