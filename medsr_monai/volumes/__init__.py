"""Reading and writing volumes with the grid they lie on.

Importing it is cheap: the public names are loaded when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from medsr_monai.system.optional import load_lazily

if TYPE_CHECKING:
    from medsr_monai.volumes.dictionary import LoadVolumed
    from medsr_monai.volumes.example import write_example
    from medsr_monai.volumes.finding import find_volumes
    from medsr_monai.volumes.in_memory import volume_of
    from medsr_monai.volumes.lazy import LazyVolume, open_volume, read_volume, voxels_to_unpack
    from medsr_monai.volumes.reading import is_dicom_volume, read_info, say_what_was_done
    from medsr_monai.volumes.slab_writing import (
        SlabWriter,
        VolumeKeeper,
        streamable_suffix,
        write_derived_series,
        write_volume,
    )
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

FILES = {
    "dictionary": "LoadVolumed",
    "example": "write_example",
    "finding": "find_volumes",
    "in_memory": "volume_of",
    "lazy": "LazyVolume open_volume read_volume voxels_to_unpack",
    "reading": "is_dicom_volume read_info say_what_was_done",
    "slab_writing": "SlabWriter VolumeKeeper streamable_suffix write_derived_series write_volume",
    "volume": """
        DICOM_SUFFIX READABLE_SUFFIXES STREAMABLE_SUFFIXES WRITABLE_SUFFIXES Volume VolumeInfo VolumePath volume_stem
        volume_suffix
    """,
    "writing": "DTYPES OutputsTogether prepare_folder refuse_overwriting",
}

_HOMES = {name: file for file, names in FILES.items() for name in names.split()}

__all__ = [*_HOMES]

__getattr__, __dir__ = load_lazily(__name__, globals(), _HOMES)
