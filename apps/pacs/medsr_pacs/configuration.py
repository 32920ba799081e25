"""The TOML file that names archives, and what the listener may do: read, and refused in one line."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medsr_monai.system.errors import InputError
from medsr_monai.system.optional import require

if TYPE_CHECKING:
    from medsr_pacs.remote import Remote
    from medsr_pacs.settings import Settings

VARIABLE = "MEDSR_PACS_CONFIG"
DEFAULT_FILE = "pacs.toml"


def read_configuration(file: str | Path | None = None) -> Settings:
    """Read and check a configuration.

    Args:
        file: None for the one that MEDSR_PACS_CONFIG names, or pacs.toml in the working folder.

    Raises:
        InputError: the first mistake, with file and key.
    """
    pydantic = require("pydantic", "dicom")
    from medsr_pacs.settings import Settings

    path = Path(os.path.abspath(os.path.expanduser(file or os.environ.get(VARIABLE) or DEFAULT_FILE)))
    if not path.is_file():
        raise InputError(f"{path}: no such file; give --config FILE or set {VARIABLE} (see docs/pacs.example.toml)")
    parser = require("tomllib", "dicom") if sys.version_info >= (3, 11) else require("tomli", "dicom")
    try:
        values = parser.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read, or is no valid TOML: {' '.join(str(error).split())}") from None
    try:
        settings = Settings.model_validate(values, context={"folder": path.parent})
    except pydantic.ValidationError as error:
        raise InputError(f"{path}: {first_mistake(error.errors(include_input=False))}") from None
    settings._file = path
    return settings


def first_mistake(errors: list[Any]) -> str:
    """One line of what pydantic found: the key and what is wrong; never a value, which may be a secret."""
    error = errors[0]
    path = [str(part) for part in error["loc"]]
    if path[:1] == ["remotes"]:
        del path[2:3]  # which kind of archive, by pydantic
    if error["type"] == "value_error":
        reason = error["ctx"]["error"]
        return f"{'.'.join([*path, *filter(None, [getattr(reason, 'key', '')])])}: {reason}"
    if error["type"].startswith("union_tag"):
        missing = "is missing; it " if error["type"] == "union_tag_not_found" else ""
        return f"{'.'.join([*path, 'kind'])}: {missing}must be one of dimse, dicomweb"
    what = error["msg"] if error["type"] == "unfit" else f"must be a table, [{'.'.join(path)}]"
    return f"{'.'.join(path)}: {what}"


def open_remote(configuration: Settings, name: str | None = None) -> Remote:
    """The archive of this name, ready to be asked; nothing is sent yet.

    Raises:
        InputError: no such archive, a certificate that is none, or a secret that is not in the environment.
    """
    chosen = configuration.choose(name)
    settings = configuration.remotes[chosen]
    if settings.kind == "dimse":
        from medsr_pacs.dimse import DimseRemote

        return DimseRemote(chosen, settings, configuration)
    from medsr_pacs.dicomweb import WebRemote

    return WebRemote(chosen, settings)
