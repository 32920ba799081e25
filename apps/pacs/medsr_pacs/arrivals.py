"""When series are complete: nothing came for a while, or all connections that brought it were closed in order."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable, Iterable


class Arrivals:
    """Keeps in memory what arrived when; any thread may call it.

    Args:
        quiet_seconds: a series without a new image for so long is complete.
        on_release: it is complete too when the last connection that brought images of it is closed in order.
        clock: seconds that never go back.
    """

    def __init__(self, quiet_seconds: float, on_release: bool, clock: Callable[[], float] = time.monotonic) -> None:
        self._quiet = quiet_seconds
        self._on_release = on_release
        self._clock = clock
        self._lock = threading.Lock()
        self._due: dict[str, float] = {}
        self._brought: dict[Hashable, set[str]] = {}

    def arrived(self, key: str, connection: Hashable | None = None) -> None:
        """An image of series `key` came over `connection`; None for what lay there at the start."""
        with self._lock:
            self._due[key] = self._clock() + self._quiet
            if connection is not None:
                self._brought.setdefault(connection, set()).add(key)

    def closed(self, connection: Hashable, in_order: bool) -> None:
        """A connection ended, in order or broken off; then its sender may come again."""
        with self._lock:
            keys = self._brought.pop(connection, set())
            still_open = set().union(*self._brought.values()) if self._brought else set()
            if self._on_release and in_order:
                for key in keys - still_open:
                    self._due[key] = self._clock()

    def complete(self) -> list[str]:
        """Series that are complete now, and were not taken back by :meth:`forget`."""
        with self._lock:
            now = self._clock()
            return sorted(key for key, due in self._due.items() if due <= now)

    def forget(self, keys: Iterable[str]) -> None:
        """These series are no longer waited for."""
        with self._lock:
            for key in keys:
                self._due.pop(key, None)
