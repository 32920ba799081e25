"""A table of a TOML file whose keys are taken one by one, each checked; what nobody took is a mistake."""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from medsr_monai.system.errors import InputError
from medsr_monai.system.optional import require

MISSING: Any = object()
# Names under which people put secrets into files.
SECRETS = ("password", "passwd", "token", "secret", "user", "username", "api_key", "bearer", "authorization")
# What the name of an environment variable must look like; a pasted secret mostly does not.
VARIABLE_CHARACTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")


def read_toml(file: Path) -> dict[str, Any]:
    """Parse a TOML file.

    Raises:
        InputError: no such file, or no TOML.
    """
    parser = require("tomllib", "dicom") if sys.version_info >= (3, 11) else require("tomli", "dicom")
    try:
        return dict(parser.loads(file.read_text(encoding="utf-8")))
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror or type(error).__name__})") from None
    except UnicodeDecodeError:
        raise InputError(f"{file}: is not UTF-8 text") from None
    except parser.TOMLDecodeError as error:
        raise InputError(f"{file}: no valid TOML: {error}") from None


class Table:
    """One table; every method that takes a key out of it raises InputError naming file and key.

    Args:
        file: where it was read, for messages and for paths that are given relative to it.
        name: dotted name of the table, empty for the whole file.
        values: its keys.
    """

    def __init__(self, file: Path, name: str, values: Any) -> None:
        self.file = file
        self.name = name
        if not isinstance(values, dict):
            raise InputError(f"{file}: {name}: must be a table, [{name}]")
        self._values: dict[str, Any] = values
        self._known: list[str] = []

    def error(self, key: str, what: str) -> InputError:
        """The error of a key, to be raised."""
        return InputError(f"{self.file}: {self._full(key)}: {what}")

    def _full(self, key: str) -> str:
        return f"{self.name}.{key}" if self.name else key

    def has(self, key: str) -> bool:
        """Whether the key is given; it counts as known."""
        self._known.append(key)
        return key in self._values

    def _take(self, key: str, default: Any, kind: str, fits: Callable[[Any], bool]) -> Any:
        if not self.has(key):
            if default is MISSING:
                raise self.error(key, f"is missing; it must be {kind}")
            return default
        value = self._values[key]
        if not fits(value):
            raise self.error(key, f"must be {kind}")  # the value is not repeated: it may be a secret
        return value

    def text(self, key: str, default: Any = MISSING, kind: str = "text", fits: Callable[[str], bool] = bool) -> Any:
        """A string that `fits`."""
        return self._take(key, default, kind, lambda value: isinstance(value, str) and fits(value))

    def choice(self, key: str, choices: Sequence[str], default: Any = MISSING) -> Any:
        """One of several strings."""
        return self.text(key, default, f"one of {', '.join(choices)}", lambda value: value in choices)

    def whole(self, key: str, low: int, high: int, default: Any = MISSING) -> Any:
        """A whole number from `low` to `high`."""
        return self._take(
            key,
            default,
            f"a whole number from {low} to {high}",
            lambda value: isinstance(value, int) and not isinstance(value, bool) and low <= value <= high,
        )

    def number(self, key: str, low: float, high: float, default: Any = MISSING) -> Any:
        """A number from `low` to `high`."""
        value = self._take(
            key,
            default,
            f"a number from {low:g} to {high:g}",
            lambda value: isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high,
        )
        return value if value is None else float(value)

    def switch(self, key: str, default: Any = MISSING) -> Any:
        """``true`` or ``false``."""
        return self._take(key, default, "true or false", lambda value: isinstance(value, bool))

    def texts(self, key: str, kind: str, fits: Callable[[str], bool], default: Any = MISSING) -> Any:
        """A list of strings, not empty, each of which `fits`."""
        values = self._take(
            key,
            default,
            f"a list of {kind}",
            lambda value: (
                isinstance(value, list) and bool(value) and all(isinstance(v, str) and fits(v) for v in value)
            ),
        )
        return tuple(values)

    def existing_file(self, key: str, default: Any = MISSING) -> Any:
        """A file that can be read, as an absolute path; a relative one starts at the folder of the configuration."""
        value = self.text(key, default, "the path of a file")
        if value is default:
            return value
        path = self.resolved(value)
        if not path.is_file() or not os.access(path, os.R_OK):
            raise self.error(key, f"{value}: no such file, or it cannot be read")
        return path

    def resolved(self, value: str) -> Path:
        """An absolute path; a relative one starts at the folder of the configuration."""
        return Path(os.path.abspath(self.file.parent / os.path.expanduser(value)))

    def variable(self, key: str) -> Any:
        """The NAME of an environment variable that holds a secret; None where the key is not given."""
        kind = "the NAME of an environment variable (capitals, digits, _), not the secret itself"
        return self.text(
            key, None, kind, lambda name: bool(name) and set(name) <= VARIABLE_CHARACTERS and not name[:1].isdigit()
        )

    def tables(self, key: str) -> dict[str, Table]:
        """The tables within a table, by name."""
        inner = self.table(key)
        return {name: Table(self.file, f"{self._full(key)}.{name}", value) for name, value in inner._values.items()}

    def table(self, key: str) -> Table:
        """A table within this one; an empty one where it is not given."""
        return Table(self.file, self._full(key), self._values[key] if self.has(key) else {})

    def refuse_others(self) -> None:
        """What no method asked for.

        Raises:
            InputError: a key that is not known, with the one that it resembles; a secret, with the way out.
        """
        for key in self._values:
            if key in self._known:
                continue
            if key.lower() in SECRETS:
                raise self.error(key, f"secrets do not belong in a file; give {key}_env = the NAME of a variable")
            similar = difflib.get_close_matches(key, self._known, n=1)
            hint = f"did you mean {similar[0]}?" if similar else f"known are {', '.join(sorted(self._known))}"
            raise self.error(key, f"unknown key; {hint}")
