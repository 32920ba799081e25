"""A JSON object of a record's file, whose fields are taken with their type checked."""

from __future__ import annotations

import json
import math
from collections.abc import Container
from pathlib import Path
from typing import Any

from medsr_monai.system.errors import InputError

AGAIN = "run `medsr evaluate` again"


class Entry:
    """A JSON object of a file.

    Args:
        path: of the file, for messages.
        where: which object of it, for messages.
        content: the object.

    Raises:
        InputError: the content is no object; and by every method, a field that is missing or of another type.
    """

    def __init__(self, path: Path, where: str, content: Any) -> None:
        self.path, self.where, self.content = path, where, content
        if not isinstance(content, dict):
            raise self.damaged("must be an object")

    @classmethod
    def read(cls, path: Path) -> Entry:
        """The whole of a file."""
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise InputError(
                f"{path}: not found; the folder must be one that `medsr evaluate --out` wrote to its end"
            ) from None
        except OSError as error:
            raise InputError(f"cannot read {path}: {error.strerror or error}") from error
        except (ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError
            raise InputError(f"{path}: damaged, it is not JSON; {AGAIN}") from error
        if not isinstance(content, dict):
            raise InputError(f"{path}: damaged, it holds no JSON object; {AGAIN}")
        return cls(path, "it", content)

    def damaged(self, what: str) -> InputError:
        return InputError(f"{self.path}: damaged, {self.where} {what}; {AGAIN}")

    def text(self, key: str, default: str | None = None) -> str:
        value = self.content.get(key, default)
        if not isinstance(value, str):
            raise self.damaged(f"needs the text '{key}'")
        return value

    def number(self, key: str) -> float | None:
        """A finite number; None for null, for a key that is missing, and for NaN or infinity."""
        return self._finite(self.content.get(key), key)

    def required(self, key: str) -> float:
        value = self.number(key)
        if value is None:
            raise self.damaged(f"needs the number '{key}'")
        return value

    def numbers(self, key: str) -> tuple[float | None, ...]:
        return tuple(self._finite(value, key) for value in self.items(key))

    def items(self, key: str) -> list[Any]:
        value = self.content.get(key)
        if not isinstance(value, list):
            raise self.damaged(f"needs the list '{key}'")
        return value

    def child(self, key: str) -> Entry:
        """The object under a key."""
        return Entry(self.path, f"'{key}'", self.content.get(key))

    def entries(self, key: str) -> list[Entry]:
        """The objects of the list under a key."""
        return [Entry(self.path, f"{key}[{i}]", item) for i, item in enumerate(self.items(key))]

    def named(self, key: str) -> dict[str, Entry]:
        """The objects by name under a key."""
        return {name: Entry(self.path, f"{key} '{name}'", item) for name, item in self.child(key).content.items()}

    def one_of(self, key: str, known: Container[str]) -> str:
        value = self.text(key)
        if value not in known:
            raise self.damaged(f"names the {key} '{value}', which the file does not define")
        return value

    def _finite(self, value: Any, key: str) -> float | None:
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.damaged(f"has '{key}' = {value!r:.60}, which is no number")
        try:
            number = float(value)
        except OverflowError:
            return None
        return number if math.isfinite(number) else None
