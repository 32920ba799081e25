"""NIQE: the distance of an image's statistics from those of the user's own pristine images, without a reference.

The published model was fitted on photographs and does not apply to scans. Here the user gives pristine images of the
same modality, sequence and voxel size as the images to judge. An image that differs from them, sharp or not, has a
large figure. An invented texture that resembles theirs has a small one. Read NIQE together with a measure of fidelity.
"""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medsr_monai.metrics.foreground import foreground_mask, foreground_percentile
from medsr_monai.metrics.pairs import checked_pair, refuse_flat
from medsr_monai.metrics.scene_statistics import FEATURES, PAPER_RANGE, cut, scene_statistics
from medsr_monai.system.atomic import replacing
from medsr_monai.system.errors import InputError

# A patch of a pristine image must exceed this share of the sharpest patch, as in the paper.
SHARPNESS = 0.75
FOREGROUND_SHARE = 0.5
FORMAT = "medsr-niqe-1"


@dataclass(frozen=True, eq=False)
class NIQEModel:
    """Mean and covariance of the scene statistics of pristine images, and the settings that were used.

    Intensities are divided by the 99.5th percentile of the nonzero voxels (for CT in HU, add 1024 first). Volumes are
    cut into slices along the three spatial axes; a slice too small for a patch is left out. Patches do not overlap. A
    patch counts if at least half of its voxels are foreground (`foreground_mask`).

    Args:
        mean: (36,) float64.
        covariance: (36, 36) float64.
        n_patches: number of patches of the pristine images.
        patch: side in voxels. The paper uses 96 for photographs.
        slices_per_axis: largest number of evenly spaced slices along each axis.

    Reference:
        Mittal, Soundararajan, Bovik: Making a "completely blind" image quality analyzer. doi:10.1109/LSP.2012.2227726
    """

    mean: Tensor
    covariance: Tensor
    n_patches: int
    patch: int = 48
    slices_per_axis: int = 32

    @classmethod
    def fit(cls, images: Iterable[Tensor], patch: int = 48, slices_per_axis: int = 32) -> NIQEModel:
        """Fit a model on the sharp patches of pristine images.

        Args:
            images: batches (B, 1, *spatial), 2D or 3D; sizes may differ.
            patch: see `NIQEModel`; even, at least 16.
            slices_per_axis: see `NIQEModel`.

        Returns:
            The model.

        Raises:
            InputError: an argument is out of range; an image is flat, not finite, too small or has several channels; or
                all images together have fewer than two sharp patches.
        """
        if not isinstance(patch, int) or patch < 16 or patch % 2:
            raise InputError(f"NIQE patch {patch} voxels: must be an even number of at least 16")
        if not isinstance(slices_per_axis, int) or slices_per_axis < 1:
            raise InputError(f"NIQE slices per axis {slices_per_axis}: must be at least 1")
        found = [
            _features_of(image[None], patch, slices_per_axis, SHARPNESS, f"image {number}")
            for number, image in enumerate(image for batch in images for image in batch)
        ]
        features = torch.cat(found) if found else torch.zeros(0, FEATURES)
        if len(features) < 2:
            raise InputError(
                f"NIQE: {len(features)} sharp patches in {len(found)} images, but need two, better hundreds; "
                "give more images or a smaller patch"
            )
        if len(features) <= FEATURES:
            warnings.warn(
                f"NIQE: {len(features)} sharp patches for {FEATURES} features, so the model is singular; "
                "give more images, more slices or a smaller patch",
                stacklevel=2,
            )
        return cls(features.mean(dim=0), torch.cov(features.T), len(features), patch, slices_per_axis)

    def score(self, images: Tensor) -> Tensor:
        """Compute ``sqrt(d^T ((C + C_model) / 2)^+ d)`` with the difference d of mean features; lower is closer.

        Args:
            images: (B, 1, *spatial), 2D or 3D.

        Returns:
            (B,) in float64, at least 0, no unit. Figures of different models are not comparable.

        Raises:
            InputError: an image is flat, not finite, has several channels, or has fewer than two patches.
        """
        scores = []
        for number, image in enumerate(images):
            features = _features_of(image[None], self.patch, self.slices_per_axis, 0.0, f"image {number} of the batch")
            if len(features) < 2:
                raise InputError(
                    f"NIQE: image {number} of the batch has {len(features)} foreground patches of {self.patch} x "
                    f"{self.patch} voxels, but needs two; fit a model with a smaller patch"
                )
            difference = features.mean(dim=0) - self.mean.to(features.device)
            pooled = (torch.cov(features.T) + self.covariance.to(features.device)) / 2
            square = difference @ torch.linalg.pinv(pooled, hermitian=True) @ difference
            scores.append(square.clamp(min=0).sqrt())
        return torch.stack(scores)

    def save(self, path: str | Path) -> None:
        """Write the model as .npz, which can be read without unpickling.

        Raises:
            InputError: the suffix is not .npz.
        """
        if Path(path).suffix != ".npz":
            raise InputError(f"{path}: a NIQE model is written as .npz; use that suffix")
        with replacing(path, ".npz") as temporary:
            values: dict[str, Any] = {part.name: getattr(self, part.name) for part in fields(self)}
            values |= {"format": FORMAT, "mean": self.mean.cpu().numpy(), "covariance": self.covariance.cpu().numpy()}
            np.savez(temporary, **values)

    @classmethod
    def load(cls, path: str | Path) -> NIQEModel:
        """Read a model that `save` wrote.

        Raises:
            InputError: the file does not exist, or is not a NIQE model.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                mean, covariance = torch.from_numpy(file["mean"]), torch.from_numpy(file["covariance"])
                numbers = [int(file[name]) for name in ("n_patches", "patch", "slices_per_axis")]
                known = str(file["format"]) == FORMAT and covariance.shape == (FEATURES, FEATURES)
        except FileNotFoundError:
            raise InputError(f"{path}: no such file; `medsr fit-niqe` writes a NIQE model") from None
        except (OSError, ValueError, EOFError, TypeError, AttributeError, KeyError, zipfile.BadZipFile):
            known = False
        if not known or mean.shape != (FEATURES,) or not all(x.isfinite().all() for x in (mean, covariance)):
            raise InputError(f"{path}: not a NIQE model; `medsr fit-niqe` writes one")
        return cls(mean, covariance, *numbers)


def _features_of(image: Tensor, patch: int, slices_per_axis: int, sharpness: float, name: str) -> Tensor:
    """Compute the features (P, 36) of one image (1, 1, *spatial): of all foreground patches, or only the sharp ones."""
    image, _ = checked_pair(image, image)
    if image.shape[1] != 1:
        raise InputError(f"{name}: {image.shape[1]} channels, but NIQE needs one")
    if sum(size >= patch for size in image.shape[2:]) < 2:
        raise InputError(
            f"{name}: {tuple(image.shape[2:])} voxels, but NIQE needs two axes of at least {patch}, or a smaller patch"
        )
    refuse_flat(image, name)
    image = image / foreground_percentile(image).to(image.dtype).reshape(-1, *[1] * (image.ndim - 1))
    features = [torch.zeros(0, FEATURES, dtype=torch.float64, device=image.device)]
    for slices, inside in _slices(image, foreground_mask(image), patch, slices_per_axis):
        kept = cut(inside.to(image.dtype), patch).mean(dim=(-2, -1)) >= FOREGROUND_SHARE
        features.append(scene_statistics(slices * PAPER_RANGE, kept, patch, sharpness))
    return torch.cat(features)


def _slices(image: Tensor, mask: Tensor, patch: int, count: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Cut image and mask into slices (N, 1, H, W) along every axis whose slices hold a patch."""
    if image.ndim == 4:
        yield image, mask
        return
    for axis in (2, 3, 4):
        size = image.shape[axis]
        if min(image.shape[other] for other in (2, 3, 4) if other != axis) < patch:
            continue
        n = min(size, count)
        positions = ((torch.arange(n, device=image.device) * 2 + 1) * size) // (2 * n)
        image_slices, mask_slices = (x.index_select(axis, positions).movedim(axis, 1)[0] for x in (image, mask))
        yield image_slices, mask_slices
