"""DICOM series: find them, read them as volumes, and write derived series that an archive accepts."""

from medsr_monai.volumes.dicom.derivation import refuse_source
from medsr_monai.volumes.dicom.derived import DerivedSeriesWriter, write_derived
from medsr_monai.volumes.dicom.series import Series, choose_series, find_series, is_dicom, series_path
from medsr_monai.volumes.dicom.source import DicomSource, find_sources, open_series
from medsr_monai.volumes.dicom.volume import DicomVolume

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
