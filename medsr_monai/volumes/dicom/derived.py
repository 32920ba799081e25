"""Write a volume as a derived series, one file a slice."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medsr_monai.geometry import Grid, reorient
from medsr_monai.system.errors import InputError
from medsr_monai.volumes.dicom.derivation import coded, derived_header, derived_uid, plain_text, series_uid
from medsr_monai.volumes.dicom.headers import load_pydicom, quietly
from medsr_monai.volumes.dicom.planes import Plane
from medsr_monai.volumes.dicom.storage import with_room_below
from medsr_monai.volumes.dicom.volume import DicomVolume

_MOST_PIXELS = 65535
_SQUARE = 1e-3  # as the reader accepts it
_DIGITS = 10  # of positions and cosines: what a decimal string of 16 characters holds anyway
_TO_LPS = np.diag([-1.0, -1.0, 1.0])
_CORNERS = ((-0.5, -0.5), (-0.5, 0.5), (0.5, -0.5), (0.5, 0.5))


class DerivedSeriesWriter:
    """Writes 0001.dcm, 0002.dcm, ... as their slices come.

    The files are classic CT, MR or PET images of the source's patient, study and frame of reference. UIDs depend on
    the source series, the algorithm and the grid only, so that the same again replaces rather than doubles. Rows and
    columns are the grid's second and first axis, and slices its third, which may be sheared: nothing is resampled.

    Args:
        folder: to write into; it exists.
        reference: the source.
        grid: of what is written, RAS mm.
        algorithm: bundle, version and settings, as the headers say it.
        notes: what else was done.

    Attributes:
        uid: SeriesInstanceUID of the derived series.
        n_clipped: voxels beyond the range of the stored type so far.
        notes: the reference's, those given, and what was left out of the header.

    Raises:
        InputError: a source that is neither CT, MR nor PET, or a grid whose pixels are no rectangles.
    """

    def __init__(
        self, folder: str | Path, reference: DicomVolume, grid: Grid, algorithm: str, notes: Sequence[str] = ()
    ) -> None:
        self.folder = Path(folder)
        self.grid = grid
        self.n_clipped = 0
        self._reference = reference
        self._check_grid()
        self._axes = _TO_LPS @ grid.affine[:3, :3] / np.array(grid.spacing_mm)
        self._origin = _TO_LPS @ grid.affine[:3, 3]
        self.uid = series_uid(reference, grid, plain_text(algorithm, 1 << 16))
        self._storage = with_room_below(reference.storage, reference.greatest_intensities())
        self._template, n_damaged = derived_header(reference, self._storage, self.uid, algorithm, notes)
        plural = "s" * (n_damaged > 1)
        damaged = (f"{n_damaged} damaged header element{plural} left out",) if n_damaged else ()
        self.notes: tuple[str, ...] = (*reference.notes, *notes, *damaged)
        self._source_class = reference.headers[0].uid("SOPClassUID")
        self._set_geometry()
        self._written = 0

    def _check_grid(self) -> None:
        row, column = self.grid.affine[:3, 0], self.grid.affine[:3, 1]
        if abs(row @ column) > _SQUARE * np.linalg.norm(row) * np.linalg.norm(column):
            raise InputError("axes 0 and 1 of the grid are not at a right angle, which DICOM cannot say; resample it")
        if max(self.grid.shape) > _MOST_PIXELS:
            raise InputError(f"grid of {self.grid.shape}: DICOM allows {_MOST_PIXELS} rows, columns and slices")

    @property
    def _normal(self) -> np.ndarray:
        return np.cross(self._axes[:, 0], self._axes[:, 1])

    def _set_geometry(self) -> None:
        template, spacing = self._template, self.grid.spacing_mm
        distance = spacing[2] * abs(float(self._axes[:, 2] @ self._normal))
        template.Columns, template.Rows = self.grid.shape[:2]
        template.PixelSpacing = _decimals((spacing[1], spacing[0]))
        template.SliceThickness = template.SpacingBetweenSlices = _decimals((distance,))[0]
        template.ImageOrientationPatient = _decimals((*self._axes[:, 0], *self._axes[:, 1]))
        if abs(self._normal @ self._reference.planes[0].normal) < 1 - _SQUARE and "GantryDetectorTilt" in template:
            del template.GantryDetectorTilt  # that of the source's planes
        if "NumberOfSlices" in template:
            template.NumberOfSlices = self.grid.shape[2]

    def write(self, planes: np.ndarray) -> None:
        """Write the next slices, in ascending order along the grid's last axis.

        Args:
            planes: (X, Y, n), intensities.

        Raises:
            InputError: voxels that are not finite, or a folder that cannot be written.
        """
        if planes.ndim != 3 or planes.shape[:2] != self.grid.shape[:2]:
            raise ValueError(f"planes of shape {planes.shape}: need ({self.grid.shape[0]}, {self.grid.shape[1]}, n)")
        if self._written + planes.shape[2] > self.grid.shape[2]:
            raise ValueError(f"slice {self._written + planes.shape[2]} of {self.grid.shape[2]}")
        for k in range(planes.shape[2]):
            plane = planes[..., k]
            if not np.isfinite(plane).all():
                raise InputError(f"slice {self._written + 1}: voxels that are not finite cannot be stored in DICOM")
            stored, n_clipped = self._storage.stored(plane)
            self.n_clipped += n_clipped
            self._save(self._written, stored)
            self._written += 1

    def finish(self) -> None:
        """Make sure that every slice was written.

        Raises:
            ValueError: slices are missing.
        """
        if self._written != self.grid.shape[2]:
            raise ValueError(f"{self._written} slices written of {self.grid.shape[2]}")

    def _save(self, k: int, stored: np.ndarray) -> None:
        pydicom = load_pydicom()
        dataset = self._template
        position = self._origin + k * self.grid.spacing_mm[2] * self._axes[:, 2]
        dataset.SOPInstanceUID = derived_uid(self.uid, k)
        dataset.InstanceNumber = k + 1
        dataset.ImagePositionPatient = _decimals(position)
        dataset.SliceLocation = _decimals((float(position @ self._normal),))[0]
        if "ImageIndex" in dataset:
            dataset.ImageIndex = k + 1
        self._set_sources(dataset, position)
        kind = stored.dtype.newbyteorder("<")
        dataset.PixelData = np.ascontiguousarray(stored.T, dtype=kind).tobytes()
        dataset["PixelData"].VR = "OW"
        if len(dataset.PixelData) % 2:
            dataset.PixelData += b"\0"
        dataset.file_meta = pydicom.dataset.FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        path = self.folder / f"{k + 1:04d}.dcm"
        try:
            with quietly():
                _save_as(pydicom, dataset, path)
        except OSError as error:
            cause = error.__cause__ or error.__context__  # pydicom wraps it, with a text of its own
            reason = error.strerror or getattr(cause, "strerror", None) or type(error).__name__
            raise InputError(f"{path}: cannot be written ({reason}); free space or choose another") from error
        except Exception as error:  # pydicom lets anything through; what it says may quote values
            what = f"what the source's header holds cannot be written ({type(error).__name__})"
            raise InputError(f"{path}: {what}; repair or export the source again") from None

    def _set_sources(self, dataset: Any, position: np.ndarray) -> None:
        """Refer to the source's images that the slice lies between."""
        images: dict[str, list[int]] = {}
        for plane in self._sources_of(position):
            images.setdefault(plane.uid, []).append(plane.frame + 1)
        is_multi = len(self._reference.planes[0].pixels.frames) > 1
        items = [self._image(uid, frames if is_multi else []) for uid, frames in images.items()]
        series = load_pydicom().Dataset()
        series.SeriesInstanceUID = self._reference.uid
        series.ReferencedInstanceSequence = [self._image(uid, []) for uid in images]
        for item in items:
            item.PurposeOfReferenceCodeSequence = [coded("121322", "Source image for image processing operation")]
        dataset.SourceImageSequence = items
        dataset.ReferencedSeriesSequence = [series]

    def _image(self, uid: str, frames: list[int]) -> Any:
        item = load_pydicom().Dataset()
        item.ReferencedSOPClassUID = self._source_class
        item.ReferencedSOPInstanceUID = uid
        if frames:
            item.ReferencedFrameNumber = frames
        return item

    def _sources_of(self, position: np.ndarray) -> list[Plane]:
        """The planes within one slice distance of the slice, the nearest where there is none."""
        planes, normal = self._reference.planes, self._reference.planes[0].normal
        edges = self._axes[:, :2] * np.array(self.grid.spacing_mm[:2]) * np.array(self.grid.shape[:2])
        middle = position + edges.sum(axis=1) / 2
        reach = [float((middle + edges @ corner) @ normal) for corner in _CORNERS]
        along = np.array([plane.position @ normal for plane in planes])
        margin = np.diff(along).max() if len(planes) > 1 else 0.0
        near = (along >= min(reach) - margin) & (along <= max(reach) + margin)
        if not near.any():
            near[np.abs(along - np.mean(reach)).argmin()] = True
        return [plane for plane, is_near in zip(planes, near, strict=True) if is_near]


def _decimals(numbers: Sequence[float] | np.ndarray) -> list[str]:
    """Numbers as decimal strings of at most 16 characters; adding zero makes -0.0 a plain 0."""
    as_ds = load_pydicom("pydicom.valuerep").format_number_as_ds
    return [as_ds(round(float(number), _DIGITS) + 0.0) for number in numbers]


def _save_as(pydicom: Any, dataset: Any, path: Path) -> None:
    if pydicom.__version__.startswith("2."):
        dataset.is_little_endian, dataset.is_implicit_VR = True, False
        dataset.save_as(path, write_like_original=False)
    else:
        dataset.save_as(path, enforce_file_format=True)


def write_derived(
    folder: str | Path,
    volume: np.ndarray,
    grid: Grid,
    reference: DicomVolume,
    algorithm: str,
    notes: Sequence[str] = (),
) -> DerivedSeriesWriter:
    """Write a whole volume as a derived series, its axes turned to the reference's order first.

    Args:
        folder: to write into; it exists.
        volume: (X, Y, Z), intensities.
        grid: of the volume, RAS mm.
        reference: the source.
        algorithm: bundle, version and settings.
        notes: what else was done.

    Returns:
        The writer, for its `uid`, `n_clipped` and `notes`.

    Raises:
        InputError: as `DerivedSeriesWriter`.
    """
    if volume.shape != grid.shape:
        raise InputError(f"volume of shape {volume.shape} for a grid of {grid.shape}")
    turn = grid.orientation_to("".join(reference.grid.axcodes))
    writer = DerivedSeriesWriter(folder, reference, grid.reoriented(turn), algorithm, notes)
    writer.write(reorient(volume, turn))
    writer.finish()
    return writer
