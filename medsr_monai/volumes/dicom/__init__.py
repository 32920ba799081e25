"""DICOM series: find them, read them as volumes, and write derived series that an archive accepts.

Importing it is cheap: the public names are loaded when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from medsr_monai.system.optional import load_lazily

if TYPE_CHECKING:
    from medsr_monai.volumes.dicom.derivation import refuse_source
    from medsr_monai.volumes.dicom.derived import DerivedSeriesWriter, write_derived
    from medsr_monai.volumes.dicom.series import Series, choose_series, find_series, is_dicom, series_path
    from medsr_monai.volumes.dicom.source import DicomSource, find_sources, open_series
    from medsr_monai.volumes.dicom.volume import DicomVolume

_HOME = {
    "DerivedSeriesWriter": "derived",
    "DicomSource": "source",
    "DicomVolume": "volume",
    "Series": "series",
    "choose_series": "series",
    "find_series": "series",
    "find_sources": "source",
    "is_dicom": "series",
    "open_series": "source",
    "refuse_source": "derivation",
    "series_path": "series",
    "write_derived": "derived",
}
__all__ = [
    "DerivedSeriesWriter",
    "DicomSource",
    "DicomVolume",
    "Series",
    "choose_series",
    "find_series",
    "find_sources",
    "is_dicom",
    "open_series",
    "refuse_source",
    "series_path",
    "write_derived",
]

__getattr__, __dir__ = load_lazily(__name__, globals(), _HOME)
