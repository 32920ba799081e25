"""Upscale a volume from file to file without ever holding its output: read, normalise, project and write in slabs.

This lies in room 3, beside :class:`VolumeUpscaler` whose counterpart it is: it needs the volumes of room 2, and the
network comes in as a function, so that it needs none.
"""

from __future__ import annotations

import math
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from medsr_monai.acquisition import SeparableAcquisition, SlabProjection
from medsr_monai.errors import InputError
from medsr_monai.geometry import N_AXES, inverse_orientation, reorient
from medsr_monai.volumes import LazyVolume, SlabWriter, open_volume, voxels_to_unpack

Read = Callable[[int, int], Tensor]
"""Slices start ... stop of the low-resolution volume, (1, 1, *spatial), float32, normalised, canonical."""

UpscaleSlabs = Callable[[Read, tuple[int, ...], int], Iterator[tuple[slice, Tensor]]]
"""A network in slabs: of a `Read`, the shape (X, Y, Z) of what it reads, and the axis along which, it makes the
upscaled slabs (1, 1, *spatial), each with its slices, ascending and without gaps."""

_SLAB_VOXELS = 1 << 24  # what the second pass holds, 64 MiB of float32
_COMPRESSED_SHARE = 0.25  # of its voxels' size, what a compressed output needs at least


@dataclass
class _Intermediate:
    """The network's output between the passes: float32, slice after slice, in a file that has no name."""

    file: BinaryIO
    shape: tuple[int, ...]
    axis: int
    folder: Path

    @property
    def _slice_shape(self) -> tuple[int, ...]:
        return tuple(n for axis, n in enumerate(self.shape) if axis != self.axis)

    def store(self, start: int, slab: Tensor) -> None:
        slices = slab[0, 0].movedim(self.axis, 0).contiguous().cpu().numpy()
        try:
            self.file.seek(start * math.prod(self._slice_shape) * 4)
            self.file.write(slices.data)
            self.file.flush()
        except OSError as error:
            raise InputError(
                f"{self.folder}: cannot hold the temporary file ({error.strerror or error}); free space, or choose "
                "another scratch_dir"
            ) from error

    def load(self, start: int, stop: int) -> Tensor:
        slices = np.empty((stop - start, *self._slice_shape), dtype=np.float32)
        self.file.seek(start * math.prod(self._slice_shape) * 4)
        if cast(Any, self.file).readinto(slices.data) != slices.nbytes:
            raise RuntimeError(f"slices {start} to {stop} of the temporary file were never written")
        return torch.from_numpy(slices).movedim(0, self.axis)[None, None]


@dataclass(frozen=True)
class _Task:
    """One volume: what to read, where it lies in intensity, and what becomes of it."""

    source: LazyVolume
    writer: SlabWriter
    upscale: UpscaleSlabs
    shape: tuple[int, ...]
    profile: str | Sequence[str]
    regularisation: float | None
    time: int
    window: Tensor
    progress: bool

    @property
    def axis(self) -> int:
        return self.source.slow_axis

    def read(self, start: int, stop: int) -> Tensor:
        # A copy: torch refuses the negative strides of flipped axes, which numpy may leave on an axis of one voxel.
        image = torch.from_numpy(np.array(self.source.read(start, stop, time=self.time), order="C"))
        low, high = self.window
        return ((image - low) / (high - low))[None, None]

    def write(self, slab: Tensor) -> None:
        low, high = self.window.to(slab.device)
        image = (slab * (high - low) + low)[0, 0].cpu().numpy()
        self.writer.write(reorient(image, inverse_orientation(self.source.orientation)))

    def slabs(self) -> Iterator[tuple[int, Tensor]]:
        """What the network makes, with the first slice of each slab; checked to be whole and in order."""
        n, done = self.shape[self.axis], 0
        with tqdm(total=n, unit="slice", desc="upscaling", leave=False, disable=not self.progress) as bar:
            for part, slab in self.upscale(self.read, self.source.grid.shape, self.axis):
                size = slab.shape[self.axis + 2] if slab.ndim == N_AXES + 2 else 0
                expected = (1, 1, *(size if axis == self.axis else m for axis, m in enumerate(self.shape)))
                if part.start != done or part.stop != done + size or tuple(slab.shape) != expected:
                    raise ValueError(
                        f"network: slab {tuple(slab.shape)} at {part}, after {done} slices of {self.shape}"
                    )
                yield done, slab.detach().float()
                done += size
                bar.update(size)
        if done != n:
            raise ValueError(f"network: {done} slices came of {n}")

    def directly(self) -> None:
        """One pass: what comes is written."""
        for _, slab in self.slabs():
            self.write(slab)

    def through(self, file: BinaryIO, folder: Path) -> None:
        """Two passes: the network's output waits on disk until the whole measurement is explained."""
        intermediate = _Intermediate(file, self.shape, self.axis, folder)
        projection = self._projection()
        for start, slab in self.slabs():
            if projection is not None:
                projection.subtract(start, slab)
            intermediate.store(start, slab)
        if projection is not None:
            lr_shape = self.source.grid.shape
            for start, stop in _ranges(lr_shape, self.axis):
                projection.add(start, self.read(start, stop))
            projection.solve()
        ranges = _ranges(self.shape, self.axis)
        if self.source.is_descending:
            ranges.reverse()
        for start, stop in tqdm(ranges, unit="slab", desc="writing", leave=False, disable=not self.progress):
            slab = intermediate.load(start, stop)
            if projection is not None:
                correction = projection.correction(start, stop)
                slab = slab.to(correction.device) + correction
            self.write(slab)

    def _projection(self) -> SlabProjection | None:
        if self.regularisation is None:
            return None
        acquisition = SeparableAcquisition.from_profile(self.shape, self.source.grid.shape, self.profile)
        return SlabProjection(acquisition, self.axis, self.regularisation)


def _ranges(shape: Sequence[int], axis: int) -> list[tuple[int, int]]:
    n = shape[axis]
    thick = max(1, _SLAB_VOXELS * n // math.prod(shape))
    return [(start, min(start + thick, n)) for start in range(0, n, thick)]


def check_free_space(needed: Sequence[tuple[Path, int, str]]) -> None:
    """Compare what will be written with what is free, before hours of work.

    Args:
        needed: folders, bytes, and what for; folders of one disk share its free space. One that does not exist counts
            as the first of its parents that does.

    Raises:
        InputError: a disk with too little, naming both numbers.
    """
    disks: dict[int, list[tuple[Path, int, str]]] = {}
    for folder, n_bytes, purpose in needed:
        place = Path(os.path.realpath(folder))
        while not place.exists():
            place = place.parent
        disks.setdefault(place.stat().st_dev, []).append((place, n_bytes, purpose))
    for entries in disks.values():
        total, free = sum(n for _, n, _ in entries), shutil.disk_usage(entries[0][0]).free
        if total > free:
            purposes = " + ".join(f"{n / 1e9:.3g} for {purpose}" for _, n, purpose in entries if n)
            raise InputError(
                f"{entries[0][0]}: {total / 1e9:.3g} GB needed ({purposes}) and {free / 1e9:.3g} GB free; free space, "
                "or choose another output folder or scratch_dir"
            )


def upscale_in_slabs(
    source: str | Path,
    upscale: UpscaleSlabs,
    target: str | Path,
    scale: Sequence[int],
    profile: str | Sequence[str] = "box",
    regularisation: float | None = 0.0,
    dtype: str = "float32",
    scratch_dir: str | Path | None = None,
    progress: bool = False,
) -> Path:
    """Upscale a file to a file, as ``medsr upscale`` does, holding slabs and low-resolution images only.

    The volume passes along the axis that varies slowest on disk, so that reading and writing are sequential. With a
    projection the network's output (float32) waits in a temporary file, because the first slice may be written only
    when the last one is known; without one it is written as it comes, unless the file runs against the canonical
    direction of that axis. A series is done volume by volume.

    Args:
        source: the volume; see :class:`LazyVolume`.
        upscale: the network; called once for each volume of a series.
        target: the file to write; see :class:`SlabWriter`.
        scale: whole factor of each canonical axis.
        profile: the acquisition that the source is taken to come from, one for all canonical axes or one each.
        regularisation: None for no projection, 0 for an exact one, or a Tikhonov damping.
        dtype: see `write_volume`.
        scratch_dir: folder of the temporary files, which have no names and vanish with the process; default is the
            target's.
        progress: show progress bars.

    Returns:
        The target.

    Raises:
        InputError: a source that cannot be read, a target that cannot be written, or too little free space.
    """
    source, target = Path(source), Path(target)
    if os.path.realpath(source) == os.path.realpath(target) or (
        source.exists() and target.exists() and os.path.samefile(source, target)
    ):
        raise InputError(f"{target}: would overwrite the input; choose another name")
    scratch = Path(target.parent if scratch_dir is None else scratch_dir)
    unpacked = voxels_to_unpack(source)
    check_free_space([(scratch, unpacked, "unpacking the input")])
    with ExitStack() as stack:
        _make_folder(scratch)
        volume = stack.enter_context(open_volume(source, scratch))
        shape = tuple(n * factor for n, factor in zip(volume.grid.shape, scale, strict=True))
        grid = volume.grid.resized(shape).reoriented(inverse_orientation(volume.orientation))
        scans = [volume.scan(time) for time in range(volume.n_times)]
        ends = (min(scan.low for scan in scans), max(scan.high for scan in scans))
        writer = SlabWriter(target, grid, volume.info.n_times, volume.info, dtype, ends)
        is_direct = regularisation is None and not volume.is_descending
        waiting = 0 if is_direct else math.prod(shape) * 4
        output = int(writer.n_bytes * (_COMPRESSED_SHARE if writer.is_compressed else 1))
        check_free_space([(target.parent, output, "the output"), (scratch, waiting, "the pass between")])
        stack.enter_context(writer)
        file = None if is_direct else cast(BinaryIO, stack.enter_context(tempfile.TemporaryFile(dir=scratch)))
        for time, scan in enumerate(scans):
            window = torch.tensor(scan.window)
            task = _Task(volume, writer, upscale, shape, profile, regularisation, time, window, progress)
            if file is None:
                task.directly()
            else:
                task.through(file, scratch)
    return target


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: cannot be made ({error.strerror or error}); choose another folder") from error
