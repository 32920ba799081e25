"""Upscale a volume, from file to file or in memory: one path, on which the output is made and written in slabs.

The network's output has to wait until the whole measurement is explained, because the projection changes its first
slice by what the last one measures. It waits in memory where it fits, else on disk; the numbers are the same.
"""

from __future__ import annotations

import logging
import math
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import torch
from monai.inferers import Inferer
from torch import Tensor, nn
from tqdm import tqdm

from medsr_monai.acquisition import IntensityRule, RobustRange, SeparableAcquisition, SlabProjection
from medsr_monai.geometry import AXES, inverse_orientation, reorient
from medsr_monai.system.atomic import Together
from medsr_monai.system.device import free_bytes
from medsr_monai.system.errors import InputError
from medsr_monai.system.scratch import SliceFile, SliceMemory, cut
from medsr_monai.upscaling.consistent import is_exact, refuse_identity, taken_apart
from medsr_monai.upscaling.convolution.tracing import evaluation_mode
from medsr_monai.upscaling.low_resolution import LowResolutionImage, slab_of, upscaled_parts
from medsr_monai.upscaling.network_view import NetworkView, refuse_channels, view_of
from medsr_monai.upscaling.streaming import Image, Place, StreamingInferer, device_of
from medsr_monai.volumes import (
    LazyVolume,
    OutputsTogether,
    SlabWriter,
    Volume,
    VolumeInfo,
    VolumeKeeper,
    VolumePath,
    open_volume,
    prepare_folder,
    read_info,
    refuse_overwriting,
    say_what_was_done,
    voxels_to_unpack,
)

log = logging.getLogger(__name__)

STREAM = ("auto", "always", "never")
_SHARE_OF_FREE = 0.25  # of the free memory, what an output may take that waits in it
_SLAB_VOXELS = 1 << 22  # what the second pass holds, 16 MiB of float32
_RESIDUAL_VOXELS = 1 << 20  # up to which the projection's residual is held in memory where the output is not
_COMPRESSED_SHARE = 0.25  # of its voxels' size, what a compressed output needs at least


@dataclass(frozen=True, kw_only=True)
class UpscalingSettings:
    """What a bundle, or a user, may choose of an upscaling besides the network and its inferer.

    Args:
        intensity: rule for what the network sees as 0 and 1.
        axes: which axes of the image those of a network are whose scales differ: ``image`` or ``slice``, see
            :meth:`NetworkView.orientation`.
        stream: where the output waits: ``never`` on disk, ``always``, or ``auto``: where it would take more than a
            quarter of the free memory.
        dtype: of the output, see `write_volume`.
        scratch_dir: folder of the temporary files, which have no names and vanish with the process; default is the
            target's.
        progress: show progress bars.
        algorithm: what makes the image, for formats that say so; see :class:`SlabWriter`.

    Raises:
        InputError: an unknown choice.
    """

    intensity: IntensityRule = field(default_factory=RobustRange)
    axes: str = "image"
    stream: str = "auto"
    dtype: str = "float32"
    scratch_dir: str | Path | None = None
    progress: bool = False
    algorithm: str = ""

    def __post_init__(self) -> None:
        for name, value, choices in (("stream", self.stream, STREAM), ("axes", self.axes, AXES)):
            if value not in choices:
                raise InputError(f"{name} '{value}': choose one of {', '.join(choices)}")


@dataclass(frozen=True)
class Upscaled:
    """The upscaled image, and the deviation over the network's ensemble: files by their paths, or volumes."""

    image: Path | Volume
    deviation: Path | Volume | None = None


def upscale_volume(
    source: VolumePath | VolumeInfo,
    network: nn.Module,
    inferer: Inferer,
    target: str | Path | None = None,
    deviation_target: str | Path | None = None,
    settings: UpscalingSettings | None = None,
) -> Upscaled:
    """Upscale a volume, as ``medsr upscale`` does; a series is done volume by volume.

    Args:
        source: a file or a DICOM series; what `read_info` says of one; or a `Volume` in memory.
        network: (B, 1, *spatial) to (B, 1, *(scale * spatial)), of three dimensions, or of two: then slice by slice.
        inferer: runs it. A :class:`ConsistentInferer` is taken apart: its projection is done in slabs.
        target: the file to write, see :class:`SlabWriter`; None to keep the result in memory.
        deviation_target: the file for the deviation, where the inferer gives one.
        settings: see there.

    Returns:
        The outputs, which appear together: files when all are complete.

    Raises:
        InputError: a source that cannot be read, a target that cannot be written, a network or settings that do not
            suit, or too little free space.
    """
    settings = UpscalingSettings() if settings is None else settings
    targets = [None if target is None else Path(target)]
    info = source if isinstance(source, VolumeInfo) else read_info(source)
    if getattr(taken_apart(inferer, network)[0], "deviation", False):
        targets.append(None if deviation_target is None else Path(deviation_target))
    for path in targets:
        if path is not None and not isinstance(info, Volume):
            refuse_overwriting(info.path, path)
    say_what_was_done(info)
    with evaluation_mode(network), torch.no_grad():
        return Upscaled(*_Upscaling(info, network, inferer, targets, settings).run())


class _Upscaling:
    """One source on its way: what is read, where the network's output waits, and what is written."""

    def __init__(
        self,
        info: VolumeInfo,
        network: nn.Module,
        inferer: Inferer,
        targets: Sequence[Path | None],
        settings: UpscalingSettings,
    ) -> None:
        self.info, self.network, self.targets, self.settings = info, network, targets, settings
        self.is_approximate = not is_exact(inferer)
        self.inferer, profile, self.regularisation = taken_apart(inferer, network)
        self.view = view_of(network, self.inferer)
        refuse_identity(self.view.scale, self.regularisation)
        self.is_on_disk = _waits_on_disk(info, network, self.inferer, self.view, len(targets), settings)
        self.orientation = self.view.orientation(info.grid, settings.axes)
        self.turned_back = inverse_orientation(self.orientation)
        lr_grid = info.grid.reoriented(self.orientation)
        self.lr_shape = lr_grid.shape
        self.shape = tuple(n * factor for n, factor in zip(self.lr_shape, self.view.scale, strict=True))
        self.grid = lr_grid.resized(self.shape).reoriented(self.turned_back)
        self.acquisition = None
        if self.regularisation is not None:
            profiles = [*profile, "box"] if self.view.is_2d and not isinstance(profile, str) else profile
            self.acquisition = SeparableAcquisition.from_profile(self.shape, self.lr_shape, profiles)
        folder = Path.cwd() if targets[0] is None else targets[0].parent
        self.scratch = folder if settings.scratch_dir is None else Path(settings.scratch_dir)

    def run(self) -> list[Path | Volume]:
        """Upscale every volume."""
        with ExitStack() as stack:
            volume = stack.enter_context(self._opened())
            self.axis, self.is_descending = volume.slow_axis, volume.is_descending
            scans = volume.scan(self.settings.intensity)
            ends = (min(scan.low for scan in scans), max(scan.high for scan in scans))
            # It ends after the writers, so that mean and deviation get their names together, when both are complete.
            together = stack.enter_context(OutputsTogether())
            self.writers = [self._writer(number, ends, together) for number in range(len(self.targets))]
            is_direct = self._streams_in_order(volume)
            self._check_room(is_direct)
            for writer in self.writers:
                stack.enter_context(writer)
            waiting = [] if is_direct else [self._waiting(stack) for _ in self.writers]
            is_quiet = not self.settings.progress or len(scans) == 1
            for time, scan in enumerate(tqdm(scans, desc="volumes", disable=is_quiet)):
                assert scan.window is not None
                self._upscale(LowResolutionImage(volume, time, scan.window), waiting)
        return [writer.path if isinstance(writer, SlabWriter) else writer.volume for writer in self.writers]

    def _opened(self) -> LazyVolume:
        if not self.is_on_disk:
            return open_volume(self.info, in_memory=True, orientation=self.orientation)
        check_free_space([(self.scratch, voxels_to_unpack(self.info), "unpacking the input")])
        prepare_folder(self.scratch)
        return open_volume(self.info, self.scratch, orientation=self.orientation)

    def _writer(self, number: int, ends: tuple[float, float], together: Together) -> SlabWriter | VolumeKeeper:
        """For the mean, and for the deviation, which has neither the source's display range nor its scale."""
        path = self.targets[number]
        if path is None:
            return VolumeKeeper(self.grid, self.info)
        dtype = "float32" if number else self.settings.dtype
        mark = (self.is_approximate, together, self.settings.algorithm)
        return SlabWriter(path, self.grid, self.info.n_times, self.info, dtype, ends, *mark)

    def _streams_in_order(self, volume: LazyVolume) -> bool:
        """Whether slabs come as the file has them and need no projection, so that they can be written at once."""
        if not (self.is_on_disk and isinstance(self.inferer, StreamingInferer)) or self.view.is_2d:
            return False
        self.inferer = self.inferer.along(self.axis)
        plan = self.inferer.plan(LowResolutionImage(volume, 0, (0.0, 1.0)), self.network)
        return self.acquisition is None and not self.is_descending and not plan.recomputed

    def _waiting(self, stack: ExitStack) -> SliceFile | SliceMemory:
        if not self.is_on_disk:
            return SliceMemory(self.shape, self.axis)
        return stack.enter_context(SliceFile(self.shape, self.axis, self.scratch))

    @property
    def _residual_on_disk(self) -> bool:
        return self.is_on_disk and self.acquisition is not None and math.prod(self.lr_shape) > _RESIDUAL_VOXELS

    def _check_room(self, is_direct: bool) -> None:
        """What will be written, and what waits on disk meanwhile, must fit."""
        files = [writer for writer in self.writers if isinstance(writer, SlabWriter)]
        waiting = 4 * math.prod(self.shape) * len(self.writers) if self.is_on_disk and not is_direct else 0
        residual = 4 * math.prod(self.lr_shape) if self._residual_on_disk else 0
        needed = [
            (file.path.parent, int(file.n_bytes * (_COMPRESSED_SHARE if file.is_compressed else 1)), "the output")
            for file in files
        ]
        check_free_space([*needed, (self.scratch, waiting + residual, "the pass between")])

    def _upscale(self, lazy: LowResolutionImage, waiting: Sequence[SliceFile | SliceMemory]) -> None:
        """Upscale, project and write one volume."""
        image: Image = lazy
        if not self.is_on_disk:
            image = slab_of(lazy, self.axis, 0, self.lr_shape[self.axis]).to(device_of(self.network))
        if not waiting:
            for _, part in self._parts(image):
                self._write(part.split(1, dim=1), lazy.window)
            return
        with ExitStack() as stack:
            projection = self._projection(stack)
            self._make(image, waiting, projection)
            ranges = cut(self.shape, self.axis, _SLAB_VOXELS)
            if self.is_descending:
                ranges.reverse()
            is_quiet = not self.settings.progress
            for start, stop in tqdm(ranges, unit="slab", desc="writing", leave=False, disable=is_quiet):
                slabs = [file.read(start, stop) for file in waiting]
                if projection is not None:
                    slabs[0] = slabs[0] + projection.correction(start, stop)
                self._write(slabs, lazy.window)

    def _parts(self, image: Image) -> Iterator[tuple[Place, Tensor]]:
        """What the network makes, checked to be all."""
        voxels, channels = 0, len(self.writers)
        for place, part in upscaled_parts(image, self.network, self.inferer, self.view, self.settings.progress):
            refuse_channels(self.network, part.shape[1], channels)
            expected = (1, channels, *(p.stop - p.start for p in place))
            if tuple(part.shape) != expected or any(p.stop > n for p, n in zip(place, self.shape, strict=True)):
                raise ValueError(f"network: a part {tuple(part.shape)} at {place} of {self.shape}, {channels} channels")
            yield place, part.detach().float()
            voxels += math.prod(part.shape[2:])
        if voxels != math.prod(self.shape):
            raise ValueError(f"network: made {voxels} voxels of {self.shape}")

    def _make(
        self, image: Image, waiting: Sequence[SliceFile | SliceMemory], projection: SlabProjection | None
    ) -> None:
        """First pass: what the network makes, and what the measurement says of it."""
        are_slabs, done = projection is not None, 0
        for place, part in self._parts(image):
            for channel, file in zip(part.split(1, dim=1), waiting, strict=True):
                file.write_part(place, channel)
            are_slabs = are_slabs and place[self.axis].start == done
            others = [(p, n) for axis, (p, n) in enumerate(zip(place, self.shape, strict=True)) if axis != self.axis]
            are_slabs = are_slabs and all(p == slice(0, n) for p, n in others)
            if projection is not None and are_slabs:
                projection.subtract(place[self.axis].start, part[:, :1])
                done = place[self.axis].stop
        if projection is None:
            return
        for start, stop in cut(self.shape, self.axis, _SLAB_VOXELS):
            if stop > done:  # it came otherwise than in slabs
                first = max(start, done)
                projection.subtract(first, waiting[0].read(first, stop))
        for start, stop in cut(self.lr_shape, self.axis, _SLAB_VOXELS):
            projection.add(start, slab_of(image, self.axis, start, stop))
        projection.solve()

    def _projection(self, stack: ExitStack) -> SlabProjection | None:
        if self.acquisition is None or self.regularisation is None:
            return None
        on_disk = self._residual_on_disk
        residual = stack.enter_context(SliceFile(self.lr_shape, self.axis, self.scratch)) if on_disk else None
        return SlabProjection(self.acquisition, self.axis, self.regularisation, residual)

    def _write(self, slabs: Sequence[Tensor], window: tuple[float, float]) -> None:
        """Write the mean, and the deviation, which only the gain of the intensities changes."""
        low, high = torch.tensor(window)
        for slab, writer, offset in zip(slabs, self.writers, (low, 0.0), strict=False):
            image = (slab.cpu() * (high - low) + offset)[0, 0].numpy()
            writer.write(reorient(image, self.turned_back))


def _waits_on_disk(
    info: VolumeInfo,
    network: nn.Module,
    inferer: Inferer,
    view: NetworkView,
    n_images: int,
    settings: UpscalingSettings,
) -> bool:
    """Where the output waits; that it is on disk, or ought to be, a line in the log says."""
    if settings.stream == "never":
        return False
    refusal = _why_not_streamed(network, inferer)
    if settings.stream == "always":
        if refusal is not None:
            raise InputError(f"stream 'always': the network cannot be streamed: {refusal}; stream 'never'")
        return True
    output = 4 * n_images * math.prod(info.grid.shape) * math.prod(view.scale)
    free = min(free_bytes(device) for device in {torch.device("cpu"), device_of(network)})
    if output <= _SHARE_OF_FREE * free:
        return False
    size = f"{output / 1e9:.3g} GB of {free / 1e9:.3g} GB of free memory"
    if refusal is not None:
        log.warning("%s: not streamed but held in memory, where the output takes %s: %s", info.path, size, refusal)
        return False
    log.warning("%s: streaming from file to file, as the output takes %s", info.path, size)
    return True


def _why_not_streamed(network: nn.Module, inferer: Inferer) -> str | None:
    """The layer that cannot be streamed, or the inferer that does not."""
    if isinstance(inferer, StreamingInferer):
        return inferer.refusal(network)
    return (
        StreamingInferer().refusal(network) or f"{type(inferer).__name__} needs the whole image; use StreamingInferer"
    )


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
