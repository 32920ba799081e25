"""Settings of a bundle by their names: what each may be, alone and with others.

``check_configuration`` asks before anything is computed: what is wrong is said in one line, and not after an hour of
training.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from medsr_monai.acquisition import PROFILES
from medsr_monai.geometry import AXES, N_AXES, network_orientation
from medsr_monai.metrics import SSIM_WINDOW
from medsr_monai.system.device import usable_device
from medsr_monai.system.errors import InputError
from medsr_monai.upscaling.file_to_file import STREAM
from medsr_monai.volumes import DICOM_SUFFIX, DTYPES, STREAMABLE_SUFFIXES, read_info

__all__ = ["check_judged_patch", "check_settings", "check_validation_volumes"]

Check = Callable[[str, Any], None]


def _whole(least: int) -> Check:
    def check(name: str, value: Any) -> None:
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise InputError(f"{name} '{value}': must be a whole number, {least} or more")

    return check


def _positive(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
        raise InputError(f"{name} '{value}': must be a number above 0")


def _share(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise InputError(f"{name} '{value}': must be a number from 0 to 1")


def _switch(name: str, value: Any) -> None:
    if not isinstance(value, bool):  # MONAI hands on the word "false" or "no" as a string, which counts as true
        raise InputError(f"{name} '{value}': must be True or False")


def _choice(*choices: str) -> Check:
    def check(name: str, value: Any) -> None:
        for one in value if isinstance(value, (list, tuple)) else [value]:  # one for all, or one an axis
            if one not in choices:
                raise InputError(f"{name} '{one}': choose one of {', '.join(choices)}")

    return check


def _optional(check: Check) -> Check:
    """None leaves the choice to the program."""
    return lambda name, value: None if value is None else check(name, value)


def _postfix(name: str, value: Any) -> None:
    # It is a part of a file's name; with a separator in it, results would land in another folder.
    if not isinstance(value, (str, int, float)) or any(mark in str(value) for mark in ("/", "\\", "\0")):
        raise InputError(f"{name} '{value}': must be a part of a file name, without / or \\")


def _device(_: str, value: Any) -> None:
    usable_device(value)


SETTINGS: dict[str, Check] = {
    **dict.fromkeys(("decay", "denoise_steps", "num_workers", "pictures", "seed", "warmup"), _whole(0)),
    **dict.fromkeys(("batch_size", "epoch_length", "max_epochs", "val_interval", "discriminator_steps"), _whole(1)),
    **dict.fromkeys(("ensemble", "margin_size", "patch_size", "resamples"), _whole(1)),
    **dict.fromkeys(("slab", "workers"), _optional(_whole(1))),
    **dict.fromkeys(("discriminator_learning_rate", "learning_rate"), _positive),
    **dict.fromkeys(("affine_prob", "intensity_prob", "perception"), _share),
    **dict.fromkeys(("progress", "resume", "uncertainty"), _switch),
    "autocast": _optional(_choice("bfloat16", "float16")),
    "axes": _choice(*AXES),
    "device": _device,
    "memory_gb": _optional(_positive),
    "output_dtype": _choice(*DTYPES),
    "output_postfix": _postfix,
    "output_suffix": _choice(*STREAMABLE_SUFFIXES, DICOM_SUFFIX),
    "profile": _choice(*PROFILES),
    "stream": _choice(*STREAM),
}


def check_settings(**settings: Any) -> None:
    """Check settings by their names in a bundle's configuration.

    Args:
        settings: any of `SETTINGS`.

    Raises:
        InputError: the first setting that cannot serve, by name.
    """
    for name, value in settings.items():
        SETTINGS[name](name, value)


def check_output_file(output_file: Any, output_suffix: str) -> None:
    """The one file to write must be of a format that can be written; a DICOM series is a folder of any name.

    Raises:
        InputError: it is not.
    """
    is_named = output_file is None or str(output_file).lower().endswith(STREAMABLE_SUFFIXES)
    if output_suffix != DICOM_SUFFIX and not is_named:
        raise InputError(f"output_file '{output_file}': must end in one of {', '.join(STREAMABLE_SUFFIXES)}")


def check_uncertainty(uncertainty: bool, ensemble: int, output_suffix: str) -> None:
    """A deviation needs members to deviate, and a format to hold it.

    Raises:
        InputError: it is asked for without an ensemble, or beside a DICOM series.
    """
    if uncertainty and output_suffix == DICOM_SUFFIX:
        raise InputError("uncertainty: a DICOM series holds the image alone; write .nii.gz")
    if uncertainty and ensemble < 2:
        raise InputError("uncertainty: needs an ensemble of 2 or more, e.g. ensemble 8")


def check_patch(patch_size: int, margin_size: int, scale: Sequence[int]) -> None:
    """A training patch must be cut from its margin, and measured at low resolution.

    Args:
        patch_size: side of the patch in voxels.
        margin_size: side of what it is cut from.
        scale: integer factor per axis.

    Raises:
        InputError: a scale that is not one whole number per axis; a patch larger than its margin, or no multiple of the
            scale.
    """
    is_list = isinstance(scale, (list, tuple)) and len(scale) in (2, N_AXES)
    if not is_list or not all(type(f) is int and f > 0 for f in scale):
        raise InputError(
            f"scale '{scale}': must be {N_AXES} whole numbers of at least 1, one per axis, or 2 for slices"
        )
    if patch_size > margin_size:
        raise InputError(f"patch_size {patch_size}: must not exceed margin_size, which is {margin_size}")
    for axis, factor in enumerate(scale):
        if patch_size % factor:
            raise InputError(f"patch_size {patch_size}: must be a multiple of the scale, {factor} along axis {axis}")


def check_judged_patch(patch_size: int, discriminator: Any) -> None:
    """A discriminator must have enough of a training patch to judge.

    Args:
        patch_size: side of the patch in voxels.
        discriminator: its ``min_size``, where it has one, is the smallest side that it judges.

    Raises:
        InputError: the patch is smaller.
    """
    least = getattr(discriminator, "min_size", 1)
    if patch_size < least:
        raise InputError(
            f"patch_size {patch_size}: {type(discriminator).__name__} needs at least {least}; use larger patches, or "
            "fewer stages, layers or scales in 'discriminator_def'"
        )


def check_validation_volumes(files: Sequence[str | Path], scale: Sequence[int], axes: str = "image") -> None:
    """Volumes to validate on must hold the window of SSIM; only their headers are read.

    Args:
        files: volumes.
        scale: integer factor per axis of the network, to a multiple of which they will be cropped.
        axes: which axes of a volume those are, see :func:`medsr_monai.network_orientation`.

    Raises:
        InputError: there is none; or one cannot be read, or is too small, naming file and axis.
    """
    if not files:
        raise InputError("no subject to validate on: name some under 'val' in 'split', or give the set a share")
    for file in files:
        stored = read_info(file).grid
        grid = stored.reoriented(network_orientation(stored, scale, axes))
        # A network of two axes upscales slice by slice.
        for axis, (size, factor) in enumerate(zip(grid.shape, scale, strict=False)):
            if size // factor * factor < SSIM_WINDOW:
                raise InputError(
                    f"{file}: axis {axis} has {size} voxels, but validation (SSIM) needs {SSIM_WINDOW} and a multiple "
                    f"of the scale {factor}; leave the file out ('subjects': null) or in the training set ('split')"
                )


# Each is called with the settings that its parameters name, where a configuration has them all.
CROSS_CHECKS: tuple[Callable[..., None], ...] = (check_output_file, check_uncertainty, check_patch)
