"""Reading and writing volumes with the grid they lie on."""

from medsr_monai.volumes.dicom_series import is_dicom_volume, say_what_was_done, write_derived_series
from medsr_monai.volumes.dictionary import LoadVolumed
from medsr_monai.volumes.example import write_example
from medsr_monai.volumes.finding import find_volumes
from medsr_monai.volumes.in_memory import volume_of
from medsr_monai.volumes.lazy import LazyVolume, open_volume, read_volume, voxels_to_unpack
from medsr_monai.volumes.reading import read_info
from medsr_monai.volumes.slab_writing import SlabWriter, VolumeKeeper, streamable_suffix, write_volume
from medsr_monai.volumes.volume import (
    DICOM_SUFFIX,
    READABLE_SUFFIXES,
    STREAMABLE_SUFFIXES,
    WRITABLE_SUFFIXES,
    Volume,
    VolumeInfo,
    volume_stem,
    volume_suffix,
)
from medsr_monai.volumes.writing import DTYPES, OutputsTogether, prepare_folder, refuse_overwriting

__all__ = [
    "DICOM_SUFFIX",
    "DTYPES",
    "READABLE_SUFFIXES",
    "STREAMABLE_SUFFIXES",
    "WRITABLE_SUFFIXES",
    "LazyVolume",
    "LoadVolumed",
    "OutputsTogether",
    "SlabWriter",
    "Volume",
    "VolumeInfo",
    "VolumeKeeper",
    "find_volumes",
    "is_dicom_volume",
    "open_volume",
    "prepare_folder",
    "read_info",
    "read_volume",
    "refuse_overwriting",
    "say_what_was_done",
    "streamable_suffix",
    "volume_of",
    "volume_stem",
    "volume_suffix",
    "voxels_to_unpack",
    "write_derived_series",
    "write_example",
    "write_volume",
]
