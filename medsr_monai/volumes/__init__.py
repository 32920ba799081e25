"""Reading and writing volumes with the grid they lie on.

Importing it is cheap: the public names are loaded when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from medsr_monai.system.optional import load_lazily

if TYPE_CHECKING:
    from medsr_monai.volumes.dicom_series import is_dicom_volume, say_what_was_done, write_derived_series
    from medsr_monai.volumes.dictionary import LoadVolumed
    from medsr_monai.volumes.example import write_example
    from medsr_monai.volumes.finding import find_volumes
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
        VolumePath,
        volume_stem,
        volume_suffix,
    )
    from medsr_monai.volumes.writing import DTYPES, OutputsTogether, prepare_folder, refuse_overwriting

_HOME = {
    "DICOM_SUFFIX": "volume",
    "DTYPES": "writing",
    "LazyVolume": "lazy",
    "LoadVolumed": "dictionary",
    "OutputsTogether": "writing",
    "READABLE_SUFFIXES": "volume",
    "STREAMABLE_SUFFIXES": "volume",
    "SlabWriter": "slab_writing",
    "Volume": "volume",
    "VolumeInfo": "volume",
    "VolumeKeeper": "slab_writing",
    "VolumePath": "volume",
    "WRITABLE_SUFFIXES": "volume",
    "find_volumes": "finding",
    "is_dicom_volume": "dicom_series",
    "open_volume": "lazy",
    "prepare_folder": "writing",
    "read_info": "reading",
    "read_volume": "lazy",
    "refuse_overwriting": "writing",
    "say_what_was_done": "dicom_series",
    "streamable_suffix": "slab_writing",
    "volume_stem": "volume",
    "volume_suffix": "volume",
    "voxels_to_unpack": "lazy",
    "write_derived_series": "dicom_series",
    "write_example": "example",
    "write_volume": "slab_writing",
}
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
    "VolumePath",
    "find_volumes",
    "is_dicom_volume",
    "open_volume",
    "prepare_folder",
    "read_info",
    "read_volume",
    "refuse_overwriting",
    "say_what_was_done",
    "streamable_suffix",
    "volume_stem",
    "volume_suffix",
    "voxels_to_unpack",
    "write_derived_series",
    "write_example",
    "write_volume",
]

__getattr__, __dir__ = load_lazily(__name__, globals(), _HOME)
