"""Bad user input ends a program with one line on standard error and exit status 2."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import NoReturn

EXIT_STATUS = 2
INTERRUPTED = 130


class InputError(ValueError):
    """Bad input: one line with the file, axis or key, the cause, and the way out."""


def check_whole(name: str, value: object, least: int = 1) -> None:
    """Refuse what is no whole number, or too small."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InputError(f"{name} {value}: must be a whole number, {least} or more")


def find_input_error(error: BaseException | None) -> InputError | None:
    """Find the InputError behind an error that MONAI or ignite wrapped; None if there is none."""
    while error is not None:
        if isinstance(error, InputError):
            return error
        error = error.__cause__ or error.__context__
    return None


def exit_with(error: InputError) -> NoReturn:
    """Print the error in one line and exit with status 2."""
    print("error:", *str(error).splitlines(), file=sys.stderr)
    raise SystemExit(EXIT_STATUS)


def not_said_later(record: logging.LogRecord) -> bool:
    """A log filter that drops error records while bad input or Ctrl-C is being handled."""
    error = sys.exc_info()[1]
    said_later = isinstance(error, KeyboardInterrupt) or find_input_error(error) is not None
    return record.levelno < logging.ERROR or not said_later


@contextmanager
def said_once() -> Iterator[None]:
    """Silence the tracebacks that engines and handlers log for bad input or Ctrl-C.

    They raise the error again, so the caller that catches it reports it once.
    """
    # MONAI's loggers have their own handlers besides the root's.
    loggers = [logging.root, *logging.root.manager.loggerDict.values()]
    handlers = {handler for logger in loggers for handler in getattr(logger, "handlers", ())}
    handlers |= {logging.lastResort} if logging.lastResort else set()
    for handler in handlers:
        handler.addFilter(not_said_later)
    try:
        yield
    finally:
        for handler in handlers:
            handler.removeFilter(not_said_later)


def exit_if_told(error: BaseException) -> None:
    """End the program with one line if bad input or Ctrl-C is what ended its work; return if the error is a bug."""
    if isinstance(error, KeyboardInterrupt):
        print("interrupted", file=sys.stderr)
        raise SystemExit(INTERRUPTED) from None
    cause = find_input_error(error)
    if cause is not None:
        exit_with(cause)


def exit_if_told_in_monai_bundle() -> None:
    """Let ``python -m monai.bundle`` end by :func:`exit_if_told`; in any other process this changes nothing.

    MONAI wraps the errors of a bundle in its own and catches none. This process is the command's; a program that loads
    a bundle as a library gets exceptions.
    """
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    if spec is None or spec.name != "monai.bundle.__main__":
        return
    show = sys.excepthook

    def exit_or_show(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        exit_if_told(error)  # Python honours a SystemExit of its hook
        show(kind, error, trace)

    sys.excepthook = exit_or_show
