"""Reading and writing volumes with the grid they lie on."""

from medsr_monai.volumes.dicom_series import is_dicom_volume, write_derived_series
from medsr_monai.volumes.dictionary import LoadVolumed, SaveTogetherd, SaveVolumed
from medsr_monai.volumes.example import write_example
from medsr_monai.volumes.finding import find_volumes
from medsr_monai.volumes.lazy import LazyVolume, open_volume, voxels_to_unpack
from medsr_monai.volumes.reading import read_info, read_volume
from medsr_monai.volumes.slab_writing import SlabWriter, streamable_suffix, write_in_slabs
from medsr_monai.volumes.volume import (
    DICOM_SUFFIX,
    READABLE_SUFFIXES,
    STREAMABLE_SUFFIXES,
    WRITABLE_SUFFIXES,
    Volume,
    VolumeInfo,
    VolumePath,
    volume_stem,
    volume_suffix,
)
from medsr_monai.volumes.writing import DTYPES, OutputsTogether, prepare_folder, write_volume

__all__ = [
    "DICOM_SUFFIX",
    "DTYPES",
    "READABLE_SUFFIXES",
    "STREAMABLE_SUFFIXES",
    "WRITABLE_SUFFIXES",
    "LazyVolume",
    "LoadVolumed",
    "OutputsTogether",
    "SaveTogetherd",
    "SaveVolumed",
    "SlabWriter",
    "Volume",
    "VolumeInfo",
    "VolumePath",
    "find_volumes",
    "is_dicom_volume",
    "open_volume",
    "prepare_folder",
    "read_info",
    "read_volume",
    "streamable_suffix",
    "volume_stem",
    "volume_suffix",
    "voxels_to_unpack",
    "write_derived_series",
    "write_example",
    "write_in_slabs",
    "write_volume",
]
