"""DICOM series: find them, read them as volumes, and write derived series that an archive accepts.

Importing it is cheap: the public names are loaded when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from medsr_monai.system.optional import load_lazily

if TYPE_CHECKING:
    from medsr_monai.volumes.dicom.derived import DerivedSeriesWriter
    from medsr_monai.volumes.dicom.series import choose_series, find_series, is_dicom, series_path
    from medsr_monai.volumes.dicom.source import DicomSource, find_sources, open_series
    from medsr_monai.volumes.dicom.volume import DicomVolume

FILES = {
    "derived": "DerivedSeriesWriter",
    "series": "choose_series find_series is_dicom series_path",
    "source": "DicomSource find_sources open_series",
    "volume": "DicomVolume",
}

_HOMES = {name: file for file, names in FILES.items() for name in names.split()}

__all__ = [*_HOMES]

__getattr__, __dir__ = load_lazily(__name__, globals(), _HOMES)
