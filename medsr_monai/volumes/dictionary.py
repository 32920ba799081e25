"""MONAI dictionary transforms that read and write volumes."""

from __future__ import annotations

import os
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform, Transform
from monai.utils.enums import MetaKeys

from medsr_monai.geometry import N_AXES, Grid
from medsr_monai.system.atomic import Together
from medsr_monai.system.errors import InputError
from medsr_monai.volumes.dicom_series import refuse_target, say_what_was_done
from medsr_monai.volumes.reading import read_info, read_volume
from medsr_monai.volumes.slab_writing import streamable_suffix, write_in_slabs
from medsr_monai.volumes.volume import (
    DICOM_SUFFIX,
    STREAMABLE_SUFFIXES,
    WRITABLE_SUFFIXES,
    Volume,
    VolumeInfo,
    VolumePath,
    volume_stem,
)
from medsr_monai.volumes.writing import OutputsTogether, write_volume

_FILE_NAME = "filename_or_obj"


class _SourceName(str):
    """The name of a volume that was read, and what its header said: MONAI collates and copies it as a string.

    Args:
        info: of the volume; its path is the name.
    """

    info: VolumeInfo

    def __new__(cls, info: VolumeInfo) -> _SourceName:
        name = super().__new__(cls, info.path)
        name.info = info
        return name

    def __reduce__(self) -> tuple[type, tuple[VolumeInfo]]:
        return type(self), (self.info,)

    def __deepcopy__(self, memo: dict[int, Any]) -> _SourceName:
        return self


class LoadVolumed(MapTransform):
    """Read a volume into a MetaTensor (C, X, Y, Z), C = 1 or the number of time points, affine in RAS mm.

    Args:
        keys: keys that hold a file name.
        allow_missing_keys: skip a key that is absent.
        allow_series: read 4D files too; training takes 3D volumes only.
    """

    def __init__(self, keys: KeysCollection, allow_missing_keys: bool = False, allow_series: bool = True) -> None:
        super().__init__(keys, allow_missing_keys)
        self.allow_series = allow_series

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Replace each file name by its volume.

        Raises:
            InputError: see `read_volume`, or a series where none is allowed.
        """
        result = dict(data)
        for key in self.key_iterator(result):
            volume = read_volume(result[key])
            say_what_was_done(volume)
            if not self.allow_series and volume.n_times is not None:
                raise InputError(f"{volume.path}: a series of {volume.n_times} volumes; need a 3D volume, split it")
            series = volume.data if volume.data.ndim > N_AXES else volume.data[..., np.newaxis]
            affine = torch.from_numpy(volume.grid.affine.copy())
            # Only strings, numbers and tensors, which MONAI's loader can collate.
            meta = {
                _FILE_NAME: _SourceName(_header_of(volume)),
                "original_dtype": str(volume.dtype),
                MetaKeys.ORIGINAL_AFFINE.value: affine.clone(),
                MetaKeys.ORIGINAL_CHANNEL_DIM.value: 0,
                MetaKeys.SPATIAL_SHAPE.value: np.array(volume.grid.shape),
                MetaKeys.SPACE.value: "RAS",
            }
            voxels = torch.from_numpy(np.ascontiguousarray(np.moveaxis(series, -1, 0)))
            result[key] = MetaTensor(voxels, affine=affine, meta=meta)
        return result


class SaveVolumed(MapTransform):
    """Write MetaTensors (C, X, Y, Z) with their current affine; the data pass through unchanged.

    Args:
        keys: keys to write.
        output_dir: folder for `<stem of the source>_<postfix><suffix>`; created where it is missing.
        postfix: what to append to the stem; may be empty.
        suffix: .nii, .nii.gz, .mha, .nrrd or .ome.zarr; .dcm for a folder of its own for each DICOM series.
        dtype: see `write_volume`.
        output_file: the one file to write, instead of a name in `output_dir`.
        allow_missing_keys: skip a key that is absent.
        label: what a second output of the same source has behind its stem: `<...>_<label><suffix>`.
        is_approximate: say so in the file; see `SlabWriter`.
        algorithm: what made the images; see `SlabWriter`.

    Raises:
        InputError: an unknown suffix, or one output file for several keys.
    """

    def __init__(
        self,
        keys: KeysCollection,
        output_dir: str | Path = ".",
        postfix: str = "sr",
        suffix: str = ".nii.gz",
        dtype: str = "float32",
        output_file: str | Path | None = None,
        allow_missing_keys: bool = False,
        label: str = "",
        is_approximate: bool = False,
        algorithm: str = "",
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        if suffix not in (*STREAMABLE_SUFFIXES, DICOM_SUFFIX):
            raise InputError(f"suffix {suffix}: supported are {', '.join(STREAMABLE_SUFFIXES)}, {DICOM_SUFFIX}")
        if output_file is not None and len(self.keys) > 1:
            raise InputError(f"output_file {output_file}: one file cannot hold the {len(self.keys)} keys {self.keys}")
        self.output_dir = Path(output_dir)
        self.postfix = postfix
        self.suffix = suffix
        self.dtype = dtype
        self.output_file = None if output_file is None else Path(output_file)
        self.label = label
        self.is_approximate = is_approximate
        self.algorithm = algorithm
        self._sources: dict[Path, tuple[Hashable, str]] = {}

    def output_path(self, key: Hashable, source: str) -> Path:
        """Name the output of a source.

        Raises:
            InputError: it would replace the input, or the output of another input.
        """
        name = "_".join(part for part in (volume_stem(source), self.postfix) if part)
        suffix = "" if self.suffix == DICOM_SUFFIX else self.suffix
        path = self.output_file or self.output_dir / f"{name}{suffix}"
        if self.label:
            stem = path.name[: len(path.name) - len(_written_suffix(path))]
            path = path.with_name(f"{stem}_{self.label}{path.name[len(stem) :]}")
        both_exist = path.exists() and os.path.exists(source)
        if os.path.realpath(path) == os.path.realpath(source) or (both_exist and os.path.samefile(path, source)):
            raise InputError(f"{path}: would overwrite the input; choose another output_dir or postfix")
        earlier = self._sources.setdefault(Path(os.path.realpath(path)), (key, source))
        if earlier != (key, source):
            raise InputError(
                f"{path}: already written from {earlier[1]} ({earlier[0]}); give {source} another output_dir"
            )
        return path

    def check(self, source: VolumePath) -> None:
        """Refuse a target that could not be written, before hours of work are spent on it.

        Raises:
            InputError: see `output_path`; an unknown suffix; or a DICOM series whose folder is in use, or whose source
                cannot have a derived series.
        """
        for key in self.keys:
            path = self.output_path(key, str(source))
            info = _source_info(source)  # what cannot be read is said where it is read
            if streamable_suffix(path) == DICOM_SUFFIX and info is not None:
                refuse_target(path, info)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Write each key's volume.

        Raises:
            InputError: no MetaTensor (C, X, Y, Z) with the name of its source, an output that is the input, or see
                `write_volume`.
        """
        return self.save(data)

    def save(self, data: Mapping[Hashable, Any], together: Together | None = None) -> dict[Hashable, Any]:
        """The same; `together` gives the names, with those of other files."""
        result = dict(data)
        for key in self.key_iterator(result):
            image = result[key]
            if not isinstance(image, MetaTensor) or _FILE_NAME not in image.meta:
                raise InputError(f"key {key}: no MetaTensor with '{_FILE_NAME}' in its meta; load it with LoadVolumed")
            if image.ndim != N_AXES + 1:
                raise InputError(f"key {key}: shape {tuple(image.shape)}; need (C, X, Y, Z), decollate batches first")
            source = image.meta[_FILE_NAME]
            path = self.output_path(key, str(source))
            array = np.moveaxis(image.detach().cpu().numpy(), 0, -1)
            array = array[..., 0] if array.shape[-1] == 1 else array
            grid = Grid(array.shape[:N_AXES], image.affine.cpu().numpy())
            what = (path, array, grid, _source_info(source), self.dtype, self.is_approximate, together)
            if streamable_suffix(path) in WRITABLE_SUFFIXES:
                write_volume(*what)
            else:
                write_in_slabs(*what, self.algorithm)
            image.meta[MetaKeys.SAVED_TO.value] = str(path)
        return result


class SaveTogetherd(Transform):
    """Several outputs of one input that appear under their names when all of them are complete, and none if one fails.

    Args:
        savers: write them.
    """

    def __init__(self, savers: Sequence[SaveVolumed]) -> None:
        self.savers = tuple(savers)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Write every saver's volumes.

        Raises:
            InputError: see `SaveVolumed`.
        """
        result = dict(data)
        with OutputsTogether() as together:
            for saver in self.savers:
                result = saver.save(result, together)
        return result


def _written_suffix(path: Path) -> str:
    """The suffix that a name has; the folder of a DICOM series has none."""
    suffix = streamable_suffix(path)
    return "" if suffix == DICOM_SUFFIX else suffix


def _header_of(volume: Volume) -> VolumeInfo:
    return VolumeInfo(**{field.name: getattr(volume, field.name) for field in fields(VolumeInfo)})


def _source_info(source: VolumePath) -> VolumeInfo | None:
    """What the source's header said; one that is no volume (gone) has none to offer."""
    if isinstance(source, _SourceName):
        return source.info
    try:
        return read_info(source)
    except InputError:
        return None
