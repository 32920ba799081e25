"""Scratch storage for images that are too large for memory: nameless files that vanish with the process."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medsr_monai.system.errors import InputError


def cut(shape: Sequence[int], axis: int, voxels: int) -> list[tuple[int, int]]:
    """Ranges along an axis that cut an image into slabs of a bounded number of voxels, or single slices."""
    n = shape[axis]
    thick = max(1, n * voxels // math.prod(shape))
    return [(start, min(start + thick, n)) for start in range(0, n, thick)]


class SliceFile(ExitStack):
    """A float32 image on disk, slice by slice along one axis, and zero where nothing was written.

    It is a context manager, and its file has no name. The file is not mapped into memory, so memory holds only the
    slices that were requested.

    Args:
        shape: spatial shape of the image.
        axis: axis of the slices.
        folder: folder of the file; None for the system's folder of temporary files.

    Raises:
        InputError: the folder cannot hold the file; any method may raise it.
    """

    def __init__(self, shape: tuple[int, ...], axis: int, folder: str | Path | None = None) -> None:
        super().__init__()
        self.shape, self.axis = shape, axis
        self.folder = tempfile.gettempdir() if folder is None else folder
        self._across = tuple(n for other, n in enumerate(shape) if other != axis)
        self._row = math.prod(self._across[1:]) * 4
        try:
            self._file: Any = self.enter_context(tempfile.TemporaryFile(dir=self.folder))  # noqa: SIM115
            self._file.truncate(math.prod(shape) * 4)
        except OSError as error:
            self.close()
            raise self._no_room(error) from error

    def _no_room(self, error: OSError) -> InputError:
        return InputError(
            f"{self.folder}: cannot hold the temporary file ({error.strerror or error}); free space, or choose another "
            "scratch_dir"
        )

    def _blocks(self, start: int, stop: int, rows: slice) -> list[int]:
        """The offset of each contiguous piece in the file, in bytes; whole slices form a single piece."""
        first, last, _ = rows.indices(self._across[0])
        whole = (first, last) == (0, self._across[0])
        begins = [start] if whole else range(start, stop)
        return [(k * self._across[0] + first) * self._row for k in begins]

    def read(self, start: int, stop: int, rows: slice = slice(None)) -> Tensor:
        """Read the slices [start, stop), and of the first of the other axes ``rows``: (1, 1, *spatial), float32."""
        first, last, _ = rows.indices(self._across[0])
        slices = np.empty((stop - start, last - first, *self._across[1:]), dtype=np.float32)
        places = self._blocks(start, stop, rows)
        for place, piece in zip(places, np.split(slices, len(places)), strict=True):
            self._file.seek(place)
            if self._file.readinto(piece.data) != piece.nbytes:
                raise RuntimeError(f"slices {start} to {stop}: not in the temporary file of {self.shape}")
        return torch.from_numpy(slices).movedim(0, self.axis)[None, None]

    def write(self, start: int, slab: Tensor, rows: slice = slice(None)) -> None:
        """Write slices; the arguments are as for :meth:`read`, and ``slab`` is (1, 1, *spatial)."""
        slices = slab[0, 0].movedim(self.axis, 0).float().contiguous().cpu().numpy()
        places = self._blocks(start, start + len(slices), rows)
        try:
            for place, piece in zip(places, np.split(slices, len(places)), strict=True):
                self._file.seek(place)
                self._file.write(piece.data)
            self._file.flush()
        except OSError as error:
            raise self._no_room(error) from error

    def write_part(self, place: tuple[slice, ...], part: Tensor) -> None:
        """Write a part (1, 1, *spatial), which may be narrower than the image along any axis, at one slice per axis."""
        along, (rows, *columns) = place[self.axis], [p for axis, p in enumerate(place) if axis != self.axis]
        if all(p.stop - p.start == n for p, n in zip(columns, self._across[1:], strict=True)):
            self.write(along.start, part, rows)
            return
        for k in range(along.start, along.stop):
            whole = self.read(k, k + 1, rows)
            one = part.narrow(self.axis + 2, k - along.start, 1).movedim(self.axis + 2, 2)
            whole.movedim(self.axis + 2, 2)[(slice(None), slice(None), slice(None), slice(None), *columns)] = one
            self.write(k, whole, rows)


class SliceMemory:
    """The same interface as :class:`SliceFile`, in memory, on the device of what is written first."""

    def __init__(self, shape: tuple[int, ...], axis: int) -> None:
        self.shape, self.axis = shape, axis
        self._image: Tensor | None = None

    def _whole(self, device: str | torch.device) -> Tensor:
        if self._image is None:
            self._image = torch.zeros((1, 1, *self.shape), device=device)
        return self._image

    def _part(self, start: int, stop: int, rows: slice, device: str | torch.device) -> Tensor:
        across = 1 if self.axis == 0 else 0
        first, last, _ = rows.indices(self.shape[across])
        return self._whole(device).narrow(self.axis + 2, start, stop - start).narrow(across + 2, first, last - first)

    def read(self, start: int, stop: int, rows: slice = slice(None)) -> Tensor:
        return self._part(start, stop, rows, "cpu")

    def write(self, start: int, slab: Tensor, rows: slice = slice(None)) -> None:
        self._part(start, start + slab.shape[self.axis + 2], rows, slab.device).copy_(slab)

    def write_part(self, place: tuple[slice, ...], part: Tensor) -> None:
        """Store a part; one that is the whole image is kept as it is."""
        if self._image is None and tuple(part.shape[2:]) == self.shape:
            self._image = part.float()
        else:
            self._whole(part.device)[(slice(None), slice(None), *place)] = part
