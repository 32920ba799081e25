"""What a command line hands over: paths, lists, numbers, and what no command takes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from medsr_monai.errors import InputError


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
