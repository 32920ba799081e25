"""Run a network slab by slab, with the result of the whole image."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from medsr_monai.system.errors import InputError, check_whole
from medsr_monai.upscaling.convolution.execution import Advance, Execution, Held
from medsr_monai.upscaling.convolution.memory import held_bytes, peak_bytes
from medsr_monai.upscaling.convolution.schedule import Graph, Schedule, Step
from medsr_monai.upscaling.convolution.symmetries import Symmetry
from medsr_monai.upscaling.convolution.tracing import trace_generator

Read = Callable[[int, int], Tensor]


class StreamedNetwork:
    """Run a convolutional network along one axis in a bounded window: the result is exact, no slice is computed twice.

    The network runs in evaluation mode, with the weights that it has when a stream starts.

    Args:
        network: may contain convolutions with stride 1, functions of voxels, sums, concatenations, pixel shuffles and
            interpolations.
        axis: spatial axis along which the image is streamed.
        slab: input slices per step, 1 or more.
        autocast: precision of the convolutions; None for that of their weights.
        channels_last: memory format of the slabs; None for channels last where it is known to be faster: on a CPU, in
            low precision, and if the weights have this format.
        compile_backend: a backend of ``torch.compile``, e.g. "inductor", that compiles the steps of constant shape (all
            but those at the ends); None to compile nothing.
        graph: an earlier result of :func:`trace_generator` for this network; None to trace it now.
        symmetry: applied to the image before the network, and undone in the result.

    Attributes:
        scale: output voxels per input voxel, per axis.
        receptive_radius: per axis, how many input voxels before and after its own an output voxel depends on.

    Raises:
        InputError: a layer cannot be streamed, or an argument is out of range.
    """

    def __init__(
        self,
        network: nn.Module,
        axis: int = 0,
        slab: int = 16,
        autocast: torch.dtype | None = None,
        channels_last: bool | None = None,
        compile_backend: str | None = None,
        graph: Graph | None = None,
        symmetry: Symmetry | None = None,
    ) -> None:
        self.graph = trace_generator(network) if graph is None else graph
        self.network = network
        if axis not in range(self.graph.spatial_dims):
            raise InputError(f"axis {axis}: the network has axes 0 to {self.graph.spatial_dims - 1}")
        check_whole("slab", slab)
        self.axis, self.slab, self.autocast = axis, slab, autocast
        self.channels_last, self.compile_backend = channels_last, compile_backend
        self._bound: tuple[Any, Execution] | None = None
        axes = own = tuple(range(self.graph.spatial_dims))
        if symmetry is not None:
            self.graph = self.graph.mirrored(symmetry.mirrored)
            own = symmetry.permutation  # the network's axis for each of the image
        self._image_order = (axis, *(other for other in axes if other != axis))
        self.order = tuple(own[other] for other in self._image_order)
        self.scale = tuple(self.graph.factors(own[axis])[-1] for axis in axes)
        self.receptive_radius = tuple(self.graph.receptive_radius(own[axis]) for axis in axes)

    def schedule(self, extent: int) -> Schedule:
        """Plan the steps that stream ``extent`` slices."""
        if extent < 1:
            raise InputError(f"axis {self.axis}: {extent} slices, but need at least 1")
        return Schedule(self.graph, self.order[0], extent, self.slab)

    def stream(self, read: Read, extent: int) -> Iterator[tuple[slice, Tensor]]:
        """Run the network on an image that is read slab by slab.

        Args:
            read: returns the input slices [start, stop) as (B, C, *spatial); it is called in order, once per slice.
            extent: number of slices of the whole input.

        Yields:
            The range of the output slices of each step, in order and without gaps, and their voxels
            (B, C', *(scale * spatial)).
        """
        schedule = self.schedule(extent)
        execution: Execution | None = None
        held: Held = [None] * len(self.graph.layers)
        start = done = 0
        previous: Step | None = None
        for step in schedule.steps():
            slab = None
            if step[0].fresh:
                slab = self._read(read, start, start + step[0].fresh)
                start += step[0].fresh
            if execution is None:
                assert slab is not None
                execution = self._bind(slab)
            if slab is not None:
                slab = slab.movedim(2 + self.axis, 2).contiguous(memory_format=execution.memory_format)
            advance: Advance = partial(execution.advance, step)
            if self.compile_backend and step == previous:
                advance = execution.compiled(step, self.compile_backend)
            with torch.inference_mode(), torch.autocast(execution.device.type, enabled=False):
                result, held = advance(held, slab)
            previous = step
            if result is not None:
                where = slice(done, done + result.shape[2])
                done = where.stop
                yield where, result.movedim(2, 2 + self.axis)

    def _read(self, read: Read, start: int, stop: int) -> Tensor:
        """Read slices of the input and move them to the network's device."""
        slab = read(start, stop)
        if slab.ndim != 2 + self.graph.spatial_dims or slab.shape[2 + self.axis] != stop - start:
            raise InputError(
                f"slab of shape {tuple(slab.shape)}, but need (B, C), {self.graph.spatial_dims} spatial axes and "
                f"{stop - start} slices along axis {self.axis}"
            )
        parameter = next(self.network.parameters(), None)
        return slab if parameter is None else slab.to(parameter.device, non_blocking=True)

    def _bind(self, slab: Tensor) -> Execution:
        low = self.autocast
        if low is None and torch.is_autocast_enabled(slab.device.type):
            low = torch.get_autocast_dtype(slab.device.type)
        last = self.channels_last
        if last is None:
            last = slab.device.type == "cpu" or low is not None or has_channels_last(self.network)
        # A compiled step is valid for slabs of one shape and unchanged weights.
        weights = tuple((p.data_ptr(), 0 if p.is_inference() else p._version) for p in self.network.parameters())
        signature = (tuple(slab.shape), slab.dtype, slab.device, low, last, weights)
        if self._bound is not None and self._bound[0] == signature:
            return self._bound[1]
        execution = Execution(self.graph, self.order, slab.movedim(2 + self.axis, 2), low, last)
        execution.bind()
        self._bound = (signature, execution) if self.compile_backend else None
        return execution

    def window_bytes(self, shape: Sequence[int], dtype: torch.dtype = torch.float32) -> int:
        """Estimate an upper bound of a stream's memory in bytes, including the slab read and the slab returned.

        Args:
            shape: (B, C, *spatial) of the whole input.
            dtype: of the input.
        """
        return peak_bytes(self._measured(shape, dtype), self.schedule(shape[2 + self.axis]))

    def held_bytes(self, shape: Sequence[int], dtype: torch.dtype = torch.float32) -> int:
        """The part of :meth:`window_bytes` that is held between the steps; same arguments."""
        return held_bytes(self._measured(shape, dtype), self.schedule(shape[2 + self.axis]))

    def _measured(self, shape: Sequence[int], dtype: torch.dtype) -> Execution:
        across = [shape[2 + axis] for axis in self._image_order[1:]]
        sample = torch.empty((*shape[:2], 1, *across), dtype=dtype, device="meta")
        return Execution(self.graph, self.order, sample, self.autocast)


def has_channels_last(network: nn.Module) -> bool:
    """Whether the weights of a network have the channels-last memory format."""
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    return any(
        weight.is_contiguous(memory_format=formats[weight.ndim]) and not weight.is_contiguous()
        for weight in network.parameters()
        if weight.ndim in formats
    )
