"""Settings of a bundle, checked before anything is computed.

A configuration calls these in its ``initialize``: what is wrong is said in one line, and not after an hour of training.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from medsr_monai.acquisition import PROFILES
from medsr_monai.device import usable_device
from medsr_monai.errors import InputError
from medsr_monai.geometry import Grid
from medsr_monai.metrics import SSIM_WINDOW
from medsr_monai.volumes import DTYPES, WRITABLE_SUFFIXES, read_info, volume_suffix

# The least that makes sense of each whole number.
WHOLE_NUMBERS = {
    "batch_size": 1,
    "denoise_steps": 0,
    "discriminator_steps": 1,
    "ensemble": 1,
    "epoch_length": 1,
    "margin_size": 1,
    "max_epochs": 1,
    "max_tile_voxels": 1,
    "num_workers": 0,
    "patch_size": 1,
    "seed": 0,
    "val_interval": 1,
    "warmup": 0,
}
POSITIVE_NUMBERS = ("discriminator_learning_rate", "learning_rate")
SHARES = ("perception",)
CHOICES = {"output_dtype": DTYPES, "output_suffix": WRITABLE_SUFFIXES, "profile": PROFILES}

READ_BY_MONAI = ("imports", "initialize", "run", "finalize")
# Overlays for either stage bring these; the first one has no use for them.
OF_SECOND_STAGE = ("discriminator", "discriminator_optimizer")
REFERENCE = re.compile(r"[@%](\w+)")


def check_settings(**settings: Any) -> None:
    """Check settings by their names in a bundle's configuration.

    Args:
        settings: any of those below; ``profile`` may be one per axis, ``output_file`` None.

    Raises:
        InputError: the first setting that cannot serve, by name.
    """
    for name, value in settings.items():
        if name in WHOLE_NUMBERS:
            _check_whole(name, value, WHOLE_NUMBERS[name])
        elif name in POSITIVE_NUMBERS:
            _check_positive(name, value)
        elif name in SHARES:
            _check_share(name, value)
        elif name in CHOICES:
            for one in value if isinstance(value, (list, tuple)) else [value]:
                _check_choice(name, one, CHOICES[name])
        elif name == "device":
            usable_device(value)
        elif name == "output_postfix":
            _check_postfix(value)
        elif name == "output_file":
            if value is not None and volume_suffix(str(value)) not in WRITABLE_SUFFIXES:
                raise InputError(f"output_file '{value}': must end in one of {', '.join(WRITABLE_SUFFIXES)}")
        else:
            raise TypeError(f"check_settings() knows no setting '{name}'")


def check_keys(config: Mapping[str, Any], base_files: Sequence[str | Path]) -> None:
    """What overlays and the command line add must be read by something: else it is misspelt, or for another file.

    Args:
        config: the merged configuration, before it is evaluated; keys that begin with ``_`` are comments.
        base_files: the bundle's own files, whose keys need not be read: an overlay may do without them.

    Raises:
        InputError: keys that nothing refers to, or a base file that cannot be read.
    """
    read = {key for text in _texts(config) for key in REFERENCE.findall(text)}
    known = {*read, *READ_BY_MONAI, *OF_SECOND_STAGE}
    for file in base_files:
        try:
            known.update(key.removeprefix("+").split("#")[0] for key in json.loads(Path(file).read_text("utf-8")))
        except (OSError, ValueError) as error:
            raise InputError(f"{file}: cannot read it; 'bundle_root' must be the folder of the bundle") from error
    unread = sorted(key for key in config if key not in known and not key.startswith("_"))
    if unread:
        close = get_close_matches(unread[0], sorted(read & set(config)), n=1)
        way_out = (
            f"did you mean '{close[0]}'?"
            if close
            else "misspelt, or of an overlay whose base is missing (objective_*.json: lay it over train_gan.json)"
        )
        raise InputError(f"{', '.join(unread)}: nothing in this configuration reads it; {way_out}")


def _texts(config: Any) -> Iterator[str]:
    """All strings of a configuration, at any depth."""
    if isinstance(config, str):
        yield config
    elif isinstance(config, (Mapping, list, tuple)):
        for item in config.values() if isinstance(config, Mapping) else config:
            yield from _texts(item)


def _check_whole(name: str, value: Any, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InputError(f"{name} '{value}': must be a whole number, {least} or more")


def _check_positive(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
        raise InputError(f"{name} '{value}': must be a number above 0")


def _check_share(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise InputError(f"{name} '{value}': must be a number from 0 to 1")


def _check_choice(name: str, value: Any, choices: Sequence[str]) -> None:
    if value not in choices:
        raise InputError(f"{name} '{value}': choose one of {', '.join(choices)}")


def _check_postfix(value: Any) -> None:
    # It is a part of a file's name; with a separator in it, results would land in another folder.
    if not isinstance(value, (str, int, float)) or any(mark in str(value) for mark in ("/", "\\", "\0")):
        raise InputError(f"output_postfix '{value}': must be a part of a file name, without / or \\")


def check_patch(patch_size: int, margin_size: int, scale: Sequence[int]) -> None:
    """A training patch must be cut from its margin, and measured at low resolution.

    Args:
        patch_size: side of the patch in voxels.
        margin_size: side of what it is cut from.
        scale: integer factor per axis.

    Raises:
        InputError: the patch is larger than its margin, or no multiple of the scale.
    """
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


def check_validation_volumes(files: Sequence[str | Path], scale: Sequence[int]) -> None:
    """Volumes to validate on must hold the window of SSIM; only their headers are read.

    Args:
        files: volumes.
        scale: integer factor per axis, to a multiple of which they will be cropped.

    Raises:
        InputError: a volume that cannot be read, or is too small, naming file and axis.
    """
    for file in files:
        grid: Grid = read_info(file).grid.canonical()[0]
        for axis, (size, factor) in enumerate(zip(grid.shape, scale, strict=True)):
            if size // factor * factor < SSIM_WINDOW:
                raise InputError(
                    f"{file}: axis {axis} has {size} voxels, but validation (SSIM) needs {SSIM_WINDOW} and a multiple "
                    f"of the scale {factor}; leave the file out ('subjects': null) or in the training set ('split')"
                )
