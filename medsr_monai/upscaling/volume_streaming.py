"""Which volumes are upscaled from file to file, and how the network streams through them."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from medsr_monai.system.device import free_bytes
from medsr_monai.system.errors import InputError
from medsr_monai.upscaling import StreamingInferer
from medsr_monai.upscaling.file_to_file import Place, Read, upscale_in_slabs
from medsr_monai.volumes import SaveVolumed, VolumeInfo, VolumePath, read_info

log = logging.getLogger(__name__)

MODES = ("auto", "always", "never")
SHARE_OF_FREE = 0.25  # of the free memory, what an output may take that is held in it


class _ImageOnDisk:
    """What a :class:`StreamingInferer` indexes: it reads the slices along one axis that are asked for."""

    dtype = torch.float32

    def __init__(self, read: Read | None, shape: tuple[int, ...], axis: int) -> None:
        self._read = read
        self._dim = 2 + axis
        self.shape = (1, 1, *shape)

    def __getitem__(self, index: tuple[Any, ...], /) -> Tensor:
        assert self._read is not None
        along = index[self._dim]
        return self._read(along.start, along.stop)[
            tuple(slice(None) if dim == self._dim else part for dim, part in enumerate(index))
        ]


class VolumeStreamer:
    """Upscale volumes slab by slab from file to file, with the result of the whole volume in memory.

    Args:
        save: says where the output of a source goes, and in which type.
        mode: ``always``; ``never``; or ``auto``, where the output would take more than a quarter of the free memory.
        profile: as of ``ConsistentInferer``.
        regularisation: as of ``ConsistentInferer``.
        memory_gb: see :class:`StreamingInferer`, as the three that follow.
        slab: input slices per step.
        autocast: precision of the convolutions.
        ensemble: symmetries to average over.
        save_deviation: says where the deviation over the ensemble goes; None for no deviation.
        scratch_dir: see :func:`upscale_in_slabs`.
        progress: show progress bars.

    Raises:
        InputError: an argument out of range.
    """

    def __init__(
        self,
        save: SaveVolumed,
        mode: str = "auto",
        profile: str = "box",
        regularisation: float | None = 0.0,
        memory_gb: float | None = None,
        slab: int | None = None,
        autocast: str | None = None,
        ensemble: int = 1,
        save_deviation: SaveVolumed | None = None,
        scratch_dir: str | Path | None = None,
        progress: bool = False,
    ) -> None:
        if mode not in MODES:
            raise InputError(f"stream '{mode}': choose one of {', '.join(MODES)}")
        self.save, self.save_deviation = save, save_deviation
        self.mode = mode
        self.profile, self.regularisation = profile, regularisation
        self.settings: dict[str, Any] = {"memory_gb": memory_gb, "slab": slab, "autocast": autocast}
        self.settings |= {"ensemble": ensemble, "deviation": save_deviation is not None}
        self.scratch_dir = scratch_dir
        self.progress = progress
        self._inferer(0)

    def _inferer(self, axis: int) -> StreamingInferer:
        # With an output of its own, the inferer does not reserve memory for one.
        return StreamingInferer(axis, progress=self.progress, output=lambda place, part: None, **self.settings)

    def wants(self, source: VolumePath, network: nn.Module) -> bool:
        """Whether a volume shall be streamed.

        Where ``auto`` decides that it is, a line in the log says so; and where it ought to be but the network has a
        layer that cannot be streamed, a line that names the layer.
        """
        if self.mode != "auto":
            return self.mode == "always"
        try:
            info = read_info(source)
        except InputError:
            return False  # the other route says why it cannot be read, as for every other volume
        refusal = None
        try:
            voxels: float = math.prod(info.shape) * math.prod(self._inferer(0).scale(network))
        except InputError as error:
            refusal, voxels = error, output_voxels(network, info)
        output = 4 * voxels * (2 if self.settings["deviation"] else 1)
        parameter = next(network.parameters(), None)
        devices = {torch.device("cpu"), torch.device("cpu") if parameter is None else parameter.device}
        free = min(free_bytes(device) for device in devices)
        if output <= SHARE_OF_FREE * free:
            return False
        size = f"{output / 1e9:.3g} GB of {free / 1e9:.3g} GB of free memory"
        if refusal is not None:
            log.warning("%s: not streamed but held in memory, where the output takes %s: %s", source, size, refusal)
            return False
        log.warning("%s: streaming from file to file, as the output takes %s", source, size)
        return True

    def upscale(self, source: VolumePath, network: nn.Module) -> Path:
        """Upscale a file.

        Raises:
            InputError: see :func:`upscale_in_slabs` and :class:`StreamingInferer`.
        """
        try:
            scale = self._inferer(0).scale(network)
        except InputError as error:
            raise InputError(
                f"stream '{self.mode}': the network cannot be streamed: {error}; stream 'never'"
            ) from error
        inferers: dict[int, StreamingInferer] = {}

        def inferer(axis: int) -> StreamingInferer:
            return inferers.setdefault(axis, self._inferer(axis))

        def stream(read: Read, shape: tuple[int, ...], axis: int) -> Iterator[tuple[Place, Tensor]]:
            return inferer(axis).stream(_ImageOnDisk(read, shape, axis), network)

        def in_strips(shape: tuple[int, ...], axis: int) -> bool:
            return inferer(axis).plan(_ImageOnDisk(None, shape, axis), network).recomputed > 0

        save, deviation = self.save, self.save_deviation
        return upscale_in_slabs(
            source,
            stream,
            save.output_path(save.keys[0], str(source)),
            scale,
            self.profile,
            self.regularisation,
            save.dtype,
            self.scratch_dir,
            self.progress,
            None if deviation is None else deviation.output_path(deviation.keys[0], str(source)),
            in_strips,
            save.algorithm,
        )


def output_voxels(network: nn.Module, info: VolumeInfo) -> float:
    """How many voxels any network makes of a volume, or of all those of a series; nothing is computed.

    Infinite where a layer cannot tell what it would make: better one word too many than out of memory without one.
    """
    tensors = dict([*network.named_parameters(), *network.named_buffers()])
    weights = {name: torch.empty_like(tensor, device="meta") for name, tensor in tensors.items()}
    image = torch.empty((1, 1, *info.grid.shape), device="meta")
    try:
        with torch.no_grad():
            return functional_call(network, weights, (image,)).numel() * (info.n_times or 1)
    except Exception:  # a network of somebody else's raises what it likes
        return math.inf
