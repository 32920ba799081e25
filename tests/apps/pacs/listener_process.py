"""The listener with the quick upscaler, for a process of its own, which may kill itself at a named point."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from medsr_pacs import service as service_file
from medsr_pacs.configuration import read_configuration
from medsr_pacs.durable import move
from medsr_pacs.journal import silence_libraries
from medsr_pacs.service import Service
from medsr_pacs.spool import Spool
from tests.apps.pacs.made import quick_upscale

POINTS = ("receiving", "upscaling", "made", "before_sending", "unconfirmed", "sent", "recorded")
point = ""
pause = 0.0


def die(*args: Any, **kwargs: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def upscale(source: Path, target: Path) -> None:
    time.sleep(pause)
    if point == "upscaling":
        target.mkdir()
        (target / "0001.dcm").write_bytes(b"half")
        die()
    quick_upscale(source, target)


def die_in_the_middle(send: Callable[..., None]) -> Callable[..., None]:
    """An archive has stored the third image, and we die before we know."""

    def sending(files: list[Path], confirmed: Callable[[Path], None]) -> None:
        send(files, lambda file: die() if file == files[2] else confirmed(file))

    return sending


def move_and_die(source: Path, target: Path) -> None:
    move(source, target)
    die()


def serve(config: str, log: str, at: str, seconds: float, environment: dict[str, str]) -> None:
    """Run the listener in this process, which has just been made for it."""
    global point, pause
    point, pause = at, seconds
    os.environ.update(environment)  # what forked us has that of the first test
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    silence_libraries()
    service_file.TICK = 0.02  # what a person does not notice, dozens of tests would wait for
    if point == "made":
        service_file.move = move_and_die
    if point == "before_sending":
        service_file.deliver = die
    if point == "sent":
        Spool.finish = die
    if point == "recorded":
        Spool.tidy = die
    with Service(read_configuration(config), upscale) as service:
        if point == "receiving":
            stored = []
            keep = service.spool.store
            service.spool.store = lambda *args: die() if len(stored) == 2 else (stored.append(1), keep(*args))[1]
        if point == "unconfirmed":
            service.remote.send = die_in_the_middle(service.remote.send)
        signal.signal(signal.SIGTERM, lambda *_: service.stop())
        service.run()
