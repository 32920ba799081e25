"""A small MR series to put into a PACS or a folder."""

from __future__ import annotations

import io

import numpy as np

ROWS, COLUMNS, SLICES = 11, 12, 8


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
