"""The cases of an evaluation and the conditions that they are measured under."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from torch import Tensor

from medsr_monai.acquisition import PROFILES, IntensityRule, SeparableAcquisition
from medsr_monai.evaluation.methods import Measurement
from medsr_monai.evaluation.plan import Case, Condition, Plan
from medsr_monai.geometry import Grid, corner_error_mm, network_orientation, reorient
from medsr_monai.metrics.catalogue import Reference
from medsr_monai.system.errors import InputError, find_input_error
from medsr_monai.training.data import subject_of
from medsr_monai.transforms import Acquired
from medsr_monai.volumes import find_volumes, read_info, volume_stem

Load = Callable[[dict[str, str]], dict[str, Any]]


def find_cases(
    files: Sequence[str | Path], subjects: Mapping[str, str | None] | None = None, masks: str | Path | None = None
) -> list[Case]:
    """Name the cases, their subjects and their masks.

    Args:
        files: images.
        subjects: as of ``data.group_by_subject``; a file for which it has none goes by its name.
        masks: a folder with a mask of the same name for each file, or one file for one case.

    Raises:
        InputError: no file, two cases of one name, one that is no name, or a mask that is missing.
    """
    if not files:
        raise InputError("no case to evaluate: name some files in 'cases', or give 'split' a test or validation set")
    paths = [Path(file) for file in files]
    names = [volume_stem(path) for path in paths]
    owners = [_subject(path, subjects or {}) for path in paths]
    if _twice(names):  # BIDS without the subject in the file's own name
        names = [f"{owner}_{name}" for owner, name in zip(owners, names, strict=True)]
    if twice := _twice(names):
        raise InputError(f"{len(names)} cases, but several are named {twice}: rename the files, or evaluate them apart")
    for name, path in zip(names, paths, strict=True):
        # A folder is named after the case, and a line of every table.
        if name in (".", "..") or not name.isprintable():
            raise InputError(f"{str(path)!r}: no name for a case; rename the file")
    found = _find_masks(paths, masks)
    return [Case(*parts) for parts in zip(names, owners, paths, found, strict=True)]


def _twice(names: Sequence[str]) -> str | None:
    """A name that occurs more than once."""
    return next((name for name, count in Counter(names).items() if count > 1), None)


def _subject(path: Path, subjects: Mapping[str, str | None]) -> str:
    ends = [end for end in subjects if (parts := Path(end).parts) and path.parts[-len(parts) :] == parts]
    named = subjects[max(ends, key=len)] if ends else None
    return named or subject_of(path)


def _find_masks(files: Sequence[Path], masks: str | Path | None) -> list[Path | None]:
    if masks is None:
        return [None] * len(files)
    by_name = {volume_stem(mask): Path(mask) for mask in find_volumes(masks)}
    if Path(masks).is_file() and len(files) == 1:
        return list(by_name.values())
    missing = [file for file in files if volume_stem(file) not in by_name]
    if missing:
        name = missing[0].name
        raise InputError(f"{masks}: no mask for {name}; a mask has the name of its image, e.g. {name}")
    return [by_name[volume_stem(file)] for file in files]


def check_cases(cases: Sequence[Case], scale: Sequence[float], axes: str, shortest: int) -> list[tuple[int, ...]]:
    """Look at the headers of images and masks.

    Returns:
        The shape of each case after it was cropped to a multiple of the scale; no axis is below ``shortest``.

    Raises:
        InputError: a file that cannot be read, one that is too small, or a mask that does not fit its image.
    """
    shapes = []
    for case in cases:
        info = read_info(case.file)
        if info.n_times is not None:
            raise InputError(f"{case.file}: a series of {info.n_times} volumes; need a 3D volume, split it")
        grid = _seen(info.grid, scale, axes)
        # A network of two axes is compared on one slice, see `load`.
        shape = tuple(int(size // factor * factor) for size, factor in zip(grid.shape, scale, strict=False))
        for axis, (size, factor) in enumerate(zip(shape, scale, strict=True)):
            if size < shortest:
                raise InputError(
                    f"{case.file}: axis {axis} has {grid.shape[axis]} voxels, but SSIM needs {shortest} and a multiple "
                    f"of the scale {factor}; leave the file out"
                )
        if case.mask is not None:
            mask = _seen(read_info(case.mask).grid, scale, axes)
            if mask.shape != grid.shape:
                raise InputError(f"{case.mask}: mask of {mask.shape} voxels, but {case.file.name} has {grid.shape}")
            distance = corner_error_mm(mask, grid)
            if distance > 0.5 * min(grid.spacing_mm):
                place = f"{distance:.1f} mm away from {case.file.name}"
                raise InputError(f"{case.mask}: lies {place}; both must have the same grid")
        shapes.append(shape)
    return shapes


def _seen(grid: Grid, scale: Sequence[float], axes: str) -> Grid:
    """The grid as a network sees it."""
    return grid.reoriented(network_orientation(grid, scale, axes))


@dataclass(frozen=True)
class LoadedCase:
    """A case in memory.

    Args:
        hr: (1, X, Y, Z) with the network's axes, cropped to a multiple of the scale.
        reference: what results are compared with, on the device.
    """

    case: Case
    hr: MetaTensor
    reference: Reference

    def measured(
        self, condition: Condition, plan: Plan, intensity: IntensityRule | None = None
    ) -> tuple[Measurement, tuple[float, ...]]:
        """Simulate the acquisition; ``intensity`` finds the window that the noise is a share of.

        Returns:
            The measurement on the device, and the size of its voxels in mm, (3,).
        """
        seed = noise_seed(plan.seed, self.case.name)
        profile, noise = condition.degradation, condition.noise
        acquire = Acquired("hr", scale=plan.scale, profile=profile, noise=noise, seed=seed, intensity=intensity)
        lr = acquire({"hr": self.hr})["lr"]
        hr_shape = tuple(self.hr.shape[1:])
        measurement = Measurement(
            lr.as_tensor()[None].to(plan.device),
            hr_shape,
            SeparableAcquisition.from_profile(hr_shape, tuple(lr.shape[1:]), profile),
            plan.assumed_profile or profile,
        )
        return measurement, self.ras_spacing_mm(lr)

    @property
    def _turn(self) -> np.ndarray:
        """From the network's axes to RAS order, in which images are shown."""
        return Grid((1, 1, 1), np.asarray(self.hr.affine)).canonical()[1]

    def in_ras(self, image: Tensor) -> np.ndarray:
        """(X, Y, Z) in RAS order of the first image and channel of (1, C, X, Y, Z); one slice of (1, C, X, Y)."""
        voxels = image[0, 0].detach().cpu().numpy()
        return reorient(voxels.reshape(voxels.shape + (1,) * (3 - voxels.ndim)), self._turn)

    def ras_spacing_mm(self, image: MetaTensor) -> tuple[float, ...]:
        """Size of an image's voxels in RAS order, (3,); the one slice of (1, X, Y) has a thickness too."""
        return Grid((1, 1, 1), np.asarray(image.affine)).canonical()[0].spacing_mm


def noise_seed(seed: int, case: str) -> int:
    """A seed for each case: with one for all, images of one shape would have the same noise, as if drawn once."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{case}".encode()).digest()[:4], "big") >> 1


def load_case(case: Case, load: Load, device: str | torch.device = "cpu") -> LoadedCase:
    """Read a case; ``load`` turns a file name under ``hr`` into an image (1, X, Y, Z), oriented and cropped.

    Raises:
        InputError: an image or a mask that does not serve, named.
    """
    hr = _loaded(load, case.file)
    mask: Tensor | None = None
    if case.mask is not None:
        try:
            mask = _loaded(load, case.mask).as_tensor()[None].to(device) > 0
        except InputError as error:
            raise InputError(f"{error}; a mask has voxels of 0, which do not count, and others") from None
        if not mask.any():
            raise InputError(f"{case.mask}: empty mask: no voxel is above 0")
    try:
        return LoadedCase(case, hr, Reference(hr.as_tensor()[None].to(device), mask))
    except InputError as error:
        raise InputError(f"{case.file}: {error}") from None


def _loaded(load: Load, file: Path) -> MetaTensor:
    try:
        return load({"hr": str(file)})["hr"]
    except Exception as error:  # MONAI wraps what a transform raises
        cause = find_input_error(error)
        if cause is None:
            raise
        raise InputError(str(cause)) from None


def parse_conditions(degradations: Sequence[str], noises: Sequence[float]) -> list[Condition]:
    """Every degradation with every noise.

    Raises:
        InputError: none of either, an unknown degradation, a noise that is no number of 0 or more, or two that are
            the same to six digits.
    """
    for key, values in {"degradations": degradations, "noises": noises}.items():
        if isinstance(values, str) or not isinstance(values, Sequence) or not values:
            raise InputError(f"{key} '{values}': must be a list of at least one")
    for name in degradations:
        if name not in PROFILES:
            raise InputError(f"degradation '{name}': choose among {', '.join(PROFILES)}")
    for noise in noises:
        if isinstance(noise, bool) or not isinstance(noise, int | float) or not 0 <= noise < float("inf"):
            raise InputError(f"noise '{noise}': must be a share of the intensity range, 0 or more")
    pairs = dict.fromkeys((name, float(noise)) for name in degradations for noise in noises)
    conditions = [Condition(*pair) for pair in pairs]
    if twice := _twice([condition.name for condition in conditions]):
        raise InputError(f"noises {list(noises)}: several would be called {twice}; leave all but one out")
    return conditions
