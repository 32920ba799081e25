"""An archive asked by DICOMweb: QIDO-RS, WADO-RS, STOW-RS."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pydicom
import requests
from dicomweb_client import DICOMwebClient
from pydicom.dataset import Dataset

from medsr_monai.system.errors import InputError
from medsr_monai.volumes.dicom.headers import quietly
from medsr_pacs.identifiers import is_uid, normal_uid
from medsr_pacs.instances import SeriesFolders, identify, read_instance
from medsr_pacs.remote import ASKED, Confirmed, Found, RefusedError, UnreachableError, read_found
from medsr_pacs.settings import WebSettings

# Statuses after which the same request may succeed later.
LATER = (408, 425, 429, 500, 502, 503, 504, 507)
AS_STORED = (("application/dicom", "*"),)
PAGE = 500


class WebRemote:
    """One archive."""

    def __init__(self, name: str, settings: WebSettings) -> None:
        self.name = name
        self._settings = settings
        session = requests.Session()
        # A .netrc or a proxy of the environment would send secrets and images where no configuration says.
        session.trust_env = False
        session.verify = str(settings.ca) if settings.ca else True
        if settings.certificate:
            session.cert = (str(settings.certificate), str(settings.key))
        user, password = secret(name, settings.user_env), secret(name, settings.password_env)
        if user and password:
            session.auth = (user, password)
        token = secret(name, settings.token_env)
        if token:
            session.headers["Authorization"] = f"Bearer {token}"
        self._client = DICOMwebClient(settings.url.rstrip("/"), session=session, timeout=settings.timeout)
        self._client.set_http_retry_params(retry=False)  # the caller knows when to try again

    def echo(self) -> None:
        """A query for one study."""
        with self._answered("a query"):
            self._client.search_for_studies(limit=1)

    def find(self, level: str, query: Mapping[str, str]) -> list[Found]:
        """QIDO-RS, page by page."""
        search = self._client.search_for_studies if level == "study" else self._client.search_for_series
        filters = {keyword: value for keyword, value in query.items() if value}
        found: dict[tuple[str, str], Found] = {}
        while True:
            with self._answered("a query"), quietly():
                answers = search(search_filters=filters, fields=list(ASKED[level]), limit=PAGE, offset=len(found))
                page = [read_found(Dataset.from_json(answer)) for answer in answers]
            fresh = {(item.study, item.series): item for item in page if is_uid(item.study)}
            is_last = fresh.keys() <= found.keys()  # also where an archive knows no pages, and repeats the first
            found.update(fresh)
            if is_last or len(page) < PAGE:
                return list(found.values())

    def holds(self, study: str, series: str, sop_instance: str) -> bool | None:
        """QIDO-RS for one instance."""
        try:
            with self._answered("a query"):
                answers = self._client.search_for_instances(
                    study, series, search_filters={"SOPInstanceUID": sop_instance}
                )
        except RefusedError as error:
            # Some archives answer 404 for a series that they do not have yet.
            return False if "(HTTP 404)" in str(error) else None
        given = (answer.get("00080018", {}).get("Value", [""])[0] for answer in answers)
        return any(normal_uid(uid) == sop_instance for uid in given)

    def fetch(self, study: str, series: str | None, folder: Path) -> SeriesFolders:
        """WADO-RS, one instance in memory at a time."""
        folders = SeriesFolders(folder)
        with self._answered("a retrieval"), quietly():
            client, media = self._client, dict[str, Any](media_types=AS_STORED)
            for dataset in client.iter_series(study, series, **media) if series else client.iter_study(study, **media):
                try:
                    instance = identify(dataset, str(dataset.file_meta.get("TransferSyntaxUID", "")))
                except InputError as error:
                    raise RefusedError(f"{self.name}: sent an instance that cannot be kept: {error}") from None
                dataset.save_as(folders.place(instance))
        return folders

    def send(self, files: Sequence[Path], confirmed: Confirmed) -> None:
        """STOW-RS in batches of at most `batch_mb`."""
        for batch in batches(files, self._settings.batch_mb * 1e6):
            for file in batch:
                read_instance(file)  # says what is wrong with it, where something is
            with self._answered("storing"), quietly():
                answer = self._client.store_instances([pydicom.dcmread(file) for file in batch])
            failed = answer.get("FailedSOPSequence") or ()
            if failed:
                reasons = sorted({f"0x{int(item.get('FailureReason') or 0):04X}" for item in failed})
                raise RefusedError(f"{self.name}: did not store {len(failed)} instances ({', '.join(reasons)})")
            for file in batch:
                confirmed(file)

    @contextmanager
    def _answered(self, what: str) -> Iterator[None]:
        """Errors of the libraries as ours, without the address: a query in it names a patient."""
        try:
            yield
        except InputError:
            raise
        except requests.HTTPError as error:
            status = error.response.status_code if error.response is not None else 0
            if status in (401, 403):
                reason = f"is not allowed (HTTP {status}); check its *_env keys"
            elif status == 404:
                reason = "failed (HTTP 404); is the UID one that `medsr pacs find` lists, and is `url` right?"
            else:
                reason = f"failed (HTTP {status})"
            raise (UnreachableError if status in LATER else RefusedError)(f"{self.name}: {what} {reason}") from None
        except requests.exceptions.SSLError:
            raise RefusedError(f"{self.name}: no trusted TLS connection; check ca, certificate and key") from None
        except (requests.RequestException, OSError) as error:
            raise UnreachableError(f"{self.name}: no connection ({type(error).__name__}); is it running?") from None
        except Exception as error:  # an answer that is no DICOM fails the parser with anything
            reply = f"{what} with what is not DICOMweb ({type(error).__name__})"
            raise RefusedError(f"{self.name}: answered {reply}") from None


def secret(remote: str, variable: str | None) -> str | None:
    """What the environment variable holds; None where no variable is named."""
    if variable is None:
        return None
    value = os.environ.get(variable)
    if not value:
        raise InputError(f"remotes.{remote}: the environment variable {variable} is not set")
    return value


def batches(files: Sequence[Path], n_bytes: float) -> Iterator[list[Path]]:
    """The files in order, in groups of at most so many bytes, or one file."""
    group: list[Path] = []
    size = 0
    for file in files:
        length = file.stat().st_size
        if group and size + length > n_bytes:
            yield group
            group, size = [], 0
        group.append(file)
        size += length
    if group:
        yield group
