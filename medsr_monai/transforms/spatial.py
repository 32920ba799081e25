"""Where voxels lie: orientation, patches."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform, Randomizable, RandomizableTransform

from medsr_monai.geometry import Grid, network_orientation, reorient
from medsr_monai.system.errors import InputError


class ReorientToNetworkd(MapTransform):
    """Bring images to the axes of a network by flips and permutations only; the affine follows.

    With one scale these are the canonical axes (closest to RAS).

    Args:
        keys: images (C, *spatial) with an affine.
        scale: of the network, see :func:`medsr_monai.network_orientation`.
        axes: ``image`` or ``slice``, as there.
    """

    def __init__(self, keys: KeysCollection, scale: Sequence[float] = (1, 1, 1), axes: str = "image") -> None:
        super().__init__(keys)
        self.scale, self.axes = scale, axes

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        for key in self.keys:
            image = result[key]
            grid = Grid(tuple(image.shape[1:]), np.asarray(image.affine))
            orientation = network_orientation(grid, self.scale, self.axes)
            array = reorient(image.as_tensor(), orientation)
            meta = {name: value for name, value in image.meta.items() if name != "affine"}
            result[key] = MetaTensor(array, affine=torch.tensor(grid.reoriented(orientation).affine), meta=meta)
        return result


class MiddleSliced(MapTransform):
    """Take the middle slice of images along their third axis; the affine stays that of a volume, with its place.

    For networks of two axes: a picture has one slice, and a stack is judged by its middle one.

    Args:
        keys: images (C, X, Y, Z), which become (C, X, Y).
    """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        for key in self.keys:
            image = result[key]
            middle = image.shape[-1] // 2
            place = torch.eye(4, dtype=torch.float64)
            place[2, 3] = middle
            meta = {name: value for name, value in image.meta.items() if name != "affine"}
            result[key] = MetaTensor(image.as_tensor()[..., middle], affine=image.affine.double() @ place, meta=meta)
        return result


class CropToMultipled(MapTransform):
    """Crop images at the high end of each axis to a multiple of the scale; the affine stays true.

    Args:
        keys: images (C, *spatial).
        scale: integer factor per axis.
    """

    def __init__(self, keys: KeysCollection, scale: Sequence[int]) -> None:
        super().__init__(keys)
        self.scale = tuple(scale)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        for key in self.keys:
            image = result[key]
            sizes = [n // factor * factor for n, factor in zip(image.shape[1:], self.scale, strict=True)]
            if 0 in sizes:
                raise InputError(f"{key}: {tuple(image.shape[1:])} voxels are too few for a scale of {self.scale}")
            result[key] = image[(slice(None), *(slice(n) for n in sizes))]
        return result


class RequireSized(MapTransform):
    """Refuse images that are smaller than a training patch: what padding would add is not anatomy.

    Args:
        keys: images (C, *spatial) with metadata.
        size: voxels that every axis needs, or a number for each.
    """

    def __init__(self, keys: KeysCollection, size: int | Sequence[int]) -> None:
        super().__init__(keys)
        self.size = size

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        for key in self.keys:
            shape = data[key].shape[1:]
            sizes = (self.size,) * len(shape) if isinstance(self.size, int) else self.size
            for axis, (n, size) in enumerate(zip(shape, sizes, strict=True)):
                if n < size:
                    name = data[key].meta.get("filename_or_obj", key)
                    raise InputError(
                        f"{name}: axis {axis} has {n} voxels in canonical orientation, but a patch has {size}; "
                        "leave the file out ('subjects') or lower 'patch_size'"
                    )
        return dict(data)


class ForegroundIndexd(MapTransform):
    """Remember where an image has foreground, under ``KEY_foreground``: flat voxel indices, int64.

    Args:
        keys: images (C, *spatial); the first channel counts.
        threshold: foreground is above it.
    """

    def __init__(self, keys: KeysCollection, threshold: float = 0.05) -> None:
        super().__init__(keys)
        self.threshold = threshold

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        for key in self.keys:
            result[f"{key}_foreground"] = np.flatnonzero(np.asarray(result[key][0]) > self.threshold)
            if not result[f"{key}_foreground"].size:
                raise InputError(f"{key}: nothing is brighter than {self.threshold} of the intensity range")
        return result


class RandForegroundCropd(Randomizable, MapTransform):
    """Cut a patch around a random foreground voxel, shifted to lie inside the image.

    MONAI's ``RandCropByPosNegLabeld`` does this too, but copies the whole volume for every patch.

    Args:
        keys: one key, an image (C, *spatial) that went through :class:`ForegroundIndexd`.
        size: sides of the patch, no larger than the image's.
    """

    def __init__(self, keys: KeysCollection, size: Sequence[int]) -> None:
        super().__init__(keys)
        self.size = tuple(size)
        self.drawn = 0

    def randomize(self, data: Any = None) -> None:
        self.drawn = int(self.R.randint(data))

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        key = self.keys[0]
        foreground = result.pop(f"{key}_foreground")
        shape = result[key].shape[1:]
        self.randomize(len(foreground))
        centre = np.unravel_index(foreground[self.drawn], shape)
        window = [slice(None)]
        for axis, (voxel, n, side) in enumerate(zip(centre, shape, self.size, strict=True)):
            if n < side:
                raise InputError(f"{key}: axis {axis} has {n} voxels, but a patch needs {side}")
            start = min(max(0, int(voxel) - side // 2), n - side)
            window.append(slice(start, start + side))
        result[key] = torch.as_tensor(np.asarray(result[key])[tuple(window)].copy())
        return result


class RandAxisPermuted(RandomizableTransform, MapTransform):
    """Permute the spatial axes at random: with flips, all symmetries of the cube that keep the scale.

    Args:
        keys: images (C, *spatial) of equal sides.
        prob: probability.
        scale: factor per axis: only axes of one factor are exchanged. None for all of them.
    """

    def __init__(self, keys: KeysCollection, prob: float = 1.0, scale: Sequence[int] | None = None) -> None:
        MapTransform.__init__(self, keys)
        RandomizableTransform.__init__(self, prob)
        self.scale = scale

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        self.randomize(None)
        factors = np.array(self.scale or [1] * (result[self.keys[0]].ndim - 1))
        axes = np.arange(len(factors))
        for factor in sorted(set(factors.tolist())):
            alike = np.flatnonzero(factors == factor)
            axes[alike] = self.R.permutation(alike)
        if self._do_transform:
            for key in self.keys:
                result[key] = result[key].permute(0, *(int(axis) + 1 for axis in axes))
        return result
