"""One gzip stream, compressed by several threads."""

from __future__ import annotations

import os
import struct
import zlib
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import BinaryIO

_CHUNK_BYTES = 1 << 20
_MOST_THREADS = 8
# Deflate, no name, no time; fastest; unknown system.
_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x04\xff"
_LAST_BLOCK = b"\x03\x00"


def _deflate(chunk: bytes, level: int) -> bytes:
    """Blocks that end at a byte and not the stream, so that any number of chunks make one stream."""
    compressor = zlib.compressobj(level, zlib.DEFLATED, -zlib.MAX_WBITS)
    return compressor.compress(chunk) + compressor.flush(zlib.Z_SYNC_FLUSH)


class GzipStream:
    """Write a gzip member, as pigz does: chunks are compressed side by side and joined in order.

    The bytes depend on the content alone, not on the number of threads or the sizes in which it comes.

    Args:
        file: opened for writing in binary; not closed here.
        level: of the compression, 1 to 9.
    """

    def __init__(self, file: BinaryIO, level: int) -> None:
        self._file = file
        self._level = level
        n_threads = min(_MOST_THREADS, os.cpu_count() or 1)
        self._pool = ThreadPoolExecutor(n_threads, thread_name_prefix="gzip")
        self._most_waiting = 2 * n_threads
        self._waiting: deque[Future[bytes]] = deque()
        self._rest = bytearray()
        self._crc = 0
        self._n_bytes = 0
        self._file.write(_HEADER)

    def write(self, content: bytes | memoryview) -> None:
        """Compress some more."""
        content = memoryview(content).cast("B")
        for start in range(0, len(content), _CHUNK_BYTES):
            part = content[start : start + _CHUNK_BYTES]
            self._crc = zlib.crc32(part, self._crc)
            self._n_bytes += len(part)
            self._rest += part
            if len(self._rest) >= _CHUNK_BYTES:
                self._submit(bytes(self._rest[:_CHUNK_BYTES]))
                del self._rest[:_CHUNK_BYTES]

    def _submit(self, chunk: bytes) -> None:
        self._waiting.append(self._pool.submit(_deflate, chunk, self._level))
        while len(self._waiting) > self._most_waiting:
            self._file.write(self._waiting.popleft().result())

    def finish(self) -> None:
        """Write what is left, and the end of the stream."""
        self._submit(bytes(self._rest))
        while self._waiting:
            self._file.write(self._waiting.popleft().result())
        self._file.write(_LAST_BLOCK + struct.pack("<II", self._crc, self._n_bytes & 0xFFFFFFFF))
        self._file.flush()

    def close(self) -> None:
        """Stop the threads, whether the stream is finished or not."""
        self._pool.shutdown(wait=True, cancel_futures=True)
