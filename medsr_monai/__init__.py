"""Super-resolution of medical images as MONAI bundles.

Importing the package is cheap: the public names below are loaded when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from medsr_monai.acquisition import SeparableAcquisition
    from medsr_monai.geometry import Grid
    from medsr_monai.networks import RRDBNet
    from medsr_monai.volumes import read_volume, write_volume

__version__ = "0.1.0"

__all__ = ["Grid", "RRDBNet", "SeparableAcquisition", "__version__", "read_volume", "write_volume"]

_HOME = {
    "Grid": "medsr_monai.geometry",
    "RRDBNet": "medsr_monai.networks",
    "SeparableAcquisition": "medsr_monai.acquisition",
    "read_volume": "medsr_monai.volumes",
    "write_volume": "medsr_monai.volumes",
}


def __getattr__(name: str) -> Any:
    """Load a public name from the module that defines it, and keep it for the next time."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_HOME[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
