"""A bundle as a MONAI Label task that answers with an image."""

from __future__ import annotations

import contextlib
import json
import logging
import re
import tempfile
import threading
import time
import zipfile
from pathlib import Path
from typing import Any

import torch
from fastapi import HTTPException
from monailabel.interfaces.tasks.infer_v2 import InferTask, InferType

from medsr_label.request import SERIES_SUFFIX, SETTINGS, Image, checked_request
from medsr_monai.bundle.workflows import run_inference
from medsr_monai.system.errors import InputError

logger = logging.getLogger(__name__)
RESEARCH_USE = "Research use only: not a medical device; detail finer than the input is a guess."
FORGOTTEN_S = 3600
# A workflow seeds the process's random numbers, and two at once would share the memory that each counts on.
ONE_AT_A_TIME = threading.Lock()


def refusal(status: int, error: InputError, image: Image | None = None) -> HTTPException:
    """The answer to bad input: its one line, with the client's name of the image in place of the server's path."""
    line = " ".join(str(error).split())
    return HTTPException(status, line.replace(str(image.path), f"image '{image.name}'") if image else line)


class UpscaleTask(InferTask):
    """The inference workflow of a bundle: exactly what ``medsr upscale`` runs, so that both give the same voxels."""

    def __init__(self, name: str, root: Path, results: Path) -> None:
        self.name = name
        self.root = root
        self.results = results
        self.metadata = _read_json(root / "configs" / "metadata.json")
        self.inference = _read_json(root / "configs" / "inference.json")
        defaults = {key: self.inference[key] for key in SETTINGS if key in self.inference}
        if "device" in defaults:
            defaults["device"] = "cuda" if torch.cuda.is_available() else "cpu"  # in the bundle an expression
        self.defaults = defaults
        # Not SEGMENTATION: the stock clients would offer it for label maps.
        super().__init__(
            type=InferType.OTHERS,
            labels=None,
            dimension=3,
            description=f"{self.metadata.get('description', name)} Answers with the upscaled image. {RESEARCH_USE}",
            config={**defaults, "result_extension": ".nii.gz"},
        )

    def is_valid(self) -> bool:
        """Whether the bundle can be read; a damaged one is not offered."""
        return bool(self.metadata and self.inference)

    def info(self) -> dict[str, Any]:
        """What clients see: MONAI Label's own keys, and what the image will be."""
        return {**super().info(), **self._identity(), "research_use": RESEARCH_USE}

    def _identity(self) -> dict[str, Any]:
        image = self.metadata.get("network_data_format", {}).get("inputs", {}).get("image", {})
        return {
            "bundle": self.name,
            "version": self.metadata.get("version"),
            "scale": self.inference.get("scale"),
            "modality": image.get("modality"),
            "result": "image, float32",
        }

    def __call__(self, request: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        """MONAI Label's way in, for an image that is already a path."""
        path = Path(request["image"])
        return self.upscaled(Image(path.name, path), checked_request(request, self.defaults))

    def upscaled(self, image: Image, settings: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        """Upscale an image.

        Returns:
            The file to send, which the endpoint removes after that, and what is said of it.
        """
        start = time.monotonic()
        overrides = {key: value for key, value in settings.items() if key != "result_extension"}
        suffix = settings["result_extension"]
        if "#" in str(image.path):
            error = InputError(f"{image.path}: MONAI's parser does not take '#' in a name; rename it")
            raise refusal(422, error, image)
        for file in self.results.iterdir():  # whose client went away before the end, and nobody removes
            with contextlib.suppress(OSError):
                if file.is_file() and time.time() - file.stat().st_mtime > FORGOTTEN_S:
                    file.unlink()
        with ONE_AT_A_TIME, tempfile.TemporaryDirectory(dir=self.results) as folder:
            written = Path(folder) / ("series" if suffix == SERIES_SUFFIX else f"sr{suffix}")
            if suffix == SERIES_SUFFIX:
                overrides["output_suffix"] = ".dcm"
            places = {"input": str(image.path), "output_dir": folder, "output_file": str(written)}
            try:
                run_inference(self.root, progress=False, **places, **overrides)
            except InputError as error:
                raise refusal(422, error, image) from error
            if suffix == SERIES_SUFFIX:
                written = _zipped(written)
            result = written.rename(self._result_name(image, suffix))
        said = {**self._identity(), "settings": {**self.defaults, **overrides}, "research_use": RESEARCH_USE}
        said["seconds"] = round(time.monotonic() - start, 2)
        return str(result), said

    def _result_name(self, image: Image, suffix: str) -> Path:
        """A name that a browser may offer for saving, and that no other result has."""
        stem = re.sub(r"[^A-Za-z0-9._-]+", "_", image.name)[:80]
        with tempfile.NamedTemporaryFile(dir=self.results, prefix=f"{stem}_sr_", suffix=suffix, delete=False) as file:
            return Path(file.name)


def _zipped(series: Path) -> Path:
    """A series as one file that HTTP can carry."""
    target = series.with_suffix(SERIES_SUFFIX)
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for file in sorted(series.iterdir()):
            archive.write(file, file.name)
    return target


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        logger.error("%s: not offered, its configuration cannot be read (%s)", path.parent.parent.name, error)
        return {}
    return content if isinstance(content, dict) else {}
