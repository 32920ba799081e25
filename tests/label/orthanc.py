"""A real Orthanc with DICOMweb on this machine, in a folder of its own, and a small MR series to put into it."""

from __future__ import annotations

import io
import json
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import Any
from urllib.request import HTTPBasicAuthHandler, HTTPPasswordMgrWithDefaultRealm, ProxyHandler, build_opener

import numpy as np

PROGRAM = shutil.which("Orthanc") or shutil.which("Orthanc", path="/usr/sbin:/usr/local/sbin")
PLUGINS = [
    folder / "libOrthancDicomWeb.so"
    for folder in map(Path, ("/usr/share/orthanc/plugins", "/usr/local/share/orthanc/plugins", "/usr/lib/orthanc"))
    if (folder / "libOrthancDicomWeb.so").exists()
]
USER, PASSWORD = "tester", "not-a-secret"
ROWS, COLUMNS, SLICES = 11, 12, 8


class Orthanc:
    """One server process; its REST interface asks for a password."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        passwords = HTTPPasswordMgrWithDefaultRealm()
        passwords.add_password(None, self.url, USER, PASSWORD)
        self._opener = build_opener(HTTPBasicAuthHandler(passwords), ProxyHandler({}))
        settings = {
            "StorageDirectory": str(folder / "storage"),
            "IndexDirectory": str(folder / "storage"),
            "TemporaryDirectory": str(folder),
            "Plugins": [str(PLUGINS[0])],
            "HttpPort": port,
            "DicomServerEnabled": False,
            "RemoteAccessAllowed": False,
            "RegisteredUsers": {USER: PASSWORD},
            "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
        }
        (folder / "orthanc.json").write_text(json.dumps(settings))
        with open(folder / "orthanc.log", "w") as log:
            self.process = subprocess.Popen([str(PROGRAM), str(folder / "orthanc.json")], stdout=log, stderr=log)
        for _ in range(150):
            try:
                self.rest("/system")
                return
            except OSError:
                time.sleep(0.1)
        self.stop()
        raise RuntimeError((folder / "orthanc.log").read_text()[-2000:])

    def rest(self, path: str, data: bytes | None = None) -> Any:
        with self._opener.open(self.url + path, data, timeout=20) as answer:
            return json.loads(answer.read() or b"null")

    def series(self) -> dict[str, int]:
        """Number of images by SeriesInstanceUID."""
        described = [self.rest(f"/series/{identifier}") for identifier in self.rest("/series")]
        return {item["MainDicomTags"]["SeriesInstanceUID"]: len(item["Instances"]) for item in described}

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()


def made_series(n_slices: int = SLICES) -> tuple[str, list[bytes]]:
    """A classic oblique MR series: its SeriesInstanceUID and its files."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid

    rng = np.random.default_rng(7)
    row, column = np.array([0.8, 0.6, 0.0]), np.array([0.0, 0.0, -1.0])
    study, series, frame = generate_uid(), generate_uid(), generate_uid()
    files = []
    for k in range(n_slices):
        image = Dataset()
        image.file_meta = FileMetaDataset()
        image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        image.SOPClassUID = image.file_meta.MediaStorageSOPClassUID = MRImageStorage
        image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        image.StudyInstanceUID, image.SeriesInstanceUID, image.FrameOfReferenceUID = study, series, frame
        image.PatientName, image.PatientID, image.PatientBirthDate, image.PatientSex = (
            "Doe^Jane",
            "secret-4711",
            "",
            "O",
        )
        image.StudyDate = image.StudyTime = image.AccessionNumber = image.ReferringPhysicianName = image.StudyID = ""
        image.Modality, image.Manufacturer, image.SeriesNumber, image.InstanceNumber = "MR", "", 3, k + 1
        image.ImageType, image.ScanningSequence, image.SequenceVariant = ["ORIGINAL", "PRIMARY", "M"], "GR", "NONE"
        image.ScanOptions, image.MRAcquisitionType, image.EchoTime, image.EchoTrainLength = "", "3D", 3, 1
        image.RepetitionTime, image.PositionReferenceIndicator, image.PatientPosition = 10, "", "HFS"
        image.ImageOrientationPatient = [*row, *column]
        image.ImagePositionPatient = [float(v) for v in np.array([10.0, -20.0, 30.0]) + 2.5 * k * np.cross(row, column)]
        image.PixelSpacing, image.SliceThickness, image.SpacingBetweenSlices = [1.5, 1.25], 2.5, 2.5
        image.Rows, image.Columns, image.SamplesPerPixel = ROWS, COLUMNS, 1
        image.PhotometricInterpretation, image.PixelRepresentation = "MONOCHROME2", 0
        image.BitsAllocated, image.BitsStored, image.HighBit = 16, 12, 11
        image.PixelData = rng.integers(0, 900, (ROWS, COLUMNS), dtype=np.uint16).tobytes()
        buffer = io.BytesIO()
        image.save_as(buffer, enforce_file_format=True)
        files.append(buffer.getvalue())
    return str(series), files
