"""Keep freed memory in the process instead of returning it to the system.

By default, the C library returns every large block to the system when it is freed. A network that runs slab by slab
frees and requests the same blocks again and again. The system zeroes every page each time, which takes a quarter of the
time of an inference on a CPU.
"""

from __future__ import annotations

import contextlib
import ctypes
import platform
import threading
from collections.abc import Iterator
from functools import lru_cache

# Constants of glibc's malloc.h.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -3, -4
NEVER, NONE = -1, 0
# glibc's own values after a large block has been freed, and its usual maximum number of mapped blocks.
LARGE_BLOCK, MANY = 32 * 2**20, 2**16

_lock = threading.Lock()
_users = 0


@lru_cache(maxsize=1)
def _glibc() -> ctypes.CDLL | None:
    """The C library if it is glibc, otherwise None."""
    return ctypes.CDLL(None) if platform.system() == "Linux" and platform.libc_ver()[0] == "glibc" else None


def return_freed_memory() -> None:
    """Return freed memory that glibc has kept to the system."""
    library = _glibc()
    if library is not None:
        library.malloc_trim(0)


@contextlib.contextmanager
def keeping_freed_memory() -> Iterator[None]:
    """Keep freed memory for the next request of this process, and return it to the system at the end.

    Blocks of many sizes fragment the kept memory: streams took 2.5 to 2.8 times as much. This affects the host memory
    of all threads. Without glibc, nothing changes.
    """
    global _users
    library = _glibc()
    if library is None:
        yield
        return
    with _lock:
        _users += 1
        library.mallopt(M_MMAP_MAX, NONE)
        library.mallopt(M_TRIM_THRESHOLD, NEVER)
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if _users == 0:
                library.mallopt(M_MMAP_MAX, MANY)
                library.mallopt(M_MMAP_THRESHOLD, LARGE_BLOCK)
                library.mallopt(M_TRIM_THRESHOLD, 2 * LARGE_BLOCK)
                library.malloc_trim(0)
