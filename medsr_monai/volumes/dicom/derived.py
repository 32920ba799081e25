"""Write a volume as a derived series, one file a slice."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np

from medsr_monai.geometry import Grid
from medsr_monai.system.errors import InputError
from medsr_monai.volumes.dicom.derivation import (
    coded,
    decimals,
    derived_header,
    derived_uid,
    item,
    plain_text,
    series_uid,
)
from medsr_monai.volumes.dicom.headers import load_pydicom, quietly
from medsr_monai.volumes.dicom.storage import with_room_below
from medsr_monai.volumes.dicom.volume import DicomVolume

log = logging.getLogger(__name__)

_MOST_PIXELS = 65535
_SQUARE = 1e-3  # as the reader accepts it
_DIGITS = 10  # of positions and cosines: what a decimal string of 16 characters holds anyway
_TO_LPS = np.diag([-1.0, -1.0, 1.0])
_CORNERS = ((-0.5, -0.5), (-0.5, 0.5), (0.5, -0.5), (0.5, 0.5))


class DerivedSeriesWriter:
    """Writes 0001.dcm, 0002.dcm, ... as their slices come; `SlabWriter` checks these.

    The files are classic CT, MR or PET images of the source's patient, study and frame of reference. UIDs depend on
    the source series, the algorithm and the grid only, so that the same again replaces rather than doubles. Rows and
    columns are the grid's second and first axis, and slices its third, which may be sheared: nothing is resampled.

    Args:
        folder: to write into; it exists.
        reference: the source.
        grid: of what is written, RAS mm.
        algorithm: bundle, version and settings, as the headers say it.

    Attributes:
        uid: SeriesInstanceUID of the derived series.
        n_clipped: voxels beyond the range of the stored type so far.
        n_damaged: elements of the source's header that were left out.

    Raises:
        InputError: a source that is neither CT, MR nor PET, or a grid whose pixels are no rectangles.
    """

    def __init__(self, folder: str | Path, reference: DicomVolume, grid: Grid, algorithm: str) -> None:
        self.folder = Path(folder)
        self.grid = grid
        self.n_clipped = self._written = 0
        self._reference = reference
        self._check_grid()
        self._axes = _TO_LPS @ grid.affine[:3, :3] / np.array(grid.spacing_mm)
        self._normal = np.cross(self._axes[:, 0], self._axes[:, 1])
        self._origin = _TO_LPS @ grid.affine[:3, 3]
        self.uid = series_uid(reference, grid, plain_text(algorithm, 1 << 16))
        self._storage = with_room_below(reference.storage, reference.greatest_intensities())
        self._template, self.n_damaged = derived_header(reference, self._storage, self.uid, algorithm)
        self._source_class = reference.planes[0].header.uid("SOPClassUID")
        self._set_geometry()

    def _check_grid(self) -> None:
        row, column = self.grid.affine[:3, 0], self.grid.affine[:3, 1]
        if abs(row @ column) > _SQUARE * np.linalg.norm(row) * np.linalg.norm(column):
            raise InputError("axes 0 and 1 of the grid are not at a right angle, which DICOM cannot say; resample it")
        if max(self.grid.shape) > _MOST_PIXELS:
            raise InputError(f"grid of {self.grid.shape}: DICOM allows {_MOST_PIXELS} rows, columns and slices")

    def _set_geometry(self) -> None:
        template, spacing = self._template, self.grid.spacing_mm
        distance = spacing[2] * abs(float(self._axes[:, 2] @ self._normal))
        template.Columns, template.Rows = self.grid.shape[:2]
        template.PixelSpacing = _rounded((spacing[1], spacing[0]))
        template.SliceThickness = template.SpacingBetweenSlices = _rounded(distance)
        template.ImageOrientationPatient = _rounded(self._axes[:, :2].T)
        if abs(self._normal @ self._reference.planes[0].normal) < 1 - _SQUARE and "GantryDetectorTilt" in template:
            del template.GantryDetectorTilt  # that of the source's planes
        if "NumberOfSlices" in template:
            template.NumberOfSlices = self.grid.shape[2]

    def write(self, planes: np.ndarray) -> None:
        """Write the next slices (X, Y, n), intensities, in ascending order along the grid's last axis.

        Raises:
            InputError: a folder that cannot be written.
        """
        for k in range(planes.shape[2]):
            stored, n_clipped = self._storage.stored(planes[..., k])
            self.n_clipped += n_clipped
            self._save(self._written, stored)
            self._written += 1

    def finish(self) -> None:
        """Log what was lost."""
        if self.n_clipped:
            log.warning("%d voxels clipped to the range of the stored type", self.n_clipped)
        if self.n_damaged:
            log.warning("%d damaged header element%s left out", self.n_damaged, "s" * (self.n_damaged > 1))

    def _save(self, k: int, stored: np.ndarray) -> None:
        pydicom = load_pydicom()
        dataset = self._template
        position = self._origin + k * self.grid.spacing_mm[2] * self._axes[:, 2]
        dataset.SOPInstanceUID = derived_uid(self.uid, k)
        dataset.InstanceNumber = k + 1
        dataset.ImagePositionPatient = _rounded(position)
        dataset.SliceLocation = _rounded(position @ self._normal)
        if "ImageIndex" in dataset:
            dataset.ImageIndex = k + 1
        self._set_sources(dataset, position)
        pixels = np.ascontiguousarray(stored.T, dtype=stored.dtype.newbyteorder("<")).tobytes()
        dataset.add_new("PixelData", "OW", pixels + b"\0" * (len(pixels) % 2))
        dataset.file_meta = pydicom.dataset.FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        path = self.folder / f"{k + 1:04d}.dcm"
        try:
            with quietly():
                dataset.save_as(path, enforce_file_format=True)
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
        for k in np.flatnonzero(self._is_source(position)):
            plane = self._reference.planes[k]
            images.setdefault(plane.uid, []).append(plane.frame + 1)
        is_multi = len(self._reference.planes[0].pixels.frames) > 1
        dataset.SourceImageSequence = [
            self._image(
                uid,
                **({"ReferencedFrameNumber": frames} if is_multi else {}),
                PurposeOfReferenceCodeSequence=[coded("121322", "Source image for image processing operation")],
            )
            for uid, frames in images.items()
        ]
        references = [self._image(uid) for uid in images]
        dataset.ReferencedSeriesSequence = [
            item(SeriesInstanceUID=self._reference.uid, ReferencedInstanceSequence=references)
        ]

    def _image(self, uid: str, **more: Any) -> Any:
        return item(ReferencedSOPClassUID=self._source_class, ReferencedSOPInstanceUID=uid, **more)

    def _is_source(self, position: np.ndarray) -> np.ndarray:
        """Which planes are within one slice distance of the slice; the nearest where there is none."""
        planes, normal = self._reference.planes, self._reference.planes[0].normal
        edges = self._axes[:, :2] * np.array(self.grid.spacing_mm[:2]) * np.array(self.grid.shape[:2])
        middle = position + edges.sum(axis=1) / 2
        reach = [float((middle + edges @ corner) @ normal) for corner in _CORNERS]
        along = np.array([plane.position @ normal for plane in planes])
        margin = np.diff(along).max() if len(planes) > 1 else 0.0
        near = (along >= min(reach) - margin) & (along <= max(reach) + margin)
        if not near.any():
            near[np.abs(along - np.mean(reach)).argmin()] = True
        return np.asarray(near)


def _rounded(numbers: Any) -> list[str]:
    return decimals(round(float(number), _DIGITS) for number in np.ravel(numbers))
