"""The series of a PACS that speaks DICOMweb, fetched when one is asked for."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests
from dicomweb_client.session_utils import create_session_from_user_pass
from fastapi import HTTPException
from monailabel.config import settings
from monailabel.datastore.dicom import DICOMwebClientX
from requests.adapters import HTTPAdapter

from medsr_label.studies import ReadOnlyStudies
from medsr_monai.system.atomic import replacing_folder

UID = re.compile(r"[0-9]+(\.[0-9]+)+")
LONGEST_UID = 64
SERIES_UID, STUDY_UID, N_INSTANCES = "0020000E", "0020000D", "00201209"
TIMEOUT_S = 60


class _Patient(HTTPAdapter):
    """Waits for an answer, but not for ever: requests knows no timeout of its own."""

    def send(self, request: Any, **options: Any) -> requests.Response:
        return super().send(request, **{**options, "timeout": TIMEOUT_S})


class SeriesStudies(ReadOnlyStudies):
    """Series by SeriesInstanceUID, kept in a folder of the server's until it ends."""

    def __init__(self, address: str, state: Path) -> None:
        self.address = address
        self.series = state / "series"
        user, password = settings.MONAI_LABEL_DICOMWEB_USERNAME, settings.MONAI_LABEL_DICOMWEB_PASSWORD
        session = create_session_from_user_pass(user, password) if user and password else requests.Session()
        for scheme in ("http://", "https://"):
            session.mount(scheme, _Patient())
        self.client = DICOMwebClientX(
            url=address,
            session=session,
            qido_url_prefix=settings.MONAI_LABEL_QIDO_PREFIX,
            wado_url_prefix=settings.MONAI_LABEL_WADO_PREFIX,
            stow_url_prefix=settings.MONAI_LABEL_STOW_PREFIX,
        )
        self.client.set_http_retry_params(retry=True, max_attempts=2, wait_exponential_multiplier=500)
        super().__init__(self.series, state)

    def name(self) -> str:
        """The address."""
        return self.address

    @contextmanager
    def _answering(self) -> Iterator[None]:
        try:
            yield
        except requests.RequestException as error:
            reply = getattr(error, "response", None)
            reason = f"answers with status {reply.status_code}" if reply is not None else "does not answer"
            raise HTTPException(502, f"the DICOMweb server {reason}: {self.address}") from error

    def list_images(self) -> list[str]:
        """SeriesInstanceUIDs of what the search filter finds (``MONAI_LABEL_DICOMWEB_SEARCH_FILTER``)."""
        with self._answering():
            found = self.client.search_for_series(search_filters=settings.MONAI_LABEL_DICOMWEB_SEARCH_FILTER)
        return sorted(_value(series, SERIES_UID) for series in found)

    def get_image_uri(self, image_id: str) -> str:
        """Folder with the files of a series, empty if the PACS has none; fetched anew where their number changed.

        Raises:
            HTTPException: 400, no UID; 502, the PACS does not answer, or sends fewer images than it has.
        """
        if len(image_id) > LONGEST_UID or not UID.fullmatch(image_id):
            raise HTTPException(400, f"image '{image_id[:80]}': must be a SeriesInstanceUID")
        with self._answering():
            found = self.client.search_for_series(
                search_filters={"SeriesInstanceUID": image_id}, fields=["NumberOfSeriesRelatedInstances"]
            )
        found = [series for series in found if _value(series, SERIES_UID) == image_id]
        if not found:
            return ""
        n_instances = _value(found[0], N_INSTANCES)
        folder = self.series / image_id
        if not folder.is_dir() or (n_instances and len(list(folder.iterdir())) != int(n_instances)):
            self._fetch(_value(found[0], STUDY_UID), image_id, folder, int(n_instances) if n_instances else None)
        return str(folder)

    def _fetch(self, study: str, series: str, folder: Path, n_expected: int | None) -> None:
        n = 0
        with self._answering(), replacing_folder(folder) as incoming:
            for n, instance in enumerate(self.client.iter_series(study, series), start=1):
                instance.save_as(incoming / f"{n:06d}.dcm", enforce_file_format=True)
            if n_expected not in (None, n):
                raise HTTPException(502, f"image '{series}': the PACS has {n_expected} images of it and sent {n}")

    def get_image_info(self, image_id: str) -> dict[str, Any]:
        """Nothing that tells of the patient."""
        return {"SeriesInstanceUID": image_id}


def _value(series: dict[str, Any], tag: str) -> str:
    values = series.get(tag, {}).get("Value", [])
    return str(values[0]) if values else ""
