"""Images of other libraries as volumes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from monai.data import MetaTensor
from monai.utils.enums import MetaKeys, SpaceKeys
from nibabel.spatialimages import SpatialImage

from medsr_monai.geometry import N_AXES, Grid
from medsr_monai.system.errors import InputError
from medsr_monai.volumes import nifti
from medsr_monai.volumes.volume import Volume

_NAME = Path("image")  # what errors call it


def volume_of(image: Any, affine: Any = None) -> Volume:
    """Take an image in memory as a volume; its voxels become float32.

    Args:
        image: a `Volume`; an image of nibabel; a MetaTensor (C, X, Y, Z) as MONAI loads it, C = 1 or the number of time
            points; or an array or tensor (X, Y, Z) or (X, Y, Z, T), with its affine.
        affine: (4, 4), voxel indices to RAS mm; for arrays and tensors alone.

    Raises:
        InputError: no such image, an array without its affine, or an affine beside an image that has one.
    """
    has_own = isinstance(image, Volume | SpatialImage | MetaTensor)
    if has_own == (affine is not None):
        raise InputError(f"affine: {'the image has its own' if has_own else 'an array needs one, (4, 4) in RAS mm'}")
    if isinstance(image, Volume):
        return image
    header = None
    if isinstance(image, SpatialImage):
        image = image if isinstance(image, nib.Nifti1Image) else nib.Nifti1Image.from_image(image)
        header = image.header.copy()
        voxels = np.asanyarray(image.dataobj)
    elif isinstance(image, MetaTensor):
        voxels, affine = image.detach().cpu().numpy(), image.affine.cpu().numpy()
        voxels = np.moveaxis(voxels, 0, -1) if voxels.ndim > N_AXES else voxels
        if image.meta.get(MetaKeys.SPACE) == SpaceKeys.LPS:
            affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
    elif isinstance(image, np.ndarray | torch.Tensor):
        voxels = np.asarray(image.detach().cpu() if isinstance(image, torch.Tensor) else image)
    else:
        raise InputError(f"image: {type(image).__name__} is none; give a path, a Volume, or an array with its affine")
    while voxels.ndim > N_AXES and voxels.shape[-1] == 1:
        voxels = voxels[..., 0]
    if voxels.ndim not in (N_AXES, N_AXES + 1) or voxels.dtype.kind not in "iufb":
        raise InputError(f"image: {voxels.dtype} of shape {voxels.shape}; need real numbers (X, Y, Z) or (X, Y, Z, T)")
    shape = voxels.shape[:N_AXES]
    grid = Grid(shape, np.asarray(affine, float)) if header is None else nifti.grid_of(_NAME, voxels.shape, image)
    n_times = voxels.shape[N_AXES] if voxels.ndim > N_AXES else None
    return Volume(path=_NAME, grid=grid, n_times=n_times, header=header, data=voxels.astype(np.float32))
