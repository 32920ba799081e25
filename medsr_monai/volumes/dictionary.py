"""The MONAI dictionary transform that reads volumes."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from monai.utils.enums import MetaKeys

from medsr_monai.geometry import N_AXES
from medsr_monai.system.errors import InputError
from medsr_monai.volumes.lazy import read_volume
from medsr_monai.volumes.reading import say_what_was_done

_FILE_NAME = "filename_or_obj"


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
            # Only strings, numbers and tensors, which MONAI's loader can collate; the header is read again on saving.
            meta = {
                _FILE_NAME: str(volume.path),
                "original_dtype": str(volume.dtype),
                MetaKeys.ORIGINAL_AFFINE.value: affine.clone(),
                MetaKeys.ORIGINAL_CHANNEL_DIM.value: 0,
                MetaKeys.SPATIAL_SHAPE.value: np.array(volume.grid.shape),
                MetaKeys.SPACE.value: "RAS",
            }
            voxels = torch.from_numpy(np.ascontiguousarray(np.moveaxis(series, -1, 0)))
            result[key] = MetaTensor(voxels, affine=affine, meta=meta)
        return result
