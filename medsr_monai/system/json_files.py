"""What the handlers write: tensors and JSON, completely or not at all."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from medsr_monai.system.atomic import replacing
from medsr_monai.system.errors import InputError


def first_line(error: BaseException) -> str:
    """What an error says, without the stack that PyTorch appends."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def save_atomically(objects: Any, path: str | Path) -> Path:
    """``torch.save`` under a temporary name beside, then rename: a crash leaves the old file or the new one, never a
    half.

    Raises:
        InputError: the folder cannot be written.
    """
    import torch  # the command reads JSON without it

    path = Path(path)
    try:
        with replacing(path) as temporary:
            torch.save(objects, temporary)
    except (OSError, RuntimeError) as error:  # PyTorch reports a full disk as a RuntimeError
        # Of a write that fails PyTorch tells a position in the file, not the reason.
        unsaid = isinstance(error, RuntimeError) and "enforce fail" in str(error)
        reason = "not all of it could be written; is the disk full?" if unsaid else first_line(error)
        raise InputError(f"{path}: cannot write: {reason}") from error
    return path


def without_infinity(value: Any) -> Any:
    """The same for JSON, which has no infinite numbers: they become the strings that ``float`` reads."""
    if isinstance(value, dict):
        return {str(key): without_infinity(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_infinity(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def write_json(content: Any, path: str | Path) -> Path:
    """Write JSON under a temporary name beside, then rename.

    Raises:
        InputError: the folder cannot be written.
    """
    path = Path(path)
    try:
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(without_infinity(content), indent=2, allow_nan=False) + "\n", "utf-8")
    except OSError as error:
        raise InputError(f"{path}: cannot write: {error.strerror or error}") from error
    return path


def read_json(path: Path, remedy: str) -> dict[str, Any]:
    """Read a JSON object.

    Args:
        path: of the file.
        remedy: what to do if it is damaged, the end of the message.

    Raises:
        InputError: the file cannot be read or is no JSON object.
    """
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot read: {first_line(error)}; {remedy}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: is no JSON object; {remedy}")
    return content
