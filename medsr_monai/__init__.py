"""Super-resolution of medical images as MONAI bundles.

Importing the package is cheap: the public names below are loaded when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from medsr_monai.system.optional import load_lazily

if TYPE_CHECKING:
    from medsr_monai.acquisition import SeparableAcquisition
    from medsr_monai.geometry import Grid
    from medsr_monai.networks import RRDBNet
    from medsr_monai.volumes import read_volume, write_volume

from medsr_monai.system.version import __version__

__all__ = ["Grid", "RRDBNet", "SeparableAcquisition", "__version__", "read_volume", "write_volume"]

_HOME = {
    "Grid": "geometry",
    "RRDBNet": "networks",
    "SeparableAcquisition": "acquisition",
    "read_volume": "volumes",
    "write_volume": "volumes",
}

__getattr__, __dir__ = load_lazily(__name__, globals(), _HOME)
