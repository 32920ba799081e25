"""The TOML file that names archives, and what the listener may do: read, and refused in one line."""

from __future__ import annotations

import difflib
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

from medsr_monai.system.errors import InputError
from medsr_monai.system.optional import require

if TYPE_CHECKING:
    from medsr_pacs.settings import DimseSettings, ListenSettings, Network, WebSettings

VARIABLE = "MEDSR_PACS_CONFIG"
DEFAULT_FILE = "pacs.toml"
# Names under which people put secrets into files.
SECRETS = ("password", "passwd", "token", "secret", "user", "username", "api_key", "bearer", "authorization")


@dataclass(frozen=True)
class Configuration:
    """A whole file.

    Args:
        file: where it was read.
        network: what all associations share.
        remotes: the archives by name.
        upscale: what is handed to the bundle's workflow.
        listen: of the listener.
        default_remote: name of an archive.
    """

    file: Path
    network: Network
    remotes: dict[str, DimseSettings | WebSettings]
    upscale: dict[str, Any]
    listen: ListenSettings | None = None
    default_remote: str | None = None

    def choose(self, name: str | None) -> str:
        """The name of an archive: this one; without it the default one, or the only one.

        Raises:
            InputError: no such archive, or which one is not said.
        """
        known = ", ".join(sorted(self.remotes)) or "none"
        chosen = name if name is not None else self.default_remote
        if chosen is None:
            if len(self.remotes) != 1:
                raise InputError(f"{self.file}: remotes: there are {known}; choose with --remote NAME")
            chosen = next(iter(self.remotes))
        if chosen not in self.remotes:
            raise InputError(f"{self.file}: remotes.{chosen}: not there; known are {known}")
        return chosen


def find_configuration(file: str | None) -> Path:
    """The file that is named, else the one that MEDSR_PACS_CONFIG names, else pacs.toml in the working folder."""
    chosen = file or os.environ.get(VARIABLE) or DEFAULT_FILE
    path = Path(os.path.abspath(os.path.expanduser(chosen)))
    if not path.is_file():
        raise InputError(f"{path}: no such file; give --config FILE or set {VARIABLE} (see docs/pacs.example.toml)")
    return path


def read_configuration(file: str | Path | None = None) -> Configuration:
    """Read and check a configuration.

    Args:
        file: None for MEDSR_PACS_CONFIG, or pacs.toml in the working folder.

    Raises:
        InputError: the first mistake, with file and key.
    """
    pydantic = require("pydantic", "dicom")
    from medsr_pacs.settings import Settings

    path = find_configuration(None if file is None else str(file))
    values = read_toml(path)
    try:
        settings = Settings.model_validate(values, context={"folder": path.parent})
    except pydantic.ValidationError as error:
        raise InputError(f"{path}: {first_mistake(error.errors(include_input=False))}") from None
    upscale = settings.upscale.model_dump(exclude_none=True)
    return Configuration(path, settings, settings.remotes, upscale, settings.listen, settings.default_remote)


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


def first_mistake(errors: list[Any]) -> str:
    """One line of what pydantic found: the key, what is wrong, and the way out; never a value, which may be a secret.

    An unknown key comes first: it may be the one that is missing, misspelt.
    """
    error = min(errors, key=lambda one: one["type"] != "extra_forbidden")
    path, table, field = _place(error["loc"])
    kind = error["type"]
    if kind == "value_error":
        reason = error["ctx"]["error"]
        path = [*path, *filter(None, [getattr(reason, "key", "")])]
        return f"{'.'.join(path)}: {reason}"
    if kind == "extra_forbidden":
        return f"{'.'.join(path)}: {_unknown(path[-1], sorted(table.model_fields))}"
    if kind.startswith("union_tag"):
        missing = "is missing; it " if kind == "union_tag_not_found" else ""
        return f"{'.'.join([*path, 'kind'])}: {missing}must be one of dimse, dicomweb"
    if kind in ("dict_type", "model_type", "model_attributes_type"):
        return f"{'.'.join(path)}: must be a table, [{'.'.join(path)}]"
    missing = "is missing; it " if kind == "missing" else ""
    return f"{'.'.join(path)}: {missing}must be {_kind(field.annotation, [field, *field.metadata])}"


def _place(location: tuple[Any, ...]) -> tuple[list[str], Any, Any]:
    """The keys that lead to a mistake, the class of the table that it is in, and its field."""
    from medsr_pacs.settings import DimseSettings, Settings, Table, WebSettings

    kinds = {"dimse": DimseSettings, "dicomweb": WebSettings}
    path: list[str] = []
    table: Any = Settings
    inner: Any = Settings
    field = None
    for part in location:
        if isinstance(part, int):  # an item of a list
            break
        if len(path) == 2 and path[0] == "remotes" and inner is None:  # which kind of archive, by pydantic
            inner = kinds[part]
            continue
        path.append(part)
        table, field = inner, inner.model_fields.get(part) if inner else None
        types = [] if field is None else [field.annotation, *get_args(field.annotation)]
        inner = next((one for one in types if isinstance(one, type) and issubclass(one, Table)), None)
    return path, table, field


def _unknown(key: str, known: list[str]) -> str:
    if key.lower() in SECRETS:
        return f"secrets do not belong in a file; give {key}_env = the NAME of a variable"
    similar = difflib.get_close_matches(key, known, n=1)
    return f"unknown key; did you mean {similar[0]}?" if similar else f"unknown key; known are {', '.join(known)}"


def _kind(annotation: Any, metadata: list[Any]) -> str:
    """What a value must be, in words: the field's description, its choices, or its type and range."""
    for part in get_args(annotation) if get_origin(annotation) is not Literal else ():
        if hasattr(part, "__metadata__"):  # within "or None"
            annotation, metadata = part.__origin__, [*metadata, *part.__metadata__]
        elif get_origin(part) is Literal or part in (int, float, bool):
            annotation = part
    nested = [inner for one in metadata for inner in (one, *getattr(one, "metadata", ()))]
    description = next((one.description for one in nested if getattr(one, "description", None)), None)
    if description:
        return str(description)
    if get_origin(annotation) is Literal:
        return f"one of {', '.join(get_args(annotation))}"
    if annotation is bool:
        return "true or false"
    low, high = (next((getattr(one, end) for one in nested if hasattr(one, end)), None) for end in ("ge", "le"))
    if annotation is int:
        return f"a whole number from {low} to {high}"
    return f"a number from {low:g} to {high:g}" if annotation is float else "text"
