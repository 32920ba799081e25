"""Checks of a pair of images, and means over the voxels that count."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from medsr_monai.system.errors import InputError


def plain(image: Tensor) -> Tensor:
    """Remove the gradient and MONAI's meta data, which slows every operation."""
    return image.detach().as_subclass(Tensor)


def checked_pair(sr: Tensor, hr: Tensor) -> tuple[Tensor, Tensor]:
    """Check two images and convert them to the wider of their types, at least float32.

    Args:
        sr: (B, C, *spatial).
        hr: (B, C, *spatial).

    Returns:
        Both images.

    Raises:
        InputError: the shapes differ or are not (B, C, *spatial), or a voxel is not finite.
    """
    if sr.shape != hr.shape:
        raise InputError(f"sr has shape {tuple(sr.shape)} and hr {tuple(hr.shape)}, but they must be equal")
    if sr.ndim not in (4, 5) or sr.numel() == 0:
        raise InputError(f"images: shape {tuple(sr.shape)}, but need (B, C) and 2 or 3 spatial axes, none empty")
    dtype = torch.promote_types(torch.promote_types(sr.dtype, hr.dtype), torch.float32)
    images = {"sr": plain(sr).to(dtype), "hr": plain(hr).to(dtype)}
    for name, image in images.items():
        refuse_where(~torch.isfinite(image).flatten(1).all(dim=1), f"{name}: image", "has NaN or infinite voxels")
    return images["sr"], images["hr"]


def counted(mask: Tensor | None, image: Tensor, margin: int = 0, where: str = "") -> Tensor:
    """The voxels that count, as booleans of the image's shape: a view if possible.

    Args:
        mask: (B or 1, C or 1, *spatial); None if all voxels count.
        image: (B, C, *spatial).
        margin: voxels to cut off at every border of the image.
        where: the end of the error's line for an image without a voxel that counts.

    Returns:
        (B, C, *smaller).

    Raises:
        InputError: the mask does not fit, or is empty.
    """
    mask = torch.ones_like(image[:1, :1], dtype=torch.bool) if mask is None else plain(mask)
    fits = mask.ndim == image.ndim and mask.shape[2:] == image.shape[2:]
    if not fits or any(m not in (1, n) for m, n in zip(mask.shape[:2], image.shape[:2], strict=True)):
        raise InputError(f"mask of shape {tuple(mask.shape)} does not fit images of shape {tuple(image.shape)}")
    inside = cropped(mask.bool().expand(image.shape), margin)
    refuse_where(~inside.flatten(1).any(dim=1), "mask of image", f"is empty{where}")
    return inside


def cropped(image: Tensor, margin: int) -> Tensor:
    """Cut off ``margin`` voxels at every border of (B, C, *spatial)."""
    for dim in range(2, image.ndim):
        image = image.narrow(dim, margin, image.shape[dim] - 2 * margin)
    return image


def mean_inside(values: Tensor, mask: Tensor | None) -> Tensor:
    """Average (B, C, *spatial) over the voxels of each image in the mask, (B,)."""
    if mask is None:
        return values.flatten(1).mean(dim=1)
    inside = counted(mask, values)
    return torch.where(inside, values, 0).flatten(1).sum(dim=1) / inside.flatten(1).sum(dim=1)


def check_range(data_range: float) -> None:
    """Refuse a data range that is not positive and finite."""
    if not (data_range > 0 and math.isfinite(data_range)):
        raise InputError(f"data range {data_range}: must be positive and finite")


def refuse_flat(image: Tensor, name: str = "hr") -> None:
    """Refuse a batch (B, C, *spatial) with a constant image, which has no detail to compare with."""
    lowest, highest = image.flatten(1).aminmax(dim=1)
    refuse_where(lowest == highest, f"{name}: image", "is flat: no detail to compare with")


def refuse_where(bad: Tensor, what: str, why: str) -> None:
    """Refuse a batch in which ``bad`` (B,) is true for an image, and name the first one."""
    if bad.any():
        raise InputError(f"{what} {int(bad.nonzero()[0])} of the batch {why}")
