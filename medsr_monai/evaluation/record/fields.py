"""The JSON of a record's files, read into dataclasses: each field as its annotation says."""

from __future__ import annotations

import sys
from collections.abc import Container, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from medsr_monai.system.errors import InputError
from medsr_monai.system.json_files import read_json

AGAIN = "run `medsr evaluate` again"
T = TypeVar("T")


class DamagedError(Exception):
    """What is wrong in a file, without its name."""


@contextmanager
def reading(path: Path) -> Iterator[dict[str, Any]]:
    """The JSON object of a file; what is wrong in it is said with the file's name.

    Raises:
        InputError: the file is missing, is no JSON object, or a `DamagedError` was raised inside.
    """
    content = read_json(path, "the folder must be one that `medsr evaluate --out` wrote to its end")
    try:
        yield content
    except DamagedError as error:
        raise InputError(f"{path}: damaged, {error}; {AGAIN}") from error


def parse(kind: type[T], content: Any, where: str = "it") -> T:
    """A dataclass from a JSON object; keys that it has no field for are left alone.

    A field that is a dataclass may be given as one; ``where`` is the object's place, for messages.

    Raises:
        DamagedError: a field is missing or has another type.
    """
    if isinstance(content, kind):
        return content
    if not isinstance(content, dict):
        raise DamagedError(f"{where} must be an object")
    hints = _hints(cast(Any, kind))
    given = {}
    for field in fields(kind):  # type: ignore[arg-type]
        is_optional = field.default is not MISSING or field.default_factory is not MISSING
        if field.name in content or not is_optional:
            given[field.name] = _value(hints[field.name], content.get(field.name), where, field.name)
    return kind(**given)


def parse_list(kind: type[T], content: Mapping[str, Any], key: str) -> tuple[T, ...]:
    """Dataclasses from the list under a key."""
    return cast(tuple[T, ...], _value(tuple[kind, ...], content.get(key), "it", key))  # type: ignore[valid-type]


_hints = cache(get_type_hints)


def _value(kind: Any, value: Any, where: str, key: str) -> Any:
    """A field's value: finite numbers, None for others where None may be."""
    options = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
    if any(isinstance(value, one) for one in options if get_origin(one) is None and one not in (int, float, Any)):
        return value
    kind = next(option for option in reversed(options) if option is not NoneType)
    origin, inner = get_origin(kind) or kind, get_args(kind)
    if is_dataclass(kind):
        return parse(cast(type, kind), value, where)
    if origin is Literal:
        if value not in inner:
            raise DamagedError(f"{where} has {key} = '{value}', known are {', '.join(inner)}")
        return value
    if origin is tuple:
        if not isinstance(value, list):
            raise DamagedError(f"{where} needs the list '{key}'")
        return tuple(
            _value(inner[0], item, f"{key}[{i}]" if where == "it" else where, key) for i, item in enumerate(value)
        )
    if origin is Mapping:
        if not isinstance(value, dict):
            raise DamagedError(f"'{key}' must be an object")
        return {
            name: _value(inner[1], one, f"{key} '{name}'" if where == "it" else where, name)
            for name, one in value.items()
        }
    if kind not in (int, float):
        raise DamagedError(f"{where} needs the text '{key}'")
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise DamagedError(f"{where} has '{key}' = {value!r:.60}, which is no number")
    if value is not None and abs(value) <= sys.float_info.max:
        return kind(value)
    if NoneType not in options:
        raise DamagedError(f"{where} needs the number '{key}'")
    return None


def check_known(key: str, value: Any, known: Container[str], where: str) -> None:
    """Refuse a name that the file does not define."""
    if not isinstance(value, str) or value not in known:
        raise DamagedError(f"{where} names the {key} '{value}', which the file does not define")
