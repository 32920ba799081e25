"""Archives (PACS): query, fetch and send by DIMSE or DICOMweb, and a listener that upscales what arrives.

Importing it is cheap, as the command line needs it: the public names are loaded when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from medsr_monai.pacs.configuration import Configuration, read_configuration
    from medsr_monai.pacs.remote import Found, Remote, open_remote
    from medsr_monai.pacs.round_trip import upscale_study
    from medsr_monai.pacs.service import Service
    from medsr_monai.pacs.upscaling import Upscale, upscale_in_process

_HOME = {
    "Configuration": "configuration",
    "Found": "remote",
    "Remote": "remote",
    "Service": "service",
    "Upscale": "upscaling",
    "open_remote": "remote",
    "read_configuration": "configuration",
    "upscale_in_process": "upscaling",
    "upscale_study": "round_trip",
}
__all__ = [
    "Configuration",
    "Found",
    "Remote",
    "Service",
    "Upscale",
    "open_remote",
    "read_configuration",
    "upscale_in_process",
    "upscale_study",
]


def __getattr__(name: str) -> Any:
    """Load a public name from the file that defines it, and keep it for the next time."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
