"""The header that all files of a derived series share: the source's patient, study and frame of reference, and what
says that it is derived."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from medsr_monai.geometry import Grid
from medsr_monai.system.errors import InputError
from medsr_monai.system.version import __version__
from medsr_monai.volumes.dicom.headers import Header, is_list, load_pydicom, quietly
from medsr_monai.volumes.dicom.vocabulary import CLASSIC, CT, LOSSY, MAKER, MR, PET, is_uid

if TYPE_CHECKING:
    from medsr_monai.volumes.dicom.storage import Storage
    from medsr_monai.volumes.dicom.volume import DicomVolume

SERIES_NUMBER_OFFSET = 1000
"""A derived series' number is the source's plus this."""

_MAX_LO, _MAX_ST = 64, 1024
# What holds for the source's pixels, or for one of its slices, and not for the derived series.
_DROPPED = """
SmallestImagePixelValue LargestImagePixelValue SmallestPixelValueInSeries LargestPixelValueInSeries
WindowCenter WindowWidth WindowCenterWidthExplanation VOILUTSequence VOILUTFunction ModalityLUTSequence
RealWorldValueMappingSequence PixelPaddingValue PixelPaddingRangeLimit PixelAspectRatio PlanarConfiguration
AcquisitionMatrix NominalScannedPixelSpacing ImagerPixelSpacing ImagesInAcquisition IconImageSequence
RescaleSlope RescaleIntercept RescaleType
ReferencedImageSequence SourceImageSequence ReferencedSeriesSequence DerivationDescription DerivationCodeSequence
ReferencedImageEvidenceSequence SourceImageEvidenceSequence StudiesContainingOtherReferencedInstancesSequence
DigitalSignaturesSequence MACParametersSequence EncryptedAttributesSequence OriginalAttributesSequence
NumberOfFrames FrameIncrementPointer InstanceCreatorUID StackID InStackPositionNumber ImageComments
SharedFunctionalGroupsSequence PerFrameFunctionalGroupsSequence DimensionOrganizationSequence DimensionIndexSequence
DimensionOrganizationType RepresentativeFrameNumber ConcatenationUID ConcatenationFrameOffsetNumber
InConcatenationNumber InConcatenationTotalNumber SOPInstanceUIDOfConcatenationSource AcquisitionContextSequence
PixelPresentation VolumetricProperties VolumeBasedCalculationTechnique ConversionSourceAttributesSequence
MultienergyCTAcquisition IsocenterPosition BitsMappedToColorLookupTable DataSetTrailingPadding
""".split()  # noqa: SIM905  a list would be eighty lines
_OTHER_GROUPS = (0x5400, 0x7FE0)  # waveforms and pixels
_FIRST_GROUP = 0x0008  # those before are of messages, files and directories

# Elements that must be there, if only empty.
_EMPTY = """
PatientName PatientID PatientBirthDate PatientSex StudyDate StudyTime ReferringPhysicianName StudyID AccessionNumber
Manufacturer PositionReferenceIndicator AcquisitionNumber
""".split()  # noqa: SIM905
_EMPTY_BY_CLASS = {
    CT: ("KVP",),
    MR: ("ScanOptions", "MRAcquisitionType", "RepetitionTime", "EchoTime", "EchoTrainLength"),
    PET: (),
}
# What may differ between the source's files and is kept all the same: it is of the patient and the study, or an image
# is none without it.
_KEPT_THOUGH_VARYING = {
    *_EMPTY,
    *["SpecificCharacterSet", "Modality", "ImageType", "PatientPosition", "ScanningSequence", "SequenceVariant"],
    *["AcquisitionDate", "FrameReferenceTime", "ActualFrameDuration", "DecayFactor"],
} - {"AcquisitionNumber"}
_PATIENT_GROUP = 0x0010
_LOSSY = ("LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod")


def classic_class(reference: DicomVolume) -> str:
    """The class of image of a derived series.

    Raises:
        InputError: a source whose kind has no classic class, or that is of no study.
    """
    header = reference.planes[0].header
    classic = CLASSIC.get(header.uid("SOPClassUID"))
    if classic is None:
        raise InputError(f"{reference.path}: only CT, MR and PET have derived series; write NIfTI (OUT.nii.gz)")
    header.uid("StudyInstanceUID")
    return classic


def plain_text(text: str, most: int) -> str:
    """A text for a DICOM element: ASCII without backslashes and control characters, not too long."""
    ascii_text = text.encode("ascii", "replace").decode().replace("\\", "/")
    return "".join(letter if letter.isprintable() else " " for letter in ascii_text)[:most].strip()


def derived_uid(*sources: object) -> str:
    """A UID that the same sources give again."""
    return str(load_pydicom("pydicom.uid").generate_uid(entropy_srcs=[repr(source) for source in sources]))


def series_uid(reference: DicomVolume, grid: Grid, algorithm: str) -> str:
    """The UID of a derived series: the same for the same images, grid, algorithm and version, so that sending it again
    leaves one copy; of other images another, as archives may keep what they have under a UID."""
    images = sorted({plane.uid for plane in reference.planes})
    # To a micrometre, so that the last bits of a computation do not matter; adding zero makes -0.0 one with 0.0.
    numbers = (grid.affine[:3].round(3) + 0.0).ravel().tolist()
    return derived_uid(reference.uid, images, algorithm, __version__, grid.shape, numbers)


def derived_header(reference: DicomVolume, storage: Storage, uid: str, algorithm: str) -> tuple[Any, int]:
    """Make what all files of the derived series share: a pydicom dataset.

    Returns:
        It, and how many damaged elements of the source were left out of it.

    Raises:
        InputError: see `classic_class`.
    """
    header, *others = reference.headers
    sop_class = classic_class(reference)
    as_read = {tag: header.dataset.get_item(tag) for tag in header.dataset.keys()}  # noqa: SIM118  elements, not keys
    dataset, n_damaged = _kept(header)
    _drop_what_varies(dataset, as_read, others, sop_class)
    if header.uid("SOPClassUID") != sop_class:  # enhanced
        _flatten(dataset, reference, sop_class)
    dataset.SOPClassUID = sop_class
    dataset.StudyInstanceUID = header.uid("StudyInstanceUID")
    dataset.SeriesInstanceUID = uid
    dataset.SeriesNumber = min((header.whole("SeriesNumber") or 0) + SERIES_NUMBER_OFFSET, 2**31 - 1)
    _set_image_type(dataset, sop_class)
    _set_dates(dataset, sop_class)
    for keyword in (*_EMPTY, *_EMPTY_BY_CLASS[sop_class]):
        if keyword not in dataset:
            setattr(dataset, keyword, None)
    if not dataset.get("BodyPartExamined") and "Laterality" not in dataset:  # it may be one of a pair
        dataset.Laterality = None
    if not is_uid(str(dataset.get("FrameOfReferenceUID", None) or "")):
        dataset.FrameOfReferenceUID = derived_uid(reference.uid, "frame of reference")
    if any(plane.pixels.syntax in LOSSY for plane in reference.planes):
        dataset.LossyImageCompression = "01"
    _set_pixel_format(dataset, reference, storage, sop_class)
    _set_derivation(dataset, algorithm, reference.notes)
    return dataset, n_damaged


def _kept(header: Header) -> tuple[Any, int]:
    """A deep copy without what does not hold any more; `Dataset.copy` would share its elements.

    It is no copy of the file's dataset itself, which remembers the byte order that it was read in.
    """
    pydicom = load_pydicom()
    kept, n_damaged = pydicom.Dataset(), 0
    with quietly():
        for tag in sorted(header.dataset.keys()):
            if tag.group in _OTHER_GROUPS or tag.group < _FIRST_GROUP:
                continue
            element = _sound_element(header.dataset, tag)
            if element is None:
                n_damaged += 1
            elif element.keyword not in _DROPPED:
                kept.add(copy.deepcopy(element))
        kept.remove_private_tags()  # those within sequences
    return kept, n_damaged


def _drop_what_varies(dataset: Any, as_read: Mapping[Any, Any], others: Iterable[Header], sop_class: str) -> None:
    """Remove what holds for some of the source's images only: times, tube currents and table positions of a slice.

    Once lossy is lossy: a single image that was compressed so marks the whole.
    """
    kept = {*_KEPT_THOUGH_VARYING, *_LOSSY, *(("AcquisitionTime",) if sop_class == PET else ())}
    first = {
        element.tag: element.value
        for element in dataset
        if element.keyword not in kept and element.VR != "UI" and element.tag.group != _PATIENT_GROUP
    }
    with quietly():
        for other in others:
            for tag in [tag for tag, value in first.items() if _differs(other, tag, as_read[tag], value)]:
                del first[tag], dataset[tag]
            if _value_of(other, _LOSSY[0]) == "01" != dataset.get(_LOSSY[0]):
                for keyword in _LOSSY:
                    setattr(dataset, keyword, copy.deepcopy(_value_of(other, keyword)))


def _differs(other: Header, tag: Any, as_read: Any, value: Any) -> bool:
    """Whether an element has another value than the first header's; equal bytes are not parsed."""
    element = other.dataset.get_item(tag) if tag in other.dataset else None
    if element is not None and element.is_raw and as_read.is_raw:
        same_order = element.is_little_endian == as_read.is_little_endian
        if same_order and (element.VR, element.value) == (as_read.VR, as_read.value):
            return False
    return bool(_value_of(other, tag) != value)


def _value_of(header: Header, tag: Any) -> Any:
    """A value; None where there is none, or none that can be parsed."""
    try:
        return header.dataset[tag].value
    except Exception:  # pydicom lets anything through
        return None


def _sound_element(dataset: Any, tag: Any) -> Any | None:
    """An element, parsed to its depth; None if it cannot be, or is not what the dictionary says."""
    try:
        element = dataset[tag]
        if element.keyword and element.VR not in load_pydicom("pydicom.datadict").dictionary_VR(tag):
            return None
        if element.VR in ("DS", "IS") and element.value not in (None, ""):
            for number in element.value if is_list(element.value) else [element.value]:
                float(number)
        if element.VR == "SQ":
            for item in element.value:
                item.walk(lambda within, inner: None)
        return element
    except Exception:  # pydicom lets anything through
        return None


def _flatten(dataset: Any, reference: DicomVolume, sop_class: str) -> None:
    """Bring what a classic header says from the functional groups of an enhanced one."""
    traits = reference.planes[0].traits
    if sop_class == MR:
        dataset.ScanningSequence = {"SPIN": "SE", "GRADIENT": "GR"}.get(dataset.get("EchoPulseSequence", ""), "RM")
        dataset.SequenceVariant = "NONE"
        dataset.EchoTime = traits.get("EffectiveEchoTime")
    for keyword in ("KVP", "FlipAngle"):
        if keyword in traits and keyword not in dataset:
            setattr(dataset, keyword, traits[keyword])


def _set_image_type(dataset: Any, sop_class: str) -> None:
    kinds = list(dataset.get("ImageType", None) or [])
    if sop_class == PET:  # knows no secondary images
        dataset.ImageType = ["DERIVED", "PRIMARY", *kinds[2:3]]
        return
    dataset.ImageType = ["DERIVED", "SECONDARY", "AXIAL" if sop_class == CT else next(iter(kinds[2:]), "OTHER")]


def _set_dates(dataset: Any, sop_class: str) -> None:
    now = datetime.now()
    # A PET's uptake is counted from the series' time.
    for name in ("InstanceCreation", "Content", *(["Series"] if sop_class != PET else [])):
        setattr(dataset, f"{name}Date", now.strftime("%Y%m%d"))
        setattr(dataset, f"{name}Time", now.strftime("%H%M%S"))


def _set_pixel_format(dataset: Any, reference: DicomVolume, storage: Storage, sop_class: str) -> None:
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = reference.planes[0].pixels.photometric
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 16, 15
    dataset.PixelRepresentation = int(storage.dtype.kind == "i")
    if sop_class != MR or (storage.slope, storage.inter) != (1, 0):
        dataset.RescaleSlope, dataset.RescaleIntercept = decimals((storage.slope, storage.inter))
    if sop_class == CT:
        dataset.RescaleType = "HU"


def _set_derivation(dataset: Any, algorithm: str, notes: Sequence[str]) -> None:
    said = "; ".join((f"AI super-resolution by {algorithm}", *notes, "values rounded half to even; research use only"))
    shown = plain_text(f"AI super-resolution {algorithm}", _MAX_ST)
    while len(shown) > _MAX_LO and "," in shown:  # no half of a setting; DerivationDescription has all of them
        shown = shown.rpartition(",")[0]
    dataset.SeriesDescription = shown[:_MAX_LO].strip()
    dataset.DerivationDescription = plain_text(said, _MAX_ST)
    dataset.DerivationCodeSequence = [coded("113085", "Spatial resampling")]
    equipment = item(
        Manufacturer=MAKER,
        ManufacturerModelName=plain_text(algorithm.partition(",")[0], _MAX_LO),
        SoftwareVersions=__version__,
        ContributionDescription="AI super-resolution",
        PurposeOfReferenceCodeSequence=[coded("109102", "Processing Equipment")],
    )
    dataset.ContributingEquipmentSequence = [*(dataset.get("ContributingEquipmentSequence", None) or []), equipment]


def coded(value: str, meaning: str) -> Any:
    """A code of DICOM's own (DCM)."""
    return item(CodeValue=value, CodingSchemeDesignator="DCM", CodeMeaning=meaning)


def item(**elements: Any) -> Any:
    """An item of a sequence."""
    dataset = load_pydicom().Dataset()
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    return dataset


def decimals(numbers: Iterable[float]) -> list[str]:
    """Numbers as decimal strings of at most 16 characters; adding zero makes -0.0 a plain 0."""
    as_ds = load_pydicom("pydicom.valuerep").format_number_as_ds
    return [as_ds(float(number) + 0.0) for number in numbers]
