"""Work spread over processes, of which none is left behind; its time and its memory."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import re
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch

from medsr_monai.system.allocation import return_freed_memory
from medsr_monai.system.errors import InputError

MIB = 2**20
_worker: Callable[[Any], Any]


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _die_with_parent(parent: Any) -> None:
    parent.join()
    os._exit(1)


def _begin(pickled: str, threads: int) -> None:
    """What a new process does first."""
    global _worker
    threading.Thread(target=_die_with_parent, args=[multiprocessing.parent_process()], daemon=True).start()
    torch.set_num_threads(threads)
    _worker = pickle.loads(Path(pickled).read_bytes())


@contextmanager
def _deaf_to_ctrl_c() -> Iterator[None]:
    """Processes that start in here ignore Ctrl-C from the first: it reaches this one, which ends them."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may change what signals do, and only it is interrupted
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _work(item: Any) -> Any:
    return _worker(item)


def spread(worker: Callable[[Any], Any], items: Sequence[Any], workers: int) -> Generator[Any, None, None]:
    """Call a worker with every item, in new processes if there are to be several.

    Every process has a worker of its own, which may change ``torch.set_num_threads``; one worker stays in this process.

    Yields:
        Results as they are ready.

    Raises:
        InputError: a process died; and whatever the worker raises.
    """
    if workers == 1:
        yield from map(worker, items)
        return
    others = set(multiprocessing.active_children())
    threads = max(1, cores() // workers)
    # By a file: through a pipe, each process would have to read it, imports and all, before the next one starts.
    with tempfile.NamedTemporaryFile(suffix=".pickle", delete=False) as file:
        pickle.dump(worker, file)
    pool = ProcessPoolExecutor(
        workers, multiprocessing.get_context("spawn"), initializer=_begin, initargs=(file.name, threads)
    )
    try:
        with _deaf_to_ctrl_c():
            futures = [pool.submit(_work, item) for item in items]
        for future in as_completed(futures):
            yield future.result()
    except BrokenProcessPool:
        raise InputError(
            f"one of {workers} worker processes died, perhaps for lack of memory; run again with fewer 'workers': what "
            "is done is not computed again"
        ) from None
    except BaseException:
        for process in set(multiprocessing.active_children()) - others:
            process.terminate()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        Path(file.name).unlink(missing_ok=True)


def _resident_mib(field: str) -> float:
    found = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) / 1024 if found else 0.0


def measured_cost(work: Callable[[], Any], device: torch.device) -> tuple[Any, float, float | None]:
    """Do some work.

    Returns:
        Its result, the seconds that it took, and its memory in MiB at its peak above what was in use before: resident
        memory of the process, on a GPU what PyTorch allocated. None where the system does not say.
    """
    before = None
    on_gpu = device.type == "cuda"
    if on_gpu:
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device) / MIB
    else:
        return_freed_memory()  # what is taken from there again does not show as growth
        with suppress(OSError):  # Linux only
            Path("/proc/self/clear_refs").write_text("5")  # the kernel counts the peak anew
            before = _resident_mib("VmRSS")
    began = time.perf_counter()
    result = work()
    if on_gpu:
        torch.cuda.synchronize(device)
    seconds = time.perf_counter() - began
    if before is None:
        return result, seconds, None
    after = torch.cuda.max_memory_allocated(device) / MIB if on_gpu else _resident_mib("VmHWM")
    return result, seconds, max(0.0, after - before)
