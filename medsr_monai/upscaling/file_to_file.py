"""Upscale a volume from file to file without ever holding its output: read, normalise, project and write in slabs.

This lies in room 3, beside :class:`VolumeUpscaler` whose counterpart it is: it needs the volumes of room 2, and the
network comes in as a function, so that it needs none.
"""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from medsr_monai.acquisition import SeparableAcquisition, SlabProjection
from medsr_monai.geometry import inverse_orientation, reorient
from medsr_monai.system.errors import InputError
from medsr_monai.system.scratch import SliceFile
from medsr_monai.volumes import LazyVolume, OutputsTogether, SlabWriter, VolumePath, open_volume, voxels_to_unpack

Read = Callable[[int, int], Tensor]
"""Slices start ... stop of the low-resolution volume, (1, 1, *spatial), float32, normalised, canonical."""

Place = tuple[slice, ...]

UpscaleSlabs = Callable[[Read, tuple[int, ...], int], Iterator[tuple[slice | Place, Tensor]]]
"""A network in slabs: of a `Read`, the shape (X, Y, Z) of what it reads, and the axis along which, it makes the
upscaled parts (1, C, *spatial): whole slabs with their slices, ascending and without gaps; or parts that need not span
the other axes either, with their places. C is 1, or 2 with the deviation behind the mean."""

_SLAB_VOXELS = 1 << 22  # what the second pass holds, 16 MiB of float32
_RESIDUAL_VOXELS = 1 << 20  # up to which the projection's residual is held in memory
_COMPRESSED_SHARE = 0.25  # of its voxels' size, what a compressed output needs at least


@dataclass(frozen=True)
class _Task:
    """One volume: what to read, where it lies in intensity, and what becomes of it."""

    source: LazyVolume
    writers: list[SlabWriter]
    upscale: UpscaleSlabs
    shape: tuple[int, ...]
    profile: str | Sequence[str]
    regularisation: float | None
    time: int
    window: Tensor
    scratch: Path
    progress: bool

    @property
    def axis(self) -> int:
        return self.source.slow_axis

    def read(self, start: int, stop: int) -> Tensor:
        # A copy: torch refuses the negative strides of flipped axes, which numpy may leave on an axis of one voxel.
        image = torch.from_numpy(np.array(self.source.read(start, stop, time=self.time), order="C"))
        low, high = self.window
        return ((image - low) / (high - low))[None, None]

    def write(self, slabs: Sequence[Tensor]) -> None:
        """Write the mean, and the deviation, which only the gain of the intensities changes."""
        low, high = self.window
        for slab, writer, offset in zip(slabs, self.writers, (low, 0.0), strict=False):
            image = (slab.cpu() * (high - low) + offset)[0, 0].numpy()
            writer.write(reorient(image, inverse_orientation(self.source.orientation)))

    def parts(self) -> Iterator[tuple[Place, Tensor]]:
        """What the network makes, with its place; checked to be all, and where it comes in whole slabs, in order."""
        done, voxels = 0, 0
        for place, part in self.upscale(self.read, self.source.grid.shape, self.axis):
            if isinstance(place, slice):
                place = tuple(place if a == self.axis else slice(0, n) for a, n in enumerate(self.shape))
            expected = (1, len(self.writers), *(p.stop - p.start for p in place))
            is_whole = self._is_whole(place)
            if tuple(part.shape) != expected or (is_whole and place[self.axis].start != done):
                raise ValueError(f"network: part {tuple(part.shape)} at {place}, after {done} slices of {self.shape}")
            yield place, part.detach().float()
            done = place[self.axis].stop
            voxels += math.prod(part.shape[2:])
        if voxels != math.prod(self.shape):
            raise ValueError(f"network: {done} slices came of {self.shape[self.axis]}, {voxels} voxels of {self.shape}")

    def _is_whole(self, place: Place) -> bool:
        return all(p == slice(0, n) for a, (p, n) in enumerate(zip(place, self.shape, strict=True)) if a != self.axis)

    def directly(self) -> None:
        """One pass: what comes is written."""
        for _, slab in self.parts():
            self.write(slab.split(1, dim=1))

    def through(self, waiting: Sequence[SliceFile]) -> None:
        """Two passes: the network's output waits on disk until the whole measurement is explained."""
        with ExitStack() as stack:
            projection = self._projection(stack)
            whole = True
            for place, part in self.parts():
                for image, file in zip(part.split(1, dim=1), waiting, strict=True):
                    file.write_part(place, image)
                whole = whole and self._is_whole(place)
                if projection is not None and whole:
                    projection.subtract(place[self.axis].start, part[:, :1])
            ranges = _ranges(self.shape, self.axis)
            if projection is not None:
                if not whole:
                    for start, stop in ranges:
                        projection.subtract(start, waiting[0].read(start, stop))
                for start, stop in _ranges(self.source.grid.shape, self.axis):
                    projection.add(start, self.read(start, stop))
                projection.solve()
            if self.source.is_descending:
                ranges.reverse()
            for start, stop in tqdm(ranges, unit="slab", desc="writing", leave=False, disable=not self.progress):
                slabs = [file.read(start, stop) for file in waiting]
                if projection is not None:
                    slabs[0] += projection.correction(start, stop)
                self.write(slabs)

    def _projection(self, stack: ExitStack) -> SlabProjection | None:
        """The projection, its residual in memory where it is small, else on disk."""
        if self.regularisation is None:
            return None
        lr_shape = self.source.grid.shape
        acquisition = SeparableAcquisition.from_profile(self.shape, lr_shape, self.profile)
        is_small = math.prod(lr_shape) <= _RESIDUAL_VOXELS
        residual = None if is_small else stack.enter_context(SliceFile(lr_shape, self.axis, self.scratch))
        return SlabProjection(acquisition, self.axis, self.regularisation, residual)


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
    source: VolumePath,
    upscale: UpscaleSlabs,
    target: str | Path,
    scale: Sequence[int],
    profile: str | Sequence[str] = "box",
    regularisation: float | None = 0.0,
    dtype: str = "float32",
    scratch_dir: str | Path | None = None,
    progress: bool = False,
    deviation_target: str | Path | None = None,
    in_strips: Callable[[tuple[int, ...], int], bool] | None = None,
    algorithm: str = "",
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
        progress: show a progress bar of the second pass.
        deviation_target: the file for the deviation, where the network gives one.
        in_strips: tells by shape and axis whether the network's parts may be less than whole slabs; default is no.
        algorithm: what made the image; see :class:`SlabWriter`.

    Returns:
        The target.

    Raises:
        InputError: a source that cannot be read, a target that cannot be written, or too little free space.
    """
    target = Path(target)
    _refuse_overwriting(Path(source), target)
    scratch = Path(target.parent if scratch_dir is None else scratch_dir)
    check_free_space([(scratch, voxels_to_unpack(source), "unpacking the input")])
    with ExitStack() as stack:
        _make_folder(scratch)
        volume = stack.enter_context(open_volume(source, scratch))
        shape = tuple(n * factor for n, factor in zip(volume.grid.shape, scale, strict=True))
        grid = volume.grid.resized(shape).reoriented(inverse_orientation(volume.orientation))
        scans = [volume.scan(time) for time in range(volume.n_times)]
        ends = (min(scan.low for scan in scans), max(scan.high for scan in scans))
        targets = [target, *([] if deviation_target is None else [Path(deviation_target)])]
        # Entered before the writers, it is left after them: mean and deviation are complete, and get their names.
        together = stack.enter_context(OutputsTogether())
        # A deviation has neither the source's display range nor its scale.
        types = [dtype, "float32"]
        writers = [
            SlabWriter(path, grid, volume.info.n_times, volume.info, kind, ends, together=together, algorithm=algorithm)
            for path, kind in zip(targets, types, strict=False)
        ]
        strips = in_strips is not None and in_strips(volume.grid.shape, volume.slow_axis)
        is_direct = regularisation is None and not volume.is_descending and not strips
        _check_room(volume, writers, regularisation is not None, is_direct, scratch)
        for writer in writers:
            stack.enter_context(writer)
        files = [stack.enter_context(SliceFile(shape, volume.slow_axis, scratch)) for _ in targets if not is_direct]
        for time, scan in enumerate(scans):
            window = torch.tensor(scan.window)
            task = _Task(volume, writers, upscale, shape, profile, regularisation, time, window, scratch, progress)
            if is_direct:
                task.directly()
            else:
                task.through(files)
    return target


def _refuse_overwriting(source: Path, target: Path) -> None:
    is_same = source.exists() and target.exists() and os.path.samefile(source, target)
    if is_same or os.path.realpath(source) == os.path.realpath(target):
        raise InputError(f"{target}: would overwrite the input; choose another name")


def _check_room(
    volume: LazyVolume, writers: Sequence[SlabWriter], is_projected: bool, is_direct: bool, scratch: Path
) -> None:
    """What will be written, and what waits on disk meanwhile, must fit."""
    waiting = 0 if is_direct else sum(math.prod(writer.grid.shape) * 4 for writer in writers)
    n_lr = math.prod(volume.grid.shape)
    residual = n_lr * 4 if is_projected and n_lr > _RESIDUAL_VOXELS else 0
    output = sum(int(w.n_bytes * (_COMPRESSED_SHARE if w.is_compressed else 1)) for w in writers)
    target = writers[0].path.parent
    check_free_space([(target, output, "the output"), (scratch, waiting + residual, "the pass between")])


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: cannot be made ({error.strerror or error}); choose another folder") from error
