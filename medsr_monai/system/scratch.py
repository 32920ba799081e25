"""Scratch storage for images that are too large for memory: nameless files that vanish with the process."""

from __future__ import annotations

import math
import tempfile
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, cast

import numpy as np
import torch
from torch import Tensor

from medsr_monai.system.errors import InputError


class SliceFile:
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
        self.shape = shape
        self.axis = axis
        self.folder = tempfile.gettempdir() if folder is None else folder
        self._across = tuple(n for other, n in enumerate(shape) if other != axis)
        self._row = math.prod(self._across[1:]) * 4
        self._stack = ExitStack()
        try:
            self._file = self._opened()
            self._file.truncate(math.prod(shape) * 4)
        except OSError as error:
            self._stack.close()
            raise self._no_room(error) from error

    def __enter__(self) -> SliceFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _opened(self) -> BinaryIO:
        return cast(BinaryIO, self._stack.enter_context(tempfile.TemporaryFile(dir=self.folder)))

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
        """Read the slices ``start`` to ``stop`` (exclusive).

        Args:
            start: first slice.
            stop: one past the last.
            rows: part of the first of the other axes.

        Returns:
            (1, 1, *spatial), float32.
        """
        first, last, _ = rows.indices(self._across[0])
        slices = np.empty((stop - start, last - first, *self._across[1:]), dtype=np.float32)
        places = self._blocks(start, stop, rows)
        for place, piece in zip(places, np.split(slices, len(places)), strict=True):
            self._file.seek(place)
            if cast(Any, self._file).readinto(piece.data) != piece.nbytes:
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
        """Write a part (1, 1, *spatial), which may be narrower than the image along any axis.

        Args:
            place: position of the part, one slice per axis.
            part: its voxels.
        """
        along, others = place[self.axis], [p for axis, p in enumerate(place) if axis != self.axis]
        if all(p.stop - p.start == n for p, n in zip(others[1:], self._across[1:], strict=True)):
            self.write(along.start, part, others[0])
            return
        for k in range(along.start, along.stop):
            rows = self.read(k, k + 1, others[0])
            columns = [slice(None) if axis in (self.axis, self._first_across) else place[axis] for axis in self._axes]
            rows[(slice(None), slice(None), *columns)] = part.narrow(self.axis + 2, k - along.start, 1)
            self.write(k, rows, others[0])

    @property
    def _axes(self) -> range:
        return range(len(self.shape))

    @property
    def _first_across(self) -> int:
        return next(axis for axis in self._axes if axis != self.axis)


class SliceMemory:
    """The same interface as :class:`SliceFile`, in memory, on any device."""

    def __init__(self, shape: tuple[int, ...], axis: int) -> None:
        self.shape = shape
        self.axis = axis
        self._image: Tensor | None = None

    def _there(self, start: int, stop: int, rows: slice) -> Tensor:
        assert self._image is not None
        across = next(axis for axis in range(len(self.shape)) if axis != self.axis)
        first, last, _ = rows.indices(self.shape[across])
        return self._image.narrow(self.axis + 2, start, stop - start).narrow(across + 2, first, last - first)

    def _made_on(self, device: torch.device) -> None:
        if self._image is None:
            self._image = torch.zeros((1, 1, *self.shape), device=device)

    def read(self, start: int, stop: int, rows: slice = slice(None)) -> Tensor:
        self._made_on(torch.device("cpu"))
        return self._there(start, stop, rows)

    def write_part(self, place: tuple[slice, ...], part: Tensor) -> None:
        """Store a part; one that is the whole image is kept as it is."""
        if self._image is None and tuple(part.shape[2:]) == self.shape:
            self._image = part.float()
            return
        self._made_on(part.device)
        assert self._image is not None
        self._image[(slice(None), slice(None), *place)] = part

    def write(self, start: int, slab: Tensor, rows: slice = slice(None)) -> None:
        self._made_on(slab.device)
        self._there(start, start + slab.shape[self.axis + 2], rows).copy_(slab)
