"""Work spread over processes: none is left behind, and what is done stays done."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import tempfile
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from medsr_monai.system.errors import InputError

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
