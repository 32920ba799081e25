"""Upscale the series in a folder: in a process of its own, so that neither a crash nor its memory is the service's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from medsr_monai.errors import InputError, find_input_error, said_once
from medsr_monai.pacs.journal import silence_libraries

# From a folder that holds one DICOM series to a new folder, which gets the derived series. InputError where the series
# cannot be upscaled.
Upscale = Callable[[Path, Path], None]


class InterruptedUpscalingError(Exception):
    """It was stopped from outside; the series is no worse for it."""


class UpscaleProcess:
    """An :data:`Upscale` that starts a process for each series, one at a time.

    Args:
        options: ``bundle``, a name or folder, and keys of its inference workflow to replace.
    """

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._options = dict(options)
        self._process: subprocess.Popen[str] | None = None
        self._stopped = threading.Event()

    def __call__(self, source: Path, target: Path) -> None:
        """Upscale.

        Raises:
            InputError: the series cannot be upscaled; one line.
            InterruptedUpscalingError: :meth:`stop` was called.
        """
        job = json.dumps({"source": str(source), "target": str(target), "options": self._options})
        with open(target.with_name(f"{target.name}.log"), "w") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__, job],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
            # Its standard input stays open, and nothing is written: it ends when this process does, however it ends.
            with self._process as process:
                if self._stopped.is_set():
                    process.kill()
                assert process.stdout is not None
                answers = process.stdout.read().splitlines()
        if self._stopped.is_set():
            raise InterruptedUpscalingError
        if process.returncode:
            raise InputError(answers[-1] if answers else died(process.returncode))

    def stop(self) -> None:
        """End the process that runs, and let none begin."""
        self._stopped.set()
        if self._process is not None and self._process.poll() is None:
            self._process.kill()


def died(status: int) -> str:
    """What to say of a process that could not say anything itself."""
    if status == -9:
        return "the upscaling process was killed; there may be too little memory (see memory_gb)"
    return f"the upscaling process ended with {'signal' if status < 0 else 'status'} {abs(status)}"


def upscale_in_process(options: Mapping[str, Any]) -> UpscaleProcess:
    """The real upscaling, see :class:`UpscaleProcess`."""
    return UpscaleProcess(options)


def upscale_here(source: Path, target: Path, options: Mapping[str, Any]) -> None:
    """Run the bundle's inference workflow in this process.

    Raises:
        InputError: the series cannot be upscaled.
    """
    from medsr_monai.workflows import bundle_root, run_inference

    settings = dict(options)
    root = bundle_root(str(settings.pop("bundle")))
    run_inference(root, input=str(source), output_file=str(target), output_suffix=".dcm", progress=False, **settings)


def main() -> int:
    """The process: does the one job that its argument describes, and says on standard output why it could not."""
    silence_libraries()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    job = json.loads(sys.argv[1])
    answers, sys.stdout = sys.stdout, sys.stderr  # what libraries print is no answer
    try:
        with said_once():
            upscale_here(Path(job["source"]), Path(job["target"]), job["options"])
    except Exception as error:
        cause = find_input_error(error)
        reason = str(cause) if cause else f"upscaling failed ({type(error).__name__})"
        print(" ".join(reason.split()), file=answers, flush=True)
        if cause is None:
            raise
        return 1
    return 0


def _end_with_parent() -> None:
    """Wait for the end of standard input: the parent is gone, and another may already do the same series."""
    while os.read(0, 1):
        continue
    os._exit(3)


if __name__ == "__main__":
    sys.exit(main())
