"""A bundle's plain ``configs/``, made from what is its own (``bundle.json``) and what bundles have in common.

The rule, for every file of ``bundles/shared/``:

1. A text ``<fact>`` gives way to that fact: a value of ``bundle.json``, or one that follows from it (`facts`). In a
   list, the items of a fact that is a list stand in its place. A fact that is null takes its key or item with it.
2. ``configs`` in ``bundle.json`` is laid over the result as MONAI lays overlays: ``{"train": {"loss": ...}}`` replaces
   the value of a key, and ``loss#beta`` reaches into it. A name that ``shared/`` does not have is a configuration of
   the bundle's own.

What comes out refers to neither: a bundle's folder works wherever it is copied to.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

from medsr_monai.bundle.workflows import shipped_folder
from medsr_monai.system.atomic import replacing
from medsr_monai.system.errors import InputError
from medsr_monai.system.json_files import read_json

OWN = "bundle.json"
FACT = re.compile(r"<([a-z_]+)>")
LINE = 120
# Sides of training patches, of what they are cut from, and patches per step, by the number of axes.
PATCHES = {2: (96, 144, 16), 3: (40, 64, 2)}
NEEDED = ("name", "version", "modality", "scale", "intensity", "network", "acquisition", "augmentation")
TEXTS = ("changelog", "task", "description", "data_source", "image_classes", "label_classes", "references")
KNOWN = (*NEEDED, *TEXTS, "anatomy", "contrasts", "trained_spacing_mm", "axes", "configs")


def own_facts(root: Path) -> dict[str, Any]:
    """What a bundle's ``bundle.json`` says.

    Raises:
        InputError: it is missing or damaged, lacks a fact, has one that nothing reads, or has a scale that no network
            serves.
    """
    path = root / OWN
    own = read_json(path, "it says what is the bundle's own; see docs/training.md")
    for fact in NEEDED:
        if own.get(fact) is None:
            raise InputError(f"{path}: '{fact}' is missing; see docs/training.md")
    for fact in own:
        if fact not in KNOWN:
            raise InputError(f"{path}: '{fact}': nothing reads it; see docs/training.md")
    try:
        check_scale(own["scale"])
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    return own


def check_scale(scale: Any) -> tuple[int, ...]:
    """A scale as a bundle has it.

    Raises:
        InputError: it is not one whole number for each of two or three axes.
    """
    is_list = isinstance(scale, (list, tuple)) and len(scale) in PATCHES
    if not is_list or not all(type(factor) is int and factor > 0 for factor in scale):
        shown = ",".join(map(str, scale)) if isinstance(scale, (list, tuple)) else scale
        raise InputError(f"scale '{shown}': must be a whole number for each of 3 axes, as 1,1,4, or of 2, as 2,2")
    return tuple(scale)


def facts(own: Mapping[str, Any]) -> dict[str, Any]:
    """What ``shared/`` may ask for: the bundle's own facts, and those that follow from them."""
    defaults = {"axes": "image", "references": []}
    return {**defaults, **own, **_of_the_scale(own), **_of_the_augmentation(own), **_of_the_metadata(own)}


def _of_the_scale(own: Mapping[str, Any]) -> dict[str, Any]:
    scale, network = own["scale"], dict(own["network"])
    axes, is_flat = len(scale), len(scale) == 2
    patch, margin, batch = PATCHES[axes]
    common = math.lcm(*scale)
    channels = {"in_channels": 1, "out_channels": 1, "scale": "@scale"}
    return {
        "network": {"_target_": network.pop("_target_"), "spatial_dims": axes, **channels, **network},
        "memory_format": f"$torch.channels_last{'' if is_flat else '_3d'}",
        "patch_size": max(common, patch // common * common),
        "margin_size": margin,
        "batch_size": batch,
        "matrices": [f"matrix_{axis}" for axis in range(axes)],
        # Two axes: a patch is cut out of one slice, of a picture or of a stack, and loses its third axis.
        "patch_shape": ["@patch_size", "@patch_size", 1 if is_flat else "@patch_size"],
        "margin_shape": ["@margin_size", "@margin_size", 1 if is_flat else "@margin_size"],
        "middle_slice": {"_target_": "medsr_monai.MiddleSliced", "keys": "hr"} if is_flat else None,
        "patch_without_third_axis": {"_target_": "SqueezeDimd", "keys": "hr", "dim": -1} if is_flat else None,
    }


def _of_the_augmentation(own: Mapping[str, Any]) -> dict[str, Any]:
    given, axes = own["augmentation"], len(own["scale"])
    changes = given.get("intensity", [])
    random = {"_target_": "medsr_monai.RandAcquired", "keys": "hr", "scale": "@scale"}
    return {
        "affine_prob": given["affine_prob"],
        "rotation": [given["rotation"]] * (3 if axes == 3 else 1),  # angles, not axes
        "zoom": [given["zoom"]] * axes,
        "flips": [
            {"_target_": "RandFlipd", "keys": "hr", "prob": 0.5, "spatial_axis": axis}
            for axis in given["flips"]
            if axis < axes
        ],
        "intensity_prob": given.get("intensity_prob") if changes else None,
        "intensity_changes": changes or None,
        "random_acquisition": {**random, **own["acquisition"]},
    }


def _of_the_metadata(own: Mapping[str, Any]) -> dict[str, Any]:
    scale = own["scale"]
    trained_for = {key: own.get(key) for key in ("anatomy", "contrasts", "trained_spacing_mm")}
    return {
        "any_size": ["*"] * len(scale),
        "upscaled_size": ["n" if factor == 1 else f"{factor}*n" for factor in scale],
        "trained_for": {key: value for key, value in trained_for.items() if value},
    }


def filled(node: Any, known: Mapping[str, Any]) -> Any:
    """A part of a shared file with its facts in place; None for one that goes with a fact that is null.

    Raises:
        InputError: a fact that there is not.
    """
    if isinstance(node, Mapping):
        pairs = {key: (value, filled(value, known)) for key, value in node.items()}
        return {key: new for key, (old, new) in pairs.items() if old is None or new is not None}
    if isinstance(node, list):
        items: list[Any] = []
        for old in node:
            new = filled(old, known)
            is_spliced = isinstance(new, list) and isinstance(old, str)
            items += new if is_spliced else [new] if old is None or new is not None else []
        return items
    named = FACT.fullmatch(node) if isinstance(node, str) else None
    if named is None:
        return node
    if named[1] not in known:
        raise InputError(f"{OWN}: '{named[1]}' is missing; see docs/training.md")
    return deepcopy(known[named[1]])


def lay_over(config: dict[str, Any], overlay: Mapping[str, Any]) -> None:
    """Lay an overlay over a configuration: ``key`` is replaced, ``key#inner`` reached into.

    Raises:
        InputError: a key that cannot be reached.
    """
    for key, value in overlay.items():
        *way, last = key.split("#")
        place: Any = config
        for part in way:
            place = place.get(part) if isinstance(place, dict) else None
        if not isinstance(place, dict):
            raise InputError(f"{OWN}: configs: there is no '{key}' to lay something over")
        place[last] = value


def generated(root: Path, shared: Path | None = None) -> dict[str, str]:
    """The text of every file of a bundle's ``configs/``, by its name.

    Raises:
        InputError: ``bundle.json`` is missing, damaged, or lacks a fact.
    """
    shared = shared or shared_folder()
    own = own_facts(root)
    try:
        known, overlays = facts(own), dict(own.get("configs", {}))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{root / OWN}: {error} is missing or of another form; see docs/training.md") from error
    texts = {path.name: path.read_text("utf-8") for path in sorted(shared.glob("*.conf"))}
    for path in sorted(shared.glob("*.json")):
        config = filled(read_json(path, "restore the file"), known)
        lay_over(config, overlays.pop(path.stem, {}))
        texts[path.name] = text_of(config)
    return texts | {f"{name}.json": text_of(config) for name, config in overlays.items()}


def differing(root: Path) -> list[Path]:
    """The files of a bundle's ``configs/`` that are not what `generated` gives.

    Raises:
        InputError: see `generated`.
    """
    paths = {root / "configs" / name: text for name, text in generated(root).items()}
    return [path for path, text in paths.items() if not path.is_file() or path.read_text("utf-8") != text]


def build_bundle(root: Path) -> list[Path]:
    """Write a bundle's ``configs/``; what is as it should be stays untouched.

    Returns:
        The files that were written.

    Raises:
        InputError: see `generated`; or the folder cannot be written.
    """
    texts, written = generated(root), differing(root)
    for path in written:
        write_text(path, texts[path.name])
    return written


def write_text(path: Path, text: str) -> None:
    """Write a text completely or not at all.

    Raises:
        InputError: the folder cannot be written.
    """
    try:
        with replacing(path) as temporary:
            temporary.write_text(text, "utf-8")
    except OSError as error:
        raise InputError(f"{path}: cannot write: {error.strerror or error}") from error


def shared_folder() -> Path:
    """What bundles have in common.

    Raises:
        InputError: it is not there, as in a copy of a single bundle.
    """
    folder = shipped_folder() / "shared"
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; install medsr-monai again")
    return folder


def text_of(config: Mapping[str, Any]) -> str:
    """JSON as one writes it by hand: what fits stays on one line."""
    entries = [f"    {json.dumps(key)}: {_value(value, 4, len(key) + 5)}" for key, value in config.items()]
    return "{\n" + ",\n".join(entries) + "\n}\n"


def _value(value: Any, indent: int, taken: int) -> str:
    """A value at an indent, behind ``taken`` characters on its line."""
    flat = json.dumps(value, ensure_ascii=False)
    if not isinstance(value, (dict, list)) or indent + taken + len(flat) < LINE:
        return flat
    inner, pad = indent + 4, " " * (indent + 4)
    if isinstance(value, dict):
        keys = {key: json.dumps(key, ensure_ascii=False) for key in value}
        lines = [f"{pad}{keys[key]}: {_value(item, inner, len(keys[key]) + 2)}" for key, item in value.items()]
        return "{\n" + ",\n".join(lines) + f"\n{' ' * indent}}}"
    return "[\n" + ",\n".join(_items(value, inner)) + f"\n{' ' * indent}]"


def _items(values: Sequence[Any], indent: int) -> list[str]:
    return [" " * indent + _value(item, indent, 0) for item in values]
