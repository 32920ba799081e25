"""Synthetic DICOM series: an analytic phantom sampled by any planes, as classic or enhanced files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from medsr_monai.geometry import Grid, reorient
from medsr_monai.volumes.dicom import DerivedSeriesWriter, DicomVolume

CT = "1.2.840.10008.5.1.4.1.1.2"
MR = "1.2.840.10008.5.1.4.1.1.4"
PET = "1.2.840.10008.5.1.4.1.1.128"
ENHANCED_CT = "1.2.840.10008.5.1.4.1.1.2.1"
ENHANCED_MR = "1.2.840.10008.5.1.4.1.1.4.1"
MODALITIES = {CT: "CT", ENHANCED_CT: "CT", MR: "MR", ENHANCED_MR: "MR", PET: "PT"}

SECRET = "Doe^Jane"
"""The patient's name: no message may hold it."""

AXIAL = ((1, 0, 0), (0, 1, 0))
CORONAL = ((1, 0, 0), (0, 0, -1))
SAGITTAL = ((0, 1, 0), (0, 0, -1))
OBLIQUE = ((0.8, 0.6, 0.0), (-0.36, 0.48, -0.8))


def phantom(points_ras: np.ndarray) -> np.ndarray:
    """A smooth function of the place in the patient, in whole numbers: (..., 3) mm -> (...)."""
    x, y, z = np.moveaxis(points_ras, -1, 0)
    return np.rint(300 * np.sin(x / 9) + 250 * np.cos(y / 7 + 1) + 200 * np.sin(z / 5 + x / 20)).astype(np.int64)


def grid_points(shape: Sequence[int], affine: np.ndarray) -> np.ndarray:
    """Where the voxels of a grid are: (*shape, 3) mm."""
    indices = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    return indices @ affine[:3, :3].T + affine[:3, 3]


@dataclass(frozen=True)
class Planes:
    """Where the slices of a synthetic series lie; LPS."""

    cosines: tuple = AXIAL
    columns: int = 11
    rows: int = 9
    n: int = 6
    spacing: tuple[float, float] = (1.5, 2.0)  # between columns, between rows
    distance: float = 3.0
    shear: tuple[float, float, float] = (0.0, 0.0, 0.0)  # added to each step
    origin: tuple[float, float, float] = (-12.25, 7.5, -30.125)
    sop_class: str = CT
    slope: float = 1.0
    inter: float = -1024.0
    uid: str = field(default_factory=generate_uid)
    study: str = field(default_factory=generate_uid)

    def with_(self, **changes: Any) -> Planes:
        return replace(self, **changes)

    @property
    def row(self) -> np.ndarray:
        return np.array(self.cosines[0], dtype=float)

    @property
    def column(self) -> np.ndarray:
        return np.array(self.cosines[1], dtype=float)

    @property
    def step(self) -> np.ndarray:
        return np.cross(self.row, self.column) * self.distance + np.array(self.shear)

    def position(self, k: float) -> np.ndarray:
        return np.array(self.origin) + k * self.step

    @property
    def affine(self) -> np.ndarray:
        """Voxel -> RAS mm."""
        lps = np.eye(4)
        parts = (self.row * self.spacing[0], self.column * self.spacing[1], self.step, np.array(self.origin))
        lps[:3] = np.stack(parts, axis=1)
        return np.diag([-1, -1, 1, 1]) @ lps

    def intensities(self, places: Sequence[float] | None = None) -> np.ndarray:
        """What the phantom is at the planes: (X, Y, n)."""
        places = range(self.n) if places is None else places
        whole = np.stack([phantom(self._points(k)) for k in places], axis=-1)
        return whole

    def _points(self, k: float) -> np.ndarray:
        affine = self.affine.copy()
        affine[:3, 3] += k * affine[:3, 2]
        return grid_points((self.columns, self.rows, 1), affine)[:, :, 0]


def file_meta(sop_class: str, uid: str, syntax: str = ExplicitVRLittleEndian) -> FileMetaDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = sop_class, uid
    meta.TransferSyntaxUID = syntax
    return meta


def common_header(planes: Planes, uid: str) -> pydicom.Dataset:
    dataset = pydicom.Dataset()
    dataset.file_meta = file_meta(planes.sop_class, uid)
    dataset.SOPClassUID, dataset.SOPInstanceUID = planes.sop_class, uid
    dataset.Modality = MODALITIES[planes.sop_class]
    dataset.PatientName, dataset.PatientID, dataset.PatientBirthDate, dataset.PatientSex = SECRET, "1234", "", "F"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = planes.study, planes.uid
    dataset.FrameOfReferenceUID = generate_uid(entropy_srcs=[planes.study])
    dataset.StudyDate, dataset.StudyTime, dataset.StudyID, dataset.AccessionNumber = "20200102", "101112", "1", ""
    dataset.SeriesNumber, dataset.AcquisitionNumber = 3, 1
    dataset.ReferringPhysicianName, dataset.Manufacturer, dataset.PositionReferenceIndicator = "", "A maker", ""
    dataset.PatientPosition = "HFS"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL" if dataset.Modality == "CT" else "M"]
    dataset.Rows, dataset.Columns = planes.rows, planes.columns
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 1
    dataset.WindowCenter, dataset.WindowWidth = "40", "400"
    dataset.SmallestImagePixelValue = dataset.LargestImagePixelValue = 0
    if dataset.Modality == "CT":
        dataset.KVP = "120"
    elif dataset.Modality == "MR":
        dataset.ScanningSequence, dataset.SequenceVariant, dataset.ScanOptions = "SE", "NONE", ""
        dataset.MRAcquisitionType, dataset.EchoTime, dataset.RepetitionTime = "2D", "10", "500"
        dataset.EchoTrainLength = "1"
    elif dataset.Modality == "PT":
        _add_pet(dataset, planes.n)
    block = dataset.private_block(0x0009, "MEDSR TEST", create=True)
    block.add_new(1, "LO", "private")
    return dataset


def _add_pet(dataset: pydicom.Dataset, n: int) -> None:
    """What a PET image has to say besides."""
    dataset.ImageType = ["ORIGINAL", "PRIMARY"]
    dataset.SeriesDate = dataset.AcquisitionDate = dataset.ContentDate = "20200102"
    dataset.SeriesTime = dataset.AcquisitionTime = dataset.ContentTime = "101500"
    dataset.Units, dataset.CountsSource, dataset.SeriesType = "BQML", "EMISSION", ["STATIC", "IMAGE"]
    dataset.NumberOfSlices, dataset.ImageIndex = n, 1
    dataset.CorrectedImage, dataset.DecayCorrection, dataset.CollimatorType = ["DECY", "ATTN"], "START", "NONE"
    dataset.FrameReferenceTime, dataset.ActualFrameDuration, dataset.DecayFactor = "0", "120000", "1"
    dataset.RadiopharmaceuticalInformationSequence = [item(RadionuclideCodeSequence=[])]
    del dataset.PatientPosition  # which the two sequences say instead
    dataset.PatientOrientationCodeSequence = dataset.PatientGantryRelationshipCodeSequence = []


def stored(planes: Planes, k: float, slope: float | None = None) -> np.ndarray:
    """What a file stores: (rows, columns) int16."""
    slope = planes.slope if slope is None else slope
    return np.rint((planes.intensities([k])[..., 0].T - planes.inter) / slope).astype("<i2")


def ds(numbers: Sequence[float]) -> list[str]:
    return [pydicom.valuerep.format_number_as_ds(float(number)) for number in numbers]


def classic_slice(planes: Planes, k: float, slope: float | None = None) -> pydicom.Dataset:
    """The slice at place k, as a dataset."""
    dataset = common_header(planes, generate_uid(entropy_srcs=[planes.uid, str(k)]))
    dataset.InstanceNumber = round(k) + 1
    dataset.ImagePositionPatient = ds(planes.position(k))
    dataset.ImageOrientationPatient = ds([*planes.row, *planes.column])
    dataset.PixelSpacing = ds([planes.spacing[1], planes.spacing[0]])
    dataset.SliceThickness = ds([planes.distance])[0]
    dataset.RescaleSlope, dataset.RescaleIntercept = ds([planes.slope if slope is None else slope, planes.inter])
    dataset.PixelData = stored(planes, k, slope).tobytes()
    dataset["PixelData"].VR = "OW"
    return dataset


def save(dataset: pydicom.Dataset, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return path


def write_series(folder: Path, planes: Planes, places: Sequence[float] | None = None, **changes: Any) -> Path:
    """Write the slices at some places, with elements changed, under names that say nothing of their order."""
    places = range(planes.n) if places is None else places
    for number, k in enumerate(places):
        dataset = classic_slice(planes, k)
        for keyword, value in changes.items():
            setattr(dataset, keyword, value)
        save(dataset, folder / f"{(number * 7) % 101:03d}.dcm")
    return folder


def write_derived(
    folder: Path, volume: np.ndarray, grid: Grid, reference: DicomVolume, algorithm: str
) -> DerivedSeriesWriter:
    """Write a whole volume as a derived series, its axes turned to the reference's order first."""
    turn = grid.orientation_to("".join(reference.grid.axcodes))
    writer = DerivedSeriesWriter(folder, reference, grid.reoriented(turn), algorithm)
    writer.write(reorient(volume, turn))
    writer.finish()
    return writer


def item(**elements: Any) -> pydicom.Dataset:
    """An item of a sequence."""
    dataset = pydicom.Dataset()
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    return dataset


def enhanced(planes: Planes, places: Sequence[float] | None = None) -> pydicom.Dataset:
    """One multi-frame file of the slices at some places, in that order."""
    places = list(range(planes.n) if places is None else places)
    dataset = common_header(planes, generate_uid(entropy_srcs=[planes.uid, "enhanced"]))
    for keyword in ("EchoTime", "RepetitionTime", "KVP", "ScanningSequence", "SequenceVariant", "WindowCenter"):
        if keyword in dataset:
            del dataset[keyword]
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    dataset.InstanceNumber, dataset.NumberOfFrames = 1, len(places)
    measures = item(PixelSpacing=ds([planes.spacing[1], planes.spacing[0]]), SliceThickness=ds([planes.distance])[0])
    orientation = item(ImageOrientationPatient=ds([*planes.row, *planes.column]))
    values = item(RescaleSlope=ds([planes.slope])[0], RescaleIntercept=ds([planes.inter])[0], RescaleType="HU")
    shared = item(
        PixelMeasuresSequence=[measures],
        PlaneOrientationSequence=[orientation],
        PixelValueTransformationSequence=[values],
    )
    if dataset.Modality == "MR":
        shared.MREchoSequence = [item(EffectiveEchoTime=12.0)]
        dataset.EchoPulseSequence = "SPIN"
    dataset.SharedFunctionalGroupsSequence = [shared]
    dataset.PerFrameFunctionalGroupsSequence = [
        item(
            PlanePositionSequence=[item(ImagePositionPatient=ds(planes.position(k)))],
            FrameContentSequence=[
                item(StackID="1", InStackPositionNumber=number + 1, DimensionIndexValues=[1, number])
            ],
        )
        for number, k in enumerate(places)
    ]
    dataset.PixelData = b"".join(stored(planes, k).tobytes() for k in places)
    dataset["PixelData"].VR = "OW"
    return dataset
