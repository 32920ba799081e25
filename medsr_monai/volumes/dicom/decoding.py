"""Decode compressed frames, in a process of their own.

The decoders are written in C++ and Rust, and on damaged data some of them end the process that they run in: it must
not be one that serves others.
"""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medsr_monai.system.errors import InputError

TIMEOUT_S = 60.0
"""Within which a frame must be decoded."""

_SCRIPT = Path(__file__).with_name("decoder_process.py")


@dataclass
class Undecodable(Exception):
    """A frame that no decoder could read.

    Args:
        kind: what happened, in a word.
        problem: "damaged"; "missing", where a decoder would have to be installed; "unsupported", where none can.
    """

    kind: str
    problem: str = "damaged"


class DecoderProcess:
    """A process that decodes frame after frame; started when first needed, and again after it ended."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = 0

    def decode(self, request: dict[str, Any], data: bytes) -> np.ndarray:
        """Decode the codestream of a frame; see `decoder_process.decode`.

        Raises:
            Undecodable: damaged, or no decoder.
            InputError: no process can be started.
        """
        with self._lock:
            process = self._running()
            timer = threading.Timer(TIMEOUT_S, process.kill)
            timer.start()
            try:
                head, payload = _ask(process, {**request, "n_bytes": len(data)}, data)
            except (OSError, EOFError, ValueError):
                self._stop()
                raise Undecodable("the decoder gave up") from None
            except BaseException:  # Ctrl-C between question and answer: the next answer would be to this question
                self._stop()
                raise
            finally:
                timer.cancel()
        if "problem" in head:
            raise Undecodable(head["kind"], head["problem"])
        return np.frombuffer(payload, np.dtype(head["dtype"])).reshape(head["shape"])

    def _running(self) -> subprocess.Popen[bytes]:
        if self._owner != os.getpid():  # a fork of the process that started it: its pipes are not ours
            self._process, self._owner = None, os.getpid()
        if self._process is None or self._process.poll() is not None:
            self._stop()
            try:
                self._process = subprocess.Popen(
                    [sys.executable, str(_SCRIPT)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
                )
            except OSError as error:
                raise InputError(f"{sys.executable}: cannot start the decoder ({error.strerror})") from error
        return self._process

    def _stop(self) -> None:
        if self._process is None:
            return
        self._process.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with suppress(OSError):  # what was still to be written has no reader
                pipe.close()
        self._process.wait()
        self._process = None

    def close(self) -> None:
        """End the process."""
        if self._owner == os.getpid():
            self._stop()


def _ask(process: subprocess.Popen[bytes], request: dict[str, Any], data: bytes) -> tuple[dict[str, Any], bytes]:
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(json.dumps(request).encode() + b"\n")
    process.stdin.write(data)
    process.stdin.flush()
    head = json.loads(process.stdout.readline())
    payload = process.stdout.read(head["n_bytes"])
    if len(payload) != head["n_bytes"]:
        raise EOFError
    return head, payload


_DECODER = DecoderProcess()
atexit.register(_DECODER.close)


def decode_frame(syntax: str, options: dict[str, Any], data: bytes) -> np.ndarray:
    """Decode one frame; raises as `DecoderProcess.decode`."""
    return _DECODER.decode({"syntax": syntax, "options": options}, data)
