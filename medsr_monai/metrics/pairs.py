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
        finite = torch.isfinite(image).flatten(1).all(dim=1)
        if not finite.all():
            raise InputError(f"{name}: image {int((~finite).nonzero()[0])} of the batch has NaN or infinite voxels")
    return images["sr"], images["hr"]


def expanded_mask(mask: Tensor, shape: torch.Size) -> Tensor:
    """Convert a mask to booleans and expand it to the images' shape, as a view if possible.

    Raises:
        InputError: the mask does not fit.
    """
    fits = mask.ndim == len(shape) and mask.shape[2:] == shape[2:]
    if not fits or any(m not in (1, n) for m, n in zip(mask.shape[:2], shape[:2], strict=True)):
        raise InputError(f"mask of shape {tuple(mask.shape)} does not fit images of shape {tuple(shape)}")
    return plain(mask).bool().expand(shape)


def check_count(count: Tensor, where: str = "") -> None:
    """Refuse a batch in which no voxel of an image counts; ``count`` is (B,)."""
    if (count == 0).any():
        raise InputError(f"mask of image {int((count == 0).nonzero()[0])} of the batch is empty{where}")


def mean_inside(values: Tensor, mask: Tensor | None) -> Tensor:
    """Average (B, C, *spatial) over the voxels of each image in the mask, (B,)."""
    if mask is None:
        return values.flatten(1).mean(dim=1)
    mask = expanded_mask(mask, values.shape)
    count = mask.flatten(1).sum(dim=1)
    check_count(count)
    return torch.where(mask, values, 0).flatten(1).sum(dim=1) / count


def check_range(data_range: float) -> None:
    """Refuse a data range that is not positive and finite."""
    if not (data_range > 0 and math.isfinite(data_range)):
        raise InputError(f"data range {data_range}: must be positive and finite")


def refuse_flat(image: Tensor, name: str = "hr") -> None:
    """Refuse a batch (B, C, *spatial) with a constant image, which has no detail to compare with."""
    lowest, highest = image.flatten(1).aminmax(dim=1)
    flat = lowest == highest
    if flat.any():
        raise InputError(f"{name}: image {int(flat.nonzero()[0])} of the batch is flat: no detail to compare with")
