"""Upscale the series in a folder: in a process of its own, so that neither a crash nor its memory is the service's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from medsr_monai.system.errors import InputError, exit_if_told, exit_with, said_once
from medsr_pacs.journal import silence_libraries

# From a folder that holds one DICOM series to a new folder, which gets the derived series. InputError where the series
# cannot be upscaled.
Upscale = Callable[[Path, Path], None]

ERROR = "error: "


class InterruptedUpscalingError(Exception):
    """It was stopped from outside; the series is no worse for it."""


class UpscaleProcess:
    """An :data:`Upscale` that starts a process for each series, one at a time.

    Args:
        options: ``bundle``, a name or folder, and keys of its inference workflow to replace.
    """

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._options = dict(options)
        self._process: subprocess.Popen[bytes] | None = None
        self._stopped = threading.Event()

    def __call__(self, source: Path, target: Path) -> None:
        """Upscale; InputError: the series cannot be; InterruptedUpscalingError: :meth:`stop` was called."""
        job = json.dumps([str(source), str(target), self._options])
        log = target.with_name(f"{target.name}.log")
        with open(log, "w") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__, job], stdin=subprocess.PIPE, stdout=errors, stderr=errors
            )
            # Its standard input stays open, and nothing is written: it ends when this process does, however it ends.
            with self._process as process:
                if self._stopped.is_set():
                    process.kill()
                status = process.wait()
        if self._stopped.is_set():
            raise InterruptedUpscalingError
        if status:
            raise InputError(reason(log, status))
        log.unlink()

    def stop(self) -> None:
        """End the process that runs, and let none begin."""
        self._stopped.set()
        if self._process is not None and self._process.poll() is None:
            self._process.kill()


def reason(log: Path, status: int) -> str:
    """Why a process failed: its last line of bad input, as every command of this package writes it, or how it ended.

    Anything else in the log may hold what the files do.
    """
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.startswith(ERROR)]
    if lines:
        return lines[-1].removeprefix(ERROR)
    if status == -9:
        return "the upscaling process was killed; there may be too little memory (see memory_gb)"
    return f"the upscaling process ended with {'signal' if status < 0 else 'status'} {abs(status)}"


def main() -> None:
    """The process: does the one job that its argument describes; says on standard error why it could not."""
    silence_libraries()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    source, target, options = json.loads(sys.argv[1])
    try:
        from medsr_monai.bundle.workflows import bundle_root, run_inference

        with said_once():
            root = bundle_root(options.pop("bundle"))
            places = {"input": source, "output_dir": str(Path(target).parent), "output_file": target}
            run_inference(root, **places, output_suffix=".dcm", progress=False, **options)
    except Exception as error:
        exit_if_told(error)
        traceback.print_exc()
        exit_with(InputError(f"upscaling failed ({type(error).__name__})"))


def _end_with_parent() -> None:
    """Wait for the end of standard input: the parent is gone, and another may already do the same series."""
    while os.read(0, 1):
        continue
    os._exit(3)


if __name__ == "__main__":
    main()
