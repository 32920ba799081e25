"""A new bundle of the user's own, like one that there is: complete, documented, and not trained yet."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medsr_monai.bundle.generation import OWN, check_scale, generated, own_facts, shared_folder, text_of
from medsr_monai.bundle.workflows import bundle_root, find_bundles, own_folders
from medsr_monai.system.atomic import replacing
from medsr_monai.system.errors import InputError

__all__ = ["create_bundle"]

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
# DICOM's codes, and how one says it.
MODALITIES = {
    "CR": "X-ray images",
    "CT": "CT",
    "DX": "X-ray images",
    "MG": "mammograms",
    "MR": "MRI",
    "OT": "images",
    "PT": "PET",
    "US": "ultrasound images",
}
# Only the coils of MRI make a bias field, and the intensities of CT have a meaning of their own.
CHANGES_OF_MRI = ("RandBiasFieldd",)
UNCHANGED = ("CT",)
# Air and dense bone, in Hounsfield units; other modalities have no scale of their own.
WINDOWS = {"CT": {"_target_": "medsr_monai.FixedWindow", "low": -1024, "high": 1024}}
ROBUST_RANGE = {"_target_": "medsr_monai.RobustRange", "lower": 0.5, "upper": 99.5}


def create_bundle(
    name: str,
    like: str,
    scale: Sequence[int] | None = None,
    modality: str | None = None,
    anatomy: str | None = None,
    out: str | Path | None = None,
) -> Path:
    """Write a new bundle: ``bundle.json``, ``configs/``, ``docs/``, ``LICENSE``, and an empty folder for its weights.

    Args:
        name: of the bundle and its folder.
        like: bundle, by name or folder, whose network, acquisition and augmentation it starts with.
        scale: whole number per axis, of three axes or two; default is that of ``like``.
        modality: DICOM's code, such as CT; default is that of ``like``.
        anatomy: what is in the images; default is that of ``like`` where the modality is the same.
        out: folder to write the bundle's folder into; default is the first of ``MEDSR_BUNDLES``, else the current one.

    Returns:
        The bundle's folder.

    Raises:
        InputError: a name that is taken or cannot be one, an unknown bundle, a bad scale or modality, or a folder that
            cannot be written.
    """
    if not NAME.fullmatch(name):
        raise InputError(f"name '{name}': must be letters, digits, _ and -")
    if name in find_bundles():
        raise InputError(f"name '{name}': taken by {find_bundles()[name]}; choose another")
    model = bundle_root(like)
    own = own_of_new(name, own_facts(model), scale, modality, anatomy)
    root = Path(out) / name if out is not None else (own_folders() or [Path()])[0] / name
    if root.exists():
        raise InputError(f"{root}: is there already; choose another name or another --out")
    try:
        with replacing(root, folder=True) as folder:
            _write(folder, own, model)
    except OSError as error:
        raise InputError(f"{root}: cannot write: {error.strerror or error}") from error
    return root


def own_of_new(
    name: str, like: Mapping[str, Any], scale: Sequence[int] | None, modality: str | None, anatomy: str | None
) -> dict[str, Any]:
    """The ``bundle.json`` of a new bundle, from that of another.

    Raises:
        InputError: a bad scale or modality.
    """
    factors = list(check_scale(like["scale"] if scale is None else scale))
    from medsr_monai.networks.blocks import MAX_SCALE  # torch, only where a bundle is made

    if max(factors) > MAX_SCALE:
        raise InputError(f"scale '{','.join(map(str, factors))}': a factor may be {MAX_SCALE} at most")
    if set(factors) == {1}:
        raise InputError(f"scale '{','.join(map(str, factors))}': enlarges nothing; one factor must be 2 or more")
    modality = like["modality"] if modality is None else modality
    if modality not in MODALITIES:
        raise InputError(f"modality '{modality}': choose one of {', '.join(MODALITIES)}; OT is any other")
    if anatomy is None and modality == like["modality"]:
        anatomy = like.get("anatomy")
    kind = " ".join(filter(None, (anatomy, MODALITIES[modality])))
    size = "x".join(map(str, factors))
    return {
        "name": name,
        "version": "0.1.0",
        "changelog": {"0.1.0": "created; not trained yet"},
        "task": f"Super-resolution of {kind} by {size}, consistent with the measurement",
        "description": f"Upscales {kind} by {size}; a projection makes the result reproduce the input exactly. "
        "Not trained yet. Research use only.",
        "data_source": "none: not trained yet; see docs/data_license.txt",
        "image_classes": f"single-channel {kind}, intensities scaled to [0, 1]",
        "label_classes": f"the same image at {size} times the resolution",
        "references": like.get("references", []),
        "modality": modality,
        "anatomy": anatomy,
        "contrasts": [],
        "trained_spacing_mm": None,
        "scale": factors,
        # Where slices are unlike the other axes, it is those of the image that count, however it is stored.
        "axes": "image" if len(set(factors)) == 1 and len(factors) == 3 else "slice",
        "intensity": like["intensity"] if modality == like["modality"] else WINDOWS.get(modality, ROBUST_RANGE),
        "network": like["network"],
        "acquisition": like["acquisition"],
        "augmentation": _augmentation(like["augmentation"], modality),
        "configs": {key: value for key, value in like.get("configs", {}).items() if _is_shared(key)},
    }


def _augmentation(like: Mapping[str, Any], modality: str) -> dict[str, Any]:
    unwanted = () if modality == "MR" else CHANGES_OF_MRI
    changes = [] if modality in UNCHANGED else [c for c in like.get("intensity", []) if c["_target_"] not in unwanted]
    return {**like, "intensity": changes}


def _is_shared(config: str) -> bool:
    return (shared_folder() / f"{config}.json").is_file()


def _write(folder: Path, own: Mapping[str, Any], model: Path) -> None:
    (folder / OWN).write_text(text_of(own), "utf-8")
    for part in ("configs", "docs", "models"):
        (folder / part).mkdir()
    for name, text in generated(folder).items():
        (folder / "configs" / name).write_text(text, "utf-8")
    words = {
        **{key: value for key, value in own.items() if isinstance(value, str)},
        "architecture": own["network"]["_target_"].rpartition(".")[2],
        "axes": str(len(own["scale"])),
        "factors": "x".join(map(str, own["scale"])),
    }
    for source, target in {"model_card.md": "README.md", "data_license.txt": "data_license.txt"}.items():
        text = (shared_folder() / source).read_text("utf-8")
        for word, value in words.items():
            text = text.replace(f"<{word}>", value)
        (folder / "docs" / target).write_text(text, "utf-8")
    shutil.copyfile(model / "LICENSE", folder / "LICENSE")
