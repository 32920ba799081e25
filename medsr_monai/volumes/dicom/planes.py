"""The image planes of a series: where each lies in the patient, from classic files or the frames of enhanced ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from medsr_monai.system.errors import InputError
from medsr_monai.volumes.dicom.headers import FileHeader, Header, quietly
from medsr_monai.volumes.dicom.members import Member, Opener
from medsr_monai.volumes.dicom.pixels import Pixels, find_pixels
from medsr_monai.volumes.dicom.series import is_localizer

# Direction cosines are often written with few digits; what is further off is no rectangle of pixels.
_COSINE_TOLERANCE = 1e-3

TRAITS = (
    "EchoNumbers",
    "EchoTime",
    "EffectiveEchoTime",
    "DiffusionBValue",
    "SequenceName",
    "DiffusionGradientOrientation",
    "InversionTime",
    "InversionTimes",
    "FlipAngle",
    "TemporalPositionIdentifier",
    "TemporalPositionIndex",
    "TemporalPositionTimeOffset",
    "TriggerTime",
    "NominalCardiacTriggerDelayTime",
    "NominalPercentageOfCardiacPhase",
    "ComplexImageComponent",
    "StackID",
    "ImageType",
    "FrameType",
    "KVP",
    "ConvolutionKernel",
    "AcquisitionNumber",
    "FrameAcquisitionNumber",
    "AcquisitionTime",
    "ContentTime",
    "DimensionIndexValues",
)
"""What tells images at one place apart, the telling ones first."""

_OWNED_BY = ("StudyInstanceUID", "PatientID")
"""What all images of a series have in common, whatever a careless export says: a volume of two patients would be filed
under one of them."""


@dataclass(frozen=True, eq=False)
class Plane:
    """One image plane."""

    header: FileHeader  # of the file it is in
    pixels: Pixels  # of that file
    frame: int  # of that file
    uid: str  # SOPInstanceUID of the file
    position: np.ndarray  # centre of the first pixel, LPS mm, (3,)
    row: np.ndarray  # unit vector along a row of pixels, (3,)
    column: np.ndarray  # unit vector along a column, (3,)
    spacing_mm: tuple[float, float]  # of the pixels along a row and along a column
    slope: float  # intensity = slope * stored + inter
    inter: float
    thickness_mm: float | None  # nominal thickness, None where it is not said
    traits: dict[str, str]  # what may tell it from another plane at its place, as text by keyword
    is_localizer: bool

    @property
    def member(self) -> Member:
        """The file it is in."""
        return self.pixels.member

    @property
    def name(self) -> str:
        """The file, and which frame of several."""
        return _name(self.pixels, self.frame)

    @property
    def size(self) -> tuple[int, int]:
        """Columns and rows."""
        return self.pixels.shape[1], self.pixels.shape[0]

    @property
    def normal(self) -> np.ndarray:
        """row x column, (3,)."""
        return np.cross(self.row, self.column)


def _name(pixels: Pixels, frame: int) -> str:
    return f"{pixels.member}, frame {frame + 1}" if len(pixels.frames) > 1 else str(pixels.member)


def find_planes(headers: Sequence[FileHeader]) -> list[Plane]:
    """Find the planes of a series by the headers of its files, which are looked at for where their pixels are.

    Returns:
        Its planes in the order of the files, with the frames of each in order.

    Raises:
        InputError: a damaged or truncated file, one that was changed since, a kind of image that is not supported, no
            geometry, or images of several patients or studies under one SeriesInstanceUID.
    """
    planes: list[Plane] = []
    with Opener() as opener, quietly():
        for header in headers:
            for keyword in _OWNED_BY:
                if header.text(keyword) != headers[0].text(keyword):  # the values are a patient's: they are not named
                    raise InputError(
                        f"{header.member} and {headers[0].member} differ in {keyword}, though their series is one; "
                        "give the images of one patient and study only"
                    )
            planes.extend(_planes_of(header, find_pixels(header, opener)))
    return planes


def _planes_of(header: FileHeader, pixels: Pixels) -> list[Plane]:
    member, frames = header.member, header.items("PerFrameFunctionalGroupsSequence")
    if not frames and len(pixels.frames) > 1:
        raise InputError(f"{member}: {len(pixels.frames)} frames without a position each; only enhanced CT, MR and PET")
    if "MOSAIC" in header.text("ImageType").upper():
        raise InputError(f"{member}: a mosaic, many slices in one image; convert it with dcm2niix first")
    if not frames:
        return [_plane(header, pixels, 0, [header])]
    if len(frames) != len(pixels.frames):
        raise InputError(f"{member}: {len(pixels.frames)} frames, but positions for {len(frames)}; export it again")
    # An attribute is found in whichever functional group it is.
    shared = [group for item in header.items("SharedFunctionalGroupsSequence") for group in item.items_of_all()]
    return [_plane(header, pixels, k, [*frame.items_of_all(), *shared, header]) for k, frame in enumerate(frames)]


def _plane(header: FileHeader, pixels: Pixels, frame: int, places: Sequence[Header]) -> Plane:
    name = _name(pixels, frame)
    found = []
    for keyword, n in (("ImagePositionPatient", 3), ("ImageOrientationPatient", 6), ("PixelSpacing", 2)):
        value = _first(places, keyword, n)
        if value is None:
            raise InputError(f"{name}: no {keyword}, so it has no place in a volume; choose another series")
        found.append(value)
    position, orientation, spacing = found
    if min(spacing) <= 0:
        raise InputError(f"{name}: PixelSpacing {spacing} is not above 0; repair it")
    row, column = _unit_vectors(name, np.array(orientation))
    slope = _first(places, "RescaleSlope", 1) or (1.0,)
    inter = _first(places, "RescaleIntercept", 1) or (0.0,)
    thickness = _first(places, "SliceThickness", 1) or _first(places, "SpacingBetweenSlices", 1)
    if slope[0] == 0:
        raise InputError(f"{name}: RescaleSlope is 0, so every value would be the same; repair it")
    return Plane(
        header=header,
        pixels=pixels,
        frame=frame,
        uid=header.uid("SOPInstanceUID"),
        position=np.array(position),
        row=row,
        column=column,
        spacing_mm=(spacing[1], spacing[0]),
        slope=slope[0],
        inter=inter[0],
        thickness_mm=thickness[0] if thickness and thickness[0] > 0 else None,
        traits=_traits(places),
        is_localizer=is_localizer(header) or any("LOCALIZER" in place.text("FrameType").upper() for place in places),
    )


def _first(places: Sequence[Header], keyword: str, n: int) -> tuple[float, ...] | None:
    """Numbers of the first place that has them."""
    return next((value for value in (place.numbers(keyword, n) for place in places) if value is not None), None)


def _traits(places: Sequence[Header]) -> dict[str, str]:
    texts = {
        keyword: next(filter(None, (place.text(keyword) for place in places if keyword in place.dataset)), "")
        for keyword in TRAITS
    }
    return {keyword: text for keyword, text in texts.items() if text}


def _unit_vectors(name: str, cosines: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    row, column = cosines[:3], cosines[3:]
    lengths = np.linalg.norm(row), np.linalg.norm(column)
    if max(abs(length - 1) for length in lengths) > _COSINE_TOLERANCE or abs(row @ column) > _COSINE_TOLERANCE:
        raise InputError(f"{name}: ImageOrientationPatient holds no two unit vectors at a right angle; repair it")
    return row / lengths[0], column / lengths[1]
