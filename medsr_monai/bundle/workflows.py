"""Bundles by name, and their own workflows with some keys replaced."""

from __future__ import annotations

import json
import logging
import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from medsr_monai.system.errors import InputError, find_input_error
from medsr_monai.system.json_files import read_json


def shipped_folder(kind: str = "bundles") -> Path:
    """Where the package's own ``bundles`` or ``configs`` lie: within it where it is installed, else in the checkout."""
    package = Path(__file__).resolve().parents[1]
    return package / kind if (package / kind).is_dir() else package.parent / kind


def own_folders() -> list[Path]:
    """Where the user keeps bundles: ``MEDSR_BUNDLES``, several folders as in PATH."""
    return [Path(part) for part in os.environ.get("MEDSR_BUNDLES", "").split(os.pathsep) if part]


def bundle_folders() -> list[Path]:
    """Where bundles are looked for: the user's folders, then the package's own."""
    return [*own_folders(), shipped_folder()]


def overlay_file(name: str) -> Path:
    """An overlay: a file, or the name of one of the package's own, such as ``network_edsr``.

    Raises:
        InputError: there is neither.
    """
    for path in (Path(name).expanduser(), shipped_folder("configs") / f"{name.removesuffix('.json')}.json"):
        if path.is_file():
            return path
    raise InputError(f"{name}: no such file, nor an overlay in {shipped_folder('configs')}")


def find_bundles() -> dict[str, Path]:
    """Folders of the bundles by name; the first folder that has a name wins."""
    found: dict[str, Path] = {}
    for folder in bundle_folders():
        for metadata in sorted(folder.glob("*/configs/metadata.json")):
            found.setdefault(metadata.parent.parent.name, metadata.parent.parent)
    return found


def bundle_root(bundle: str) -> Path:
    """The folder of a bundle, by name or by path."""
    known = find_bundles()
    if bundle in known:
        return known[bundle]
    if (Path(bundle) / "configs" / "metadata.json").is_file():
        return Path(bundle)
    raise InputError(
        f"bundle '{bundle}': not found; known are {', '.join(sorted(known)) or 'none'} (see MEDSR_BUNDLES)"
    )


def has_weights(root: Path) -> bool:
    """Whether a bundle is trained."""
    return (root / "models" / "model.pt").is_file()


def training_commands(root: Path) -> tuple[str, str]:
    """The lines that train a bundle and give it the weights."""
    at = shlex.quote(str(root))
    train = f"python -m monai.bundle run --bundle_root {at} --dataset_dir FOLDER --config_file {at}/configs/train.json"
    return train, f"cp {at}/runs/fidelity/model.pt {at}/models/model.pt"


def check_weights(root: Path, settings: Mapping[str, Any]) -> None:
    """Look for the weights that inference needs.

    Raises:
        InputError: the bundle is not trained, and the settings name no other weights.
    """
    if "checkpoint" not in settings and not has_weights(root):
        steps = "; then ".join(training_commands(root))
        raise InputError(f"bundle '{root.name}': has no weights yet; train it: {steps}")


def bundle_identity(root: str | Path) -> str:
    """Name and version of a bundle, as a result says what made it.

    Raises:
        InputError: its metadata are missing or damaged.
    """
    path = Path(root) / "configs" / "metadata.json"
    try:
        version = json.loads(path.read_text())["version"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: no version of the bundle in it; restore the file") from error
    return f"{Path(root).resolve().name} {version}"


@contextmanager
def plain_errors() -> Iterator[None]:
    """Bad input is raised as such, out of the errors that MONAI wraps it in."""
    try:
        yield
    except Exception as error:
        cause = find_input_error(error)
        if cause is None or cause is error:
            raise
        raise InputError(str(cause)) from error


def check_files(*files: Path) -> None:
    """Refuse configurations that are missing or damaged, which MONAI would report with a traceback.

    Raises:
        InputError: the first such file.
    """
    for file in files:
        read_json(file, "restore the file")


def run_workflow(root: Path, configs: Sequence[str | Path], kind: str, **overrides: Any) -> None:
    """Run a bundle's workflow with some of its top-level keys replaced.

    Args:
        root: folder of the bundle.
        configs: names of its configurations, or paths of others, each laid over those before.
        kind: ``inference`` or ``train``, of which evaluation is an overlay.
        overrides: keys to replace.

    Raises:
        InputError: bad input.
    """
    from monai.bundle import ConfigWorkflow

    files = [root / "configs" / name if isinstance(name, str) else name for name in configs]
    check_files(*files, root / "configs" / "metadata.json")
    # It would warn that no logging file is configured, which is how a command line wants it.
    logging.getLogger("monai.bundle.workflows").setLevel(logging.ERROR)
    workflow = ConfigWorkflow(
        config_file=[str(file) for file in files],
        meta_file=str(root / "configs" / "metadata.json"),
        logging_file=False,
        workflow_type=kind,
        bundle_root=str(root),
        **overrides,
    )
    with plain_errors():
        workflow.initialize()
        workflow.run()
        workflow.finalize()


def run_inference(root: Path, **overrides: Any) -> None:
    """Run a bundle's inference workflow with some of its top-level keys replaced.

    Raises:
        InputError: the bundle has no weights, or other bad input.
    """
    check_weights(root, overrides)
    run_workflow(root, ["inference.json"], "inference", **overrides)


def run_evaluation(root: Path, overlays: Sequence[Path] = (), **overrides: Any) -> None:
    """Run a bundle's evaluation with some of its top-level keys replaced."""
    run_workflow(root, ["train.json", "evaluate.json", *overlays], "train", **overrides)
