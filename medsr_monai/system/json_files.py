"""Write tensors and JSON completely or not at all, and read JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from medsr_monai.system.atomic import replacing
from medsr_monai.system.errors import InputError


def first_line(error: BaseException) -> str:
    """The first line of an error message, without the stack that PyTorch appends."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def reason_of(error: BaseException) -> str:
    """What the system says went wrong, otherwise the first line of the message."""
    return (isinstance(error, OSError) and error.strerror) or first_line(error)


def save_atomically(objects: Any, path: str | Path) -> Path:
    """Save with ``torch.save`` under a temporary name, then rename: a crash leaves the old file or the new one.

    Args:
        objects: anything that ``torch.save`` takes.
        path: the file to write.

    Returns:
        The path.

    Raises:
        InputError: the file cannot be written.
    """
    import torch  # the command reads JSON without it

    with writing(path) as temporary:
        torch.save(objects, temporary)
    return Path(path)


@contextmanager
def writing(path: str | Path, suffix: str = ".tmp") -> Iterator[Path]:
    """`replacing`; what the system refuses is an InputError of one line."""
    try:
        with replacing(path, suffix) as temporary:
            yield temporary
    except (OSError, RuntimeError) as error:  # PyTorch reports a full disk as a RuntimeError
        # When a write fails, PyTorch reports the position in the file, not the reason.
        has_no_reason = isinstance(error, RuntimeError) and "enforce fail" in str(error)
        reason = "not all of it could be written; is the disk full?" if has_no_reason else reason_of(error)
        raise InputError(f"{path}: cannot write: {reason}") from error


def without_infinity(value: Any) -> Any:
    """Replace NaN and infinite numbers, which JSON lacks, with strings that ``float`` reads."""
    if isinstance(value, dict):
        return {str(key): without_infinity(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_infinity(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def write_json(content: Any, path: str | Path) -> Path:
    """As :func:`save_atomically` for JSON; NaN and infinite numbers become strings."""
    return write_text(json.dumps(without_infinity(content), indent=2, allow_nan=False) + "\n", path)


def write_text(text: str, path: str | Path) -> Path:
    """As :func:`save_atomically` for a text."""
    with writing(path) as temporary:
        temporary.write_text(text, "utf-8", newline="")
    return Path(path)


def read_json(path: Path, way_out: str) -> dict[str, Any]:
    """Read a JSON object; the message of an InputError ends with ``way_out``, what to do about a damaged file."""
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: cannot read: {reason_of(error)}; {way_out}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: is not a JSON object; {way_out}")
    return content
