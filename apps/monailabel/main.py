"""The MONAI Label app of medsr-monai: every bundle of the checkout as a model that answers with an upscaled image."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from pathlib import Path
from typing import Any

from fastapi import HTTPException
from monailabel.interfaces.app import MONAILabelApp
from monailabel.interfaces.datastore import Datastore

import medsr_monai
from medsr_label.request import checked_request, existing_image
from medsr_label.series_studies import SeriesStudies
from medsr_label.studies import FolderStudies
from medsr_label.upscaling import UpscaleTask, refusal
from medsr_monai.bundle.workflows import find_bundles
from medsr_monai.system.errors import InputError


class SuperResolution(MONAILabelApp):
    """Upscales images of a folder, or series of a PACS that speaks DICOMweb.

    The studies are only read. Whatever the server writes lies in one private folder that goes when the server ends:
    what clients upload (by `tempfile`, as MONAI Label does it), series from the PACS, results on their way out.

    Args:
        app_dir: this folder.
        studies: folder with images, or the address of a DICOMweb server.
        conf: ``models``: names of the bundles to offer, separated by commas; default is all.
    """

    def __init__(self, app_dir: str, studies: str, conf: dict[str, str]) -> None:
        self.private = Path(tempfile.mkdtemp(prefix="medsr-label-")).resolve()
        atexit.register(shutil.rmtree, self.private, ignore_errors=True)
        tempfile.tempdir = str(self.private)
        super().__init__(
            app_dir=app_dir,
            studies=studies,
            conf=conf,
            name="medsr-monai",
            description="Super-resolution: every model answers with the upscaled image, not with a label map. "
            "Research use only: not a medical device.",
            version=medsr_monai.__version__,
        )
        if self._sessions is not None:
            self._sessions.store_path = str(self.private / "sessions")

    def init_datastore(self) -> Datastore:
        """The studies that the server reads."""
        kind = SeriesStudies if self.studies.startswith(("http://", "https://")) else FolderStudies
        return kind(self.studies.rstrip("/").strip(), self.private / "studies")

    def init_infers(self) -> dict[str, UpscaleTask]:
        """One task a bundle."""
        found = find_bundles()
        wanted = [name.strip() for name in self.conf.get("models", "").split(",") if name.strip()] or sorted(found)
        missing = [name for name in wanted if name not in found]
        if missing:
            raise InputError(f"models: no bundle {', '.join(missing)}; there are {', '.join(sorted(found)) or 'none'}")
        results = self.private / "results"
        results.mkdir()
        tasks = {name: UpscaleTask(name, found[name], results) for name in wanted}
        return {name: task for name, task in tasks.items() if task.is_valid()}

    def infer(self, request: dict[str, Any], datastore: Datastore | None = None) -> dict[str, Any]:
        """Upscale one image; what MONAI Label's own endpoints call.

        Raises:
            HTTPException: 404 for a model or an image that is not there, 400 for a parameter that cannot serve, 422 for
                an image that cannot be read.
        """
        task = self._infers.get(str(request.get("model")))
        if task is None:
            names = ", ".join(sorted(self._infers)) or "none"
            raise HTTPException(404, f"model '{request.get('model')}': not served here; there are {names}")
        try:
            settings = checked_request(request, task.defaults)
        except InputError as error:
            raise refusal(400, error) from error
        image = existing_image(request, datastore or self.datastore(), self.private)
        file, said = task.upscaled(image, settings)
        return {"label": file, "tag": "original", "file": file, "params": said}
