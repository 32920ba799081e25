"""What the PACS commands say while they work: one line each to standard error, no patient's data."""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
import time
import traceback
import warnings

from medsr_pacs.identifiers import without_uids

# They log what is exchanged, down to the values of queries and the addresses that hold UIDs.
TALKATIVE = ("pynetdicom", "dicomweb_client", "urllib3", "pydicom", "requests")


def say(text: str) -> None:
    """Write one line with the time to standard error, UIDs hashed; a closed one is no reason to stop."""
    with contextlib.suppress(OSError, ValueError):
        print(f"{time.strftime('%Y-%m-%dT%H:%M:%S')} {without_uids(text)}", file=sys.stderr, flush=True)


def silence_libraries() -> None:
    """Keep what libraries log, warn and print of exchanged data from every output of this process.

    A thread that fails is named by the type of its error only.
    """
    for name in TALKATIVE:
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
        logging.getLogger(name).propagate = False
        warnings.filterwarnings("ignore", module=name)
    threading.excepthook = _say_type


def _say_type(failed: threading.ExceptHookArgs) -> None:
    places = [f" in {frame.name}, line {frame.lineno}" for frame in traceback.extract_tb(failed.exc_traceback)[-1:]]
    say(f"a connection failed: {failed.exc_type.__name__}{''.join(places)}")
