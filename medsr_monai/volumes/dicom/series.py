"""Find the image series in a folder, a zip or a list of files, choose among them, and name one by a path."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from medsr_monai.system.errors import InputError
from medsr_monai.volumes.dicom.headers import FileHeader, Header, read_header
from medsr_monai.volumes.dicom.members import Member, Opener, files_below, is_dicom_file, is_zip, members_of
from medsr_monai.volumes.dicom.vocabulary import CLASSIC, STORAGE, is_uid

ALL = "all"
ONLY = "only"
_MAX_CODE = 16
# Segmentations, parametric maps of surfaces, dose: they have rows and columns, and are still no acquired images.
_NOT_IMAGES = {STORAGE + tail for tail in ("66.4", "66.7", "481.2", "68.2")}
_FOUND_BY = (
    "SOPClassUID",
    "SOPInstanceUID",
    "SeriesInstanceUID",
    "SeriesNumber",
    "Modality",
    "ImageType",
    "NumberOfFrames",
    "Rows",
    "Columns",
)


@dataclass(frozen=True)
class Series:
    """An image series."""

    uid: str  # SeriesInstanceUID
    modality: str  # such as "CT"
    number: int | None  # SeriesNumber, None where there is none
    n_images: int  # slices; of a multi-frame file each frame counts
    rows: int  # of its first image, in the order of the names
    columns: int  # likewise
    is_localizer: bool  # whether all its images call themselves localizers
    # The headers of its files, in the order of their names; () if the series was only listed.
    headers: tuple[FileHeader, ...] = field(default=(), repr=False, compare=False)

    def __str__(self) -> str:
        number = "" if self.number is None else f"number {self.number}, "
        kind = ", localizer" if self.is_localizer else ""
        images = "1 image" if self.n_images == 1 else f"{self.n_images} images"
        return f"{self.uid} ({number}{self.modality}, {images}, {self.columns}x{self.rows}{kind})"


def is_dicom(path: str | Path) -> bool:
    """Whether a path leads to DICOM: a DICOM file, a zip, a folder that holds one, or a virtual series path.

    Cheap: of a file only the first bytes are read, of a folder the files up to the first hit.
    """
    path = Path(path)
    if path.is_dir():
        return any(map(is_dicom_file, files_below(path)))
    if path.is_file():
        return is_dicom_file(path) or is_zip(path)
    return is_series_path(path) and is_dicom(path.parent)


def series_path(root: str | Path, uid: str) -> Path:
    """Name one series of a folder or a zip by a path, which travels as a plain string; nothing of that name exists.

    Raises:
        InputError: no UID, or something of that name is there.
    """
    if not is_uid(uid):
        raise InputError(f"{root}: a series is named by its UID (digits and dots), see `find_series`")
    path = Path(root) / uid
    if path.exists():
        raise InputError(f"{path}: exists, so it cannot name a series; give that folder itself")
    return path


def is_series_path(path: Path) -> bool:
    """Whether a path names a series of the folder or zip before its last part."""
    return is_uid(path.name) and not path.exists() and (path.parent.is_dir() or path.parent.is_file())


def find_series(source: str | Path | Sequence[str | Path], keep: str | None = None) -> list[Series]:
    """List the image series of a source; each header is read once, and no pixels.

    Structured reports, presentation states, segmentations, DICOMDIRs, doses and raw data are passed over, and so are
    files that are no DICOM.

    Args:
        source: a folder (with all below it), a zip, a DICOM file, files, or a virtual series path.
        keep: which series get their `headers`, some 50 kB a file: a UID, a number, `ALL`, or `ONLY` the only one that
            is no localizer; None to list them.

    Returns:
        The series, by number and UID.

    Raises:
        InputError: a source that is not there, a damaged DICOM file, a zip that is refused.
    """
    if isinstance(source, str | Path) and is_series_path(path := Path(source)):
        return choose_series(find_series(path.parent, keep and path.name), path.name, path)
    groups: dict[str, dict[Member, Series]] = {}
    shown: set[str] = set()
    with Opener() as opener:
        for member, file in members_of(source, opener):
            header = read_header(member, file, opener.stamp(member, file), None if keep else _FOUND_BY)
            image = _image_in(header, keep)
            if image is None:
                continue
            groups.setdefault(image.uid, {})[member] = image
            if not image.is_localizer:
                shown.add(image.uid)
            if keep == ONLY and len(shown) > 1:  # so none of them is: an archive's headers would fill the memory
                keep = None
                groups = {uid: {at: replace(group[at], headers=()) for at in group} for uid, group in groups.items()}
    found = [joined([group[member] for member in sorted(group)]) for group in groups.values()]
    return sorted(found, key=lambda series: (series.number is None, series.number or 0, series.uid))


def _image_in(header: FileHeader, keep: str | None) -> Series | None:
    """The series that a file is by itself; None if it is no image."""
    sop_class = header.text("SOPClassUID") or header.meta("MediaStorageSOPClassUID")
    if not sop_class:
        raise InputError(f"{header.member}: no SOPClassUID; a damaged DICOM file, export or copy it again")
    rows, columns = header.whole("Rows"), header.whole("Columns")
    if sop_class in _NOT_IMAGES or (sop_class not in CLASSIC and None in (rows, columns)):
        return None
    if not rows or not columns or rows < 0 or columns < 0:
        raise InputError(f"{header.member}: no Rows and Columns; a damaged DICOM file, export or copy it again")
    n_frames = header.whole("NumberOfFrames")
    if n_frames is not None and n_frames < 1:
        raise InputError(f"{header.member}: NumberOfFrames is {n_frames}; repair it")
    uid, number = header.uid("SeriesInstanceUID"), header.whole("SeriesNumber")
    modality = header.text("Modality")  # which messages show; what is no code is "other"
    modality = modality if modality.isascii() and modality.isalnum() and len(modality) <= _MAX_CODE else "OT"
    headers = (header,) if keep in (ALL, ONLY, uid, str(number)) else ()
    return Series(uid, modality, number, n_frames or 1, rows, columns, is_localizer(header), headers)


def is_localizer(header: Header) -> bool:
    """Whether an image calls itself a localizer."""
    return "LOCALIZER" in header.text("ImageType").upper().split("\\")


def joined(parts: Sequence[Series]) -> Series:
    """One series of parts that were found apart; the first says what it is."""
    return replace(
        parts[0],
        n_images=sum(part.n_images for part in parts),
        is_localizer=all(part.is_localizer for part in parts),
        headers=tuple(sorted((header for part in parts for header in part.headers), key=lambda one: one.member)),
    )


def choose_series(found: Sequence[Series], wanted: str | None, name: str | Path = "DICOM") -> list[Series]:
    """Choose among the series of a source.

    Args:
        found: from `find_series`.
        wanted: a SeriesInstanceUID; a SeriesNumber; "all", without localizers; None for the only one that is no
            localizer.
        name: of the source, to begin messages with.

    Returns:
        One series, or all.

    Raises:
        InputError: none of them, or several to choose from; they are listed.
    """
    images = [series for series in found if not series.is_localizer]
    if not found:
        raise InputError(f"{name}: holds no DICOM image series")
    if wanted is not None and wanted != ALL:
        exact = [series for series in found if series.uid == wanted]
        if exact:
            return exact
        images = [series for series in found if str(series.number) == wanted]
        if not images:
            raise InputError(f"{name}: no series {wanted!r}, but {_listed(found)}; choose one with --series UID")
    elif not images:
        raise InputError(f"{name}: only localizers, {_listed(found)}; choose one with --series UID")
    if wanted != ALL and len(images) > 1:
        raise InputError(f"{name}: {len(images)} series, {_listed(images)}; choose one with --series UID, or all")
    return images


def _listed(found: Sequence[Series]) -> str:
    return "; ".join(map(str, found))
