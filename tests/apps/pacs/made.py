"""Small series, an upscaler that takes no time, and an archive that counts, for the tests of the PACS."""

from __future__ import annotations

import copy
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian, generate_uid
from pynetdicom import AE, evt

from medsr_monai.system.errors import InputError
from medsr_pacs.dimse import send_at_once
from medsr_pacs.instances import ENCODINGS, VOLUMES

NAME, PATIENT = "Doe^Secret", "PATIENT-4711"
FIND = "1.2.840.10008.5.1.4.1.2.2.1"


def uid(*parts: object) -> str:
    """The same UID for the same parts."""
    return str(generate_uid(entropy_srcs=[str(part) for part in parts]))


def make_image(study: str, series: str, number: int, size: int = 8) -> FileDataset:
    """One CT image; its pixels tell which it is."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = uid(study, series, number)
    image = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
    image.SOPClassUID, image.SOPInstanceUID = CTImageStorage, uid(study, series, number)
    image.StudyInstanceUID, image.SeriesInstanceUID = uid(study), uid(study, series)
    image.PatientName, image.PatientID, image.PatientBirthDate, image.PatientSex = NAME, PATIENT, "19700101", "O"
    image.StudyDate, image.StudyTime, image.StudyID, image.AccessionNumber = "20240131", "120000", "1", "A1"
    image.Modality, image.SeriesNumber, image.InstanceNumber = "CT", 3, number
    image.ReferringPhysicianName, image.FrameOfReferenceUID = "", uid(study, "frame")
    image.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    image.Rows = image.Columns = size
    image.PixelSpacing, image.SliceThickness = [1.0, 1.0], 2.0
    image.ImagePositionPatient, image.ImageOrientationPatient = [0.0, 0.0, 2.0 * number], [1.0, 0, 0, 0, 1, 0]
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.BitsAllocated = image.BitsStored = 16
    image.HighBit, image.PixelRepresentation = 15, 1
    image.RescaleSlope, image.RescaleIntercept, image.RescaleType = 1, 0, "HU"
    pixels = np.arange(size * size, dtype=np.int16).reshape(size, size) + 100 * number
    image.PixelData = pixels.tobytes()
    return image


def make_series(folder: Path, study: str = "study", series: str = "series", n: int = 3, size: int = 8) -> list[Path]:
    """A CT series of `n` images in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for number in range(1, n + 1):
        files.append(folder / f"{series}-{number}.dcm")
        make_image(study, series, number, size).save_as(files[-1], enforce_file_format=True)
    return files


def quick_upscale(source: Path, target: Path) -> None:
    """Twice as many slices, each source slice twice; UIDs depend on the source only, and the maker is named."""
    images = [pydicom.dcmread(file) for file in sorted(source.glob("*.dcm"))]
    if any(image.get("SeriesDescription") == "cannot be upscaled" for image in images):
        raise InputError(f"series {images[0].SeriesInstanceUID}: cannot be upscaled")
    images.sort(key=lambda image: int(image.InstanceNumber))
    target.mkdir()
    for index, image in enumerate(image for image in images for _ in range(2)):
        derived = copy.deepcopy(image)
        derived.SeriesInstanceUID = uid(image.SeriesInstanceUID, "derived")
        derived.SOPInstanceUID = uid(image.SeriesInstanceUID, "derived", index, len(images))
        derived.file_meta.MediaStorageSOPInstanceUID = derived.SOPInstanceUID
        derived.InstanceNumber = index + 1
        maker = Dataset()
        maker.Manufacturer = "medsr-monai"
        derived.ContributingEquipmentSequence = [maker]
        derived.save_as(target / f"{index + 1:04d}.dcm")


class CountingArchive:
    """A storage node that counts the C-STOREs of each instance, and can be asked whether it has one."""

    def __init__(
        self, port: int, tls: Any = None, answer: Callable[[Any], int] = lambda event: 0, can_find: bool = True
    ) -> None:
        self.stored: Counter[str] = Counter()
        self.series: dict[str, set[str]] = {}
        self._lock = threading.Lock()
        self._answer = answer
        self._port, self._tls = port, tls
        self._ae = AE("COUNTING")
        if can_find:
            self._ae.add_supported_context(FIND)
        self._ae.add_supported_context("1.2.840.10008.1.1")
        for sop_class in VOLUMES:
            self._ae.add_supported_context(sop_class, list(ENCODINGS))

    def _store(self, event: Any) -> int:
        status = self._answer(event)
        if status == 0:
            dataset = event.dataset
            with self._lock:
                self.stored[str(dataset.SOPInstanceUID)] += 1
                self.series.setdefault(str(dataset.SeriesInstanceUID), set()).add(str(dataset.SOPInstanceUID))
        return status

    def _find(self, event: Any) -> Any:
        wanted = str(event.identifier.get("SOPInstanceUID", ""))
        if wanted in self.stored:
            answer = Dataset()
            answer.QueryRetrieveLevel, answer.SOPInstanceUID = "IMAGE", wanted
            yield 0xFF00, answer

    def __enter__(self) -> CountingArchive:
        handlers = [(evt.EVT_C_STORE, self._store), (evt.EVT_C_FIND, self._find)]
        address = ("127.0.0.1", self._port)
        self._ae.start_server(address, block=False, evt_handlers=handlers, ssl_context=self._tls)
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._ae.shutdown()


def push(
    port: int, files: list[Path], title: str = "SENDER", called: str = "MEDSR", tls: Any = None, syntax: str = ""
) -> list[int]:
    """C-STORE the files; the statuses, -1 where there was no answer, none where there was no association."""
    ae = AE(title)
    ae.dimse_timeout = ae.network_timeout = 20
    ae.add_requested_context(CTImageStorage, [syntax or ExplicitVRLittleEndian, ImplicitVRLittleEndian])
    options: dict[str, Any] = {"evt_handlers": [(evt.EVT_CONN_OPEN, send_at_once)]}
    options |= {"tls_args": (tls, "localhost")} if tls else {}
    association = ae.associate("127.0.0.1", port, ae_title=called, **options)
    if not association.is_established:
        return []
    statuses = [association.send_c_store(pydicom.dcmread(file)) for file in files]
    association.release()
    return [int(status.Status) if status else -1 for status in statuses]


def configuration_text(spool: Path, port: int, destination: str, more: str = "") -> str:
    """A TOML configuration of a listener; `destination` is the body of [remotes.destination]."""
    return f"""
ae_title = "MEDSR"
connect_timeout = 5
dimse_timeout = 20
[remotes.destination]
{destination}
[listen]
folder = "{spool}"
port = {port}
destination = "destination"
calling_ae_titles = ["SENDER", "ORTHANC"]
quiet_seconds = 0.3
retry_seconds = 0.3
min_free_gb = 0.0
{more}
"""


def dimse(port: int, title: str = "COUNTING") -> str:
    return f'kind = "dimse"\nhost = "127.0.0.1"\nport = {port}\nae_title = "{title}"'
