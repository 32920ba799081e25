"""The listener's queue on disk. Its state is in which folder a series is; a rename takes it from one to the next.

``incoming/KEY`` gets images; ``ready/KEY`` is complete and is upscaled into ``result/KEY``, which is sent; then
``done/KEY.json`` records which images were in it, and ``kept/KEY`` holds them for a while, in case more come.
``failed/KEY`` holds what cannot be upscaled, with the reason. ``work`` is scratch, emptied at every start.
KEY is made of the study's and the series' UIDs, names of files of the instance's: nothing that came is used as a path.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import json
import os
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from medsr_monai.system.atomic import replacing
from medsr_monai.system.errors import InputError
from medsr_pacs.durable import discard, in_blocks, make_folder, move, size_on_disk, sync
from medsr_pacs.identifiers import token
from medsr_pacs.instances import Instance, write_instance
from medsr_pacs.settings import Limits
from medsr_pacs.storage import NO_RESOURCES, Refusal

STATES = ("incoming", "ready", "result", "done", "kept", "failed", "work")
REASON = "reason.txt"


class QueueFullError(Refusal):
    """No room: the sender keeps what it has, and may come again."""

    def __init__(self, reason: str) -> None:
        super().__init__(NO_RESOURCES, reason)


class Spool:
    """One queue; any thread may call it.

    Args:
        root: its folder, made where it is missing. One process uses it at a time.
        limits: what it may hold.
        free_bytes: of the file system; a parameter for the tests.

    Raises:
        InputError: the folder cannot be used, or another process does.
    """

    def __init__(self, root: Path, limits: Limits, free_bytes: Callable[[], int] | None = None) -> None:
        self.root = root
        self.limits = limits
        self._free_bytes = free_bytes or (lambda: shutil.disk_usage(root).free)
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        try:
            for state in STATES:
                (root / state).mkdir(parents=True, exist_ok=True, mode=0o700)
            os.chmod(root, 0o700)  # it holds patients' images
            self._process_lock = open(root / "lock", "w")  # noqa: SIM115  held as long as the process lives
        except OSError as error:
            raise InputError(f"{root}: cannot be the queue's folder ({error.strerror})") from None
        try:
            fcntl.flock(self._process_lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise InputError(f"{root}: another listener uses this folder") from None
        self._clean()
        self._used = size_on_disk(root)
        self._arriving = 0  # bytes of images that are being written

    def close(self) -> None:
        """Let another process have the folder."""
        self._process_lock.close()

    def folder(self, state: str, key: str) -> Path:
        """Where a series is in this state, if it is."""
        return self.root / state / key

    def keys(self, state: str) -> list[str]:
        """Series in this state, oldest first."""
        found = []
        for entry in os.scandir(self.root / state):
            with contextlib.suppress(OSError):  # it may be moved on while we look
                found.append((entry.stat().st_mtime, entry.name))
        return [name for _, name in sorted(found)]

    def _clean(self) -> None:
        """What a killed process left half made."""
        shutil.rmtree(self.root / "work", ignore_errors=True)
        (self.root / "work").mkdir(exist_ok=True, mode=0o700)
        for left in (self.root / "done").glob(".medsr-*"):
            left.unlink(missing_ok=True)
        for key in set(self.keys("result")) - set(self.keys("ready")):
            discard(self.folder("result", key), self.root / "work")

    def store(self, instance: Instance, data: Any) -> str:
        """Put an instance into its series, whose key is returned; then it is on the disk, in place of an earlier one.

        Raises:
            QueueFullError: a limit is reached, or the disk is full; nothing is left of it.
        """
        key = token(instance.study, instance.series)
        size = in_blocks(len(data) + BLOCK_OF_META)
        self._reserve(key, size)
        part = self.root / "work" / f"part-{next(self._numbers)}"
        try:
            write_instance(part, instance, data)
            with self._lock:
                folder = self.folder("incoming", key)
                make_folder(folder)
                os.replace(part, folder / f"{token(instance.sop_instance)}.dcm")
                sync(folder)
                self._used += size
        except OSError as error:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
            raise QueueFullError(error.strerror or type(error).__name__) from error
        finally:
            with self._lock:
                self._arriving -= size
        return key

    def _reserve(self, key: str, size: int) -> None:
        with self._lock:
            waiting = {*os.listdir(self.root / "incoming"), *os.listdir(self.root / "ready")}
            if key not in waiting and len(waiting) >= self.limits.max_series:
                raise QueueFullError(f"{len(waiting)} series are waiting (max_series)")
            for kept in self.keys("kept"):
                if self._has_room(size):
                    break
                discard(self.folder("kept", kept), self.root / "work")
                self._used = size_on_disk(self.root)
            if not self._has_room(size):
                raise QueueFullError("no room on the disk (max_total_gb, min_free_gb)")
            self._arriving += size

    def _has_room(self, size: int) -> bool:
        within = self._used + self._arriving + size <= self.limits.max_total_gb * 1e9
        return within and self._free_bytes() - self._arriving - size >= self.limits.min_free_gb * 1e9

    @property
    def disk_is_full(self) -> bool:
        """Whether less is free than shall be."""
        return self._free_bytes() < self.limits.min_free_gb * 1e9

    def recount(self) -> None:
        """Measure again what the queue takes, after something was made or removed."""
        with self._lock:
            self._used = size_on_disk(self.root)

    def record(self, key: str) -> dict[str, Any] | None:
        """What is known of a series that was done: ``instances`` (names), ``derived`` (number), ``time``."""
        try:
            return dict(json.loads((self.root / "done" / f"{key}.json").read_text()))
        except (OSError, ValueError):
            return None  # not done yet, or damaged by hand: doing it again is harmless

    def complete(self, key: str) -> str:
        """A series gets no more images: take it to ``ready``.

        Returns:
            ``ready``; ``busy`` while images of the same series are being worked at; ``repeated`` where all of its
            images were done before; ``lacking`` where late images came, and those before are no longer kept.
        """
        with self._lock:
            incoming = self.folder("incoming", key)
            if self.folder("ready", key).exists() or self.folder("result", key).exists():
                return "busy"
            record = self.record(key)
            done = set(record["instances"]) if record else set()
            if done >= names_in(incoming):  # with nothing done: a folder that got no image before a crash
                discard(incoming, self.root / "work")
                return "repeated"
            for earlier in ("kept", "failed"):
                self._take_over(self.folder(earlier, key), incoming)
            if not done <= names_in(incoming):
                return "lacking"
            move(incoming, self.folder("ready", key))
            for earlier in ("kept", "failed"):
                discard(self.folder(earlier, key), self.root / "work")
            return "ready"

    def _take_over(self, earlier: Path, incoming: Path) -> None:
        """Images that came before belong to the series too; the new ones win."""
        for name in sorted(names_in(earlier) - names_in(incoming)):
            os.link(earlier / name, incoming / name)
        sync(incoming)

    def finish(self, key: str, n_derived: int, keep: bool) -> None:
        """A series was sent: record that, keep its images or not, remove the result."""
        instances = sorted(names_in(self.folder("ready", key)))
        with replacing(self.root / "done" / f"{key}.json") as file:
            file.write_text(json.dumps({"instances": instances, "derived": n_derived, "time": int(time.time())}))
        sync(self.root / "done")
        self.tidy(key, keep)

    def tidy(self, key: str, keep: bool) -> None:
        """What follows the record of a finished series; repeated where a crash came between."""
        with self._lock:
            discard(self.folder("result", key), self.root / "work")
            discard(self.folder("kept", key), self.root / "work")
            ready = self.folder("ready", key)
            if keep and ready.is_dir():
                os.utime(ready)  # kept from now on
                move(ready, self.folder("kept", key))
            discard(ready, self.root / "work")
        self.recount()

    def fail(self, state: str, key: str, reason: str) -> None:
        """Put a series aside with the reason."""
        with self._lock:
            source, failed = self.folder(state, key), self.folder("failed", key)
            discard(failed, self.root / "work")
            with replacing(source / REASON) as file:
                file.write_text(" ".join(reason.split()) + "\n")
            move(source, failed)
            discard(self.folder("result", key), self.root / "work")
        self.recount()

    def drop_kept(self, seconds: float) -> None:
        """Remove images that were kept for so long."""
        for key in self.keys("kept"):
            with self._lock, contextlib.suppress(FileNotFoundError):
                if time.time() - self.folder("kept", key).stat().st_mtime >= seconds:
                    discard(self.folder("kept", key), self.root / "work")


# Preamble and file meta information are below 1 kB.
BLOCK_OF_META = 1024


def names_in(folder: Path) -> set[str]:
    """The DICOM files of a series; none where there is no folder."""
    return {file.name for file in folder.glob("*.dcm")}
