"""Bad user input, and how it ends a program: one line on standard error, exit status 2."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn, TypeVar

EXIT_STATUS = 2
INTERRUPTED = 130
Result = TypeVar("Result")


class InputError(ValueError):
    """Bad input: one line that names the file, the axis or the key, the cause, and the way out."""


def find_input_error(error: BaseException | None) -> InputError | None:
    """The bad input behind an error that MONAI or ignite wrapped in others, or None if there is none."""
    while error is not None:
        if isinstance(error, InputError):
            return error
        error = error.__cause__ or error.__context__
    return None


def exit_with(error: InputError) -> NoReturn:
    """Print the one line and leave with status 2."""
    print("error:", *str(error).splitlines(), file=sys.stderr)
    raise SystemExit(EXIT_STATUS)


def not_of_bad_input(record: logging.LogRecord) -> bool:
    """Whether a log record is anything else than an error log of the bad input that is being handled."""
    return record.levelno < logging.ERROR or find_input_error(sys.exc_info()[1]) is None


@contextmanager
def bad_input_unlogged() -> Iterator[None]:
    """Within it, what engines and their handlers log of bad input, with its traceback, is not written.

    They raise it again all the same, so whoever catches it says it, once.
    """
    handlers = [*logging.getLogger().handlers, *([logging.lastResort] if logging.lastResort else [])]
    for handler in handlers:
        handler.addFilter(not_of_bad_input)
    try:
        yield
    finally:
        for handler in handlers:
            handler.removeFilter(not_of_bad_input)


def or_exit(function: Callable[..., Result], *args: object, **kwargs: object) -> Result:
    """Call a function from a bundle's JSON, so that bad input ends ``monai.bundle run`` with one line and status 2.

    MONAI wraps every exception of an expression in its own; ``SystemExit`` it lets through.
    """
    try:
        with bad_input_unlogged():
            return function(*args, **kwargs)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        raise SystemExit(INTERRUPTED) from None
    except Exception as error:
        cause = find_input_error(error)
        if cause is None:
            raise
        exit_with(cause)
