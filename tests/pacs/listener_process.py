"""The listener as a process of its own with the quick upscaler, which may kill itself at a named point.

Usage: python -m tests.pacs.listener_process CONFIG [POINT]; `seconds` of upscaling come from MEDSR_TEST_SECONDS.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from medsr_monai.pacs import service as service_file
from medsr_monai.pacs.configuration import read_configuration
from medsr_monai.pacs.durable import move
from medsr_monai.pacs.journal import silence_libraries
from medsr_monai.pacs.service import Service
from medsr_monai.pacs.spool import Spool
from tests.pacs.made import quick_upscale

POINTS = ("receiving", "upscaling", "made", "before_sending", "unconfirmed", "sent", "recorded")


def die(*args: Any, **kwargs: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def upscale(source: Path, target: Path) -> None:
    time.sleep(float(os.environ.get("MEDSR_TEST_SECONDS", "0")))
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


if __name__ == "__main__":
    point = sys.argv[2] if len(sys.argv) > 2 else ""
    silence_libraries()
    if point == "made":
        service_file.move = move_and_die
    if point == "before_sending":
        service_file.deliver = die
    if point == "sent":
        Spool.finish = die
    if point == "recorded":
        Spool.tidy = die
    with Service(read_configuration(sys.argv[1]), upscale) as service:
        if point == "receiving":
            stored = []
            keep = service.spool.store
            service.spool.store = lambda *args: die() if len(stored) == 2 else (stored.append(1), keep(*args))[1]
        if point == "unconfirmed":
            service.remote.send = die_in_the_middle(service.remote.send)
        signal.signal(signal.SIGTERM, lambda *_: service.stop())
        service.run()
