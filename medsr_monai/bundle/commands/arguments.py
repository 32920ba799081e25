"""What a command line hands over: which command, paths, lists, numbers, and what no command takes."""

from __future__ import annotations

import contextlib
import functools
import io
import os
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import fire
from fire.core import FireExit
from fire.decorators import FIRE_METADATA

from medsr_monai.bundle.workflows import overlay_file
from medsr_monai.system.errors import InputError


def absolute(path: str) -> Path:
    """An absolute path: MONAI's parser takes a value that begins with ``$``, ``@`` or ``%`` as code or a reference."""
    if "#" in path:
        raise InputError(f"{path}: MONAI reads '#' in a path as a reference of its own; rename the file or folder")
    return Path(os.path.abspath(os.path.expanduser(path)))


def refuse_unknown(extra: tuple, options: dict[str, Any]) -> None:
    """What a command does not take; fire alone would run the command without it first, and complain afterwards."""
    if options:
        names = ", ".join(f"--{name}" for name in options)
        raise InputError(f"unknown option {names}; see medsr --help")
    if extra:
        raise InputError(f"too many arguments: {', '.join(map(str, extra))}; see medsr --help")


def check_numbers(**values: Any) -> None:
    """Options that must be numbers; the command line passes anything on."""
    for name, value in values.items():
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise InputError(f"--{name} {value}: must be a number")


def listed(text: str) -> list[str]:
    """The parts of ``a,b,c``."""
    return [part.strip() for part in text.split(",") if part.strip()]


def listed_numbers(name: str, text: Any) -> list[float]:
    """The numbers of ``--name 0,0.02``."""
    try:
        return [float(part) for part in listed(str(text))]
    except ValueError:
        raise InputError(f"--{name} {text}: must be numbers, e.g. 0,0.02") from None


def listed_overlays(text: Any) -> list[Path]:
    """The files of ``--config a.json,b.json``, or the package's own overlays by name; none for None."""
    return [absolute(str(overlay_file(part))) for part in listed(str(text or ""))]


def parse_command(commands: Mapping[str, Any]) -> Callable[[], None] | None:
    """What the command line asks for, not yet run; None where fire has answered itself with a list of the commands.

    Fire only parses: for a missing argument it would print its usage over several lines.

    Args:
        commands: functions by name, or groups of them.

    Raises:
        InputError: a missing argument or an unknown command.
        FireExit: help was asked for, and printed.
    """
    chosen: list[Callable[[], None]] = []

    def postponed(command: Any) -> Any:
        if isinstance(command, Mapping):
            return {name: postponed(part) for name, part in command.items()}

        @functools.wraps(command)
        def choose(*args: Any, **kwargs: Any) -> None:
            chosen.append(functools.partial(command, *args, **kwargs))

        if is_asked_for_help():  # fire lists its own note at a function among the command's groups
            vars(choose).pop(FIRE_METADATA, None)
        return choose

    messages = io.StringIO()
    try:
        with contextlib.redirect_stderr(messages):
            fire.Fire(postponed(commands), name="medsr")
    except FireExit as end:
        if end.code:
            raise InputError(in_plain_words(str(end.trace.elements[-1].ErrorAsStr()), commands)) from None
        print(messages.getvalue(), end="", file=sys.stderr)
        raise
    return chosen[0] if chosen else None


FIRE_SAYS = {
    r"The function received no value for the required argument: (\w+)": r"\1 is missing",
    r"Missing required flags: \{'(\w+)'\}": r"--\1 is missing",
    r"Missing required flags: (.+)": r"required options are missing: \1",
    r"Could not consume arg: (--?[^\W\d].*)": r"unknown option \1",
    r"Could not consume arg: (.+)": r"too many arguments: \1",
    r"Cannot find key: (.+)": r"unknown command \1",
}


def in_plain_words(cause: str, commands: Mapping[str, Any]) -> str:
    """What fire found wrong, without its jargon, and where the help of that command is."""
    cause = cause.rstrip(".")
    for said, plain in FIRE_SAYS.items():
        if re.fullmatch(said, cause):
            cause = re.sub(said, plain, cause)
            break
    return f"{cause}; see {' '.join(('medsr', *command_words(commands)))} --help"


def command_words(commands: Mapping[str, Any]) -> list[str]:
    """The words of the command line that name a command: none, one, or two for a command of a group."""
    words: list[str] = []
    part: Any = commands
    for word in sys.argv[1:]:
        if not isinstance(part, Mapping) or word not in part:
            break
        words.append(word)
        part = part[word]
    return words


def is_asked_for_help() -> bool:
    """Whether the command line asks for help."""
    return bool({"--help", "-h"} & set(sys.argv[1:]))
