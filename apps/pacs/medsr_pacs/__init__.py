"""Archives (PACS): query, fetch and send by DIMSE or DICOMweb, and a listener that upscales what arrives.

Importing it is cheap, as the command line needs it: the public names are loaded when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from medsr_monai.system.optional import load_lazily

if TYPE_CHECKING:
    from medsr_pacs.archives import open_remote
    from medsr_pacs.configuration import Configuration, read_configuration
    from medsr_pacs.remote import Found, Remote
    from medsr_pacs.round_trip import upscale_study
    from medsr_pacs.service import Service
    from medsr_pacs.upscaling import Upscale, upscale_in_process

_HOME = {
    "Configuration": "configuration",
    "Found": "remote",
    "Remote": "remote",
    "Service": "service",
    "Upscale": "upscaling",
    "open_remote": "archives",
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

__getattr__, __dir__ = load_lazily(__name__, globals(), _HOME)
