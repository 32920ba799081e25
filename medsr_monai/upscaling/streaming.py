"""Any volume through a convolutional network in bounded memory, with the result of the whole volume."""

from __future__ import annotations

import contextlib
import copy
import itertools
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, cast

import torch
from monai.inferers import Inferer
from torch import Tensor, nn
from tqdm import tqdm

from medsr_monai.system.allocation import keeping_freed_memory
from medsr_monai.system.device import free_bytes
from medsr_monai.system.errors import InputError, check_whole
from medsr_monai.upscaling.convolution import StreamedEnsemble, StreamedNetwork, symmetries, trace_generator
from medsr_monai.upscaling.convolution.schedule import Graph
from medsr_monai.upscaling.transfers import read_ahead, write_behind

log = logging.getLogger(__name__)

PRECISIONS = {None: None, "bfloat16": torch.bfloat16, "float16": torch.float16}
SLABS = (16, 12, 8, 6, 4, 3, 2, 1)
STRIPS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
GIGA = 1e9
# Memory that is kept is cut up in time: 2.5 to 2.8 times as much was measured.
KEPT_OVER_NEEDED = 3
SHARE_OF_FREE = 0.8  # the rest is for what the estimate does not see: the libraries' own scratch memory
Place = tuple[slice, ...]
Streamed = StreamedNetwork | StreamedEnsemble


class Image(Protocol):
    """What can be streamed: a tensor (B, C, *spatial), or anything of that shape that is read when it is indexed."""

    @property
    def shape(self) -> Sequence[int]: ...

    @property
    def dtype(self) -> torch.dtype: ...

    def __getitem__(self, index: tuple[Any, ...], /) -> Tensor: ...


@dataclass(frozen=True)
class StreamPlan:
    """How an image is streamed.

    Attributes:
        axis: along which.
        slab: input slices per step.
        strips: per axis, what each strip sees and what of that is its own; one strip is the whole axis.
    """

    axis: int
    slab: int
    strips: tuple[tuple[tuple[slice, slice], ...], ...]

    @property
    def widest(self) -> tuple[int, ...]:
        """Voxels of the largest strip along each axis."""
        return tuple(max(view.stop - view.start for view, _ in cuts) for cuts in self.strips)

    @property
    def recomputed(self) -> float:
        """Voxels computed in more than one strip, over those of the image."""
        seen, own = 1, 1
        for cuts in self.strips:
            seen *= sum(view.stop - view.start for view, _ in cuts)
            own *= sum(part.stop - part.start for _, part in cuts)
        return seen / own - 1


def cut_axis(size: int, tiles: int, halo: int) -> list[tuple[slice, slice]]:
    """Cut an axis into equal tiles that see a halo of voxels beyond their own on either side, as far as there are any.

    Returns:
        For every tile what it sees and what of that is its own.
    """
    edges = [round(size * i / tiles) for i in range(tiles + 1)]
    cuts = []
    for start, stop in itertools.pairwise(edges):
        first, last = max(0, start - halo), min(size, stop + halo)
        cuts.append((slice(first, last), slice(start - first, stop - first)))
    return cuts


def plan_stream(
    networks: Callable[[int, int], Streamed],
    shape: Sequence[int],
    dtype: torch.dtype,
    budget: float,
    axis: int | None = None,
    slab: int | None = None,
) -> StreamPlan:
    """Choose the axis and the thickest slab that fit into a memory budget, and strips only if no slab does.

    Args:
        networks: the network streamed along an axis in slabs.
        shape: (B, C, *spatial) of the input.
        dtype: of the input.
        budget: bytes.
        axis: None to choose.
        slab: None to choose.

    Raises:
        InputError: the narrowest strip takes more memory.
    """
    spatial = tuple(shape[2:])
    axes = range(len(spatial)) if axis is None else [axis]
    found = []
    for along in axes:
        for thickness in [slab] if slab else [s for s in SLABS if s <= spatial[along]] or [1]:
            needed = networks(along, thickness).window_bytes(shape, dtype)
            if needed <= budget:
                found.append((-thickness, needed, along))
                break
    if found:
        thickness, _, along = min(found)
        return StreamPlan(along, -thickness, tuple(tuple(cut_axis(size, 1, 0)) for size in spatial))
    plans = []
    for along in axes:
        radius = [max(pair) for pair in networks(along, slab or 1).receptive_radius]
        counts = [(1,) if other == along else STRIPS for other in range(len(spatial))]
        for chosen in itertools.product(*counts):
            if all(count <= size for count, size in zip(chosen, spatial, strict=True)):
                strips = tuple(tuple(cut_axis(*arguments)) for arguments in zip(spatial, chosen, radius, strict=True))
                plans.append(StreamPlan(along, slab or 1, strips))
    smallest = math.inf
    # The strips that compute the fewest voxels twice come first.
    for plan in sorted(plans, key=lambda plan: plan.recomputed):
        needed = networks(plan.axis, plan.slab).window_bytes((*shape[:2], *plan.widest), dtype)
        if needed <= budget:
            return plan
        smallest = min(smallest, needed)
    raise InputError(
        f"memory_gb {budget / GIGA:.3g}: too little to stream this image, need {smallest / GIGA:.3g} for the "
        "narrowest strips; allow more or use a smaller network"
    )


class StreamingInferer(Inferer):
    """Run a convolutional network slab by slab: the whole image's result in bounded memory, nothing computed twice.

    Takes the place of MONAI's ``SlidingWindowInferer``, which is approximate, wherever the network is local. The
    network runs in evaluation mode.

    Args:
        axis: spatial axis to stream along; None to choose.
        slab: input slices per step; None for as many as fit, at most 16: more were no faster.
        memory_gb: GB (1e9 bytes) that the stream may use on the network's device, besides an output in the same memory;
            None for most of what is free there.
        autocast: precision of the convolutions: None for that of their weights, ``bfloat16`` or ``float16``.
        compile: compile the steps of constant shape with ``torch.compile``.
        progress: show a progress bar of output voxels per second.
        ensemble: over how many symmetries of the network to average, 1 (none) to 48 in 3D, 8 in 2D; fewer where the
            scales of the axes differ. The first 8 (4) are the mirrorings. The time grows in proportion.
        deviation: give the standard deviation over the ensemble too, in further channels behind those of the mean.
        output: a tensor to write to, (B, C', *(scale * spatial)); or a function that is called with the place, one
            slice per spatial axis, and the voxels (B, C', *there) of every part, in which case nothing is returned.

    Raises:
        InputError: an argument out of range.
    """

    def __init__(
        self,
        axis: int | None = None,
        slab: int | None = None,
        memory_gb: float | None = None,
        autocast: str | None = None,
        compile: bool = False,
        progress: bool = False,
        ensemble: int = 1,
        deviation: bool = False,
        output: Tensor | Callable[[Place, Tensor], Any] | None = None,
    ) -> None:
        super().__init__()
        if autocast not in PRECISIONS:
            raise InputError(f"autocast '{autocast}': must be bfloat16, float16 or None")
        if memory_gb is not None and not 0 < memory_gb < math.inf:
            raise InputError(f"memory_gb {memory_gb}: must be more than 0")
        if slab is not None:
            check_whole("slab", slab)
        check_whole("ensemble", ensemble)
        if deviation and ensemble == 1:
            raise InputError("uncertainty: needs an ensemble of 2 or more, e.g. ensemble 8")
        self.axis, self.slab, self.memory_gb, self.autocast = axis, slab, memory_gb, autocast
        self.compile, self.progress, self.output = compile, progress, output
        self.ensemble, self.deviation = ensemble, deviation
        self._traced: tuple[nn.Module, Graph] | None = None
        self._streams: dict[tuple[int, int], Streamed] = {}
        self._told: list[StreamPlan] = []

    def __call__(self, inputs: Tensor, network: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Any:
        """Upscale (B, C, *spatial) to (B, C', *(scale * spatial)).

        Raises:
            InputError: the network cannot be streamed, the line names its layer; or the memory does not suffice.
        """
        if args or kwargs:
            raise InputError("StreamingInferer: the network may take the image only, no further arguments")
        inputs = inputs.as_tensor() if hasattr(inputs, "as_tensor") else inputs
        output = self.output if isinstance(self.output, Tensor) else None
        for place, voxels in self.stream(inputs, cast(nn.Module, network)):
            if callable(self.output):
                self.output(place, voxels)
                continue
            if output is None:
                scale = self.scale(cast(nn.Module, network))
                size = [n * factor for n, factor in zip(inputs.shape[2:], scale, strict=True)]
                output = voxels.new_empty((*voxels.shape[:2], *size))
            output[cast(Any, (slice(None), slice(None), *place))] = voxels
        return output

    def stream(self, image: Image, network: nn.Module) -> Iterator[tuple[Place, Tensor]]:
        """The parts of the result as they are ready.

        Yields:
            The place, one slice per spatial axis of the output, and its voxels (B, C', *there) on the image's device.
        """
        axes = self._graph(network).spatial_dims
        if len(image.shape) != 2 + axes or min(image.shape) < 1:
            raise InputError(f"image of shape {tuple(image.shape)}: need (B, C) and {axes} spatial axes, none empty")
        plan = self.plan(image, network)
        streamed = self._stream(network, plan.axis, plan.slab)
        voxels = image.shape[0] * math.prod(n * f for n, f in zip(image.shape[2:], streamed.scale, strict=True))
        is_quiet = not self.progress
        bar = tqdm(total=voxels, unit="voxel", unit_scale=True, desc="upscaling", disable=is_quiet, leave=False)
        needed = streamed.window_bytes((*image.shape[:2], *plan.widest), image.dtype)
        is_roomy = needed * KEPT_OVER_NEEDED <= self._budget(image, network)
        with bar, keeping_freed_memory() if is_roomy else contextlib.nullcontext():
            for strip in itertools.product(*plan.strips):
                for place, part in self._run_strip(image, streamed, plan.axis, strip):
                    yield place, part
                    bar.update(part.shape[0] * math.prod(part.shape[2:]))

    def along(self, axis: int) -> StreamingInferer:
        """The same inferer along a given axis, for an output that is not held in memory."""
        other = copy.copy(self)
        other.axis = axis
        other.output = lambda place, voxels: None  # so that it reserves no memory for one
        return other

    def plan(self, image: Image, network: nn.Module) -> StreamPlan:
        """How an image will be streamed, logged if strips are needed."""
        axes = self._graph(network).spatial_dims
        if self.axis is not None and self.axis not in range(axes):
            raise InputError(f"axis {self.axis}: the network has axes 0 to {axes - 1}")

        budget = self._budget(image, network)
        plan = plan_stream(partial(self._stream, network), image.shape, image.dtype, budget, self.axis, self.slab)
        if plan.recomputed and plan not in self._told:
            self._told.append(plan)
            strips = " x ".join(str(len(cuts)) for cuts in plan.strips)
            message = "one slice takes over %.3g GB: %s strips, %.0f %% more voxels to compute; memory_gb is the limit"
            log.warning(message, budget / GIGA, strips, 100 * plan.recomputed)
        return plan

    def _budget(self, image: Image, network: nn.Module) -> float:
        """Bytes that the stream may use."""
        if self.memory_gb is not None:
            return self.memory_gb * GIGA
        device = device_of(network)
        free = free_bytes(device) * SHARE_OF_FREE
        if self.output is None and device.type == getattr(image, "device", torch.device("cpu")).type:
            scale = self.scale(network)
            free -= math.prod(image.shape) * math.prod(scale) * image.dtype.itemsize * (1 + self.deviation)
        return free

    def _graph(self, network: nn.Module) -> Graph:
        if self._traced is None or self._traced[0] is not network:
            self._traced, self._streams = (network, trace_generator(network)), {}
        return self._traced[1]

    def refusal(self, network: nn.Module) -> str | None:
        """Why a network cannot be streamed, naming its layer; None if it can."""
        try:
            self.scale(network)
        except InputError as error:
            return str(error)
        return None

    def scale(self, network: nn.Module) -> tuple[int, ...]:
        """Output voxels per input voxel, per axis; InputError if the network cannot be streamed."""
        return self._stream(network, 0, 1).scale

    def _stream(self, network: nn.Module, axis: int, slab: int) -> Streamed:
        """The network, or its ensemble, streamed along an axis in slabs; traced, and compiled, once."""
        graph = self._graph(network)
        if (axis, slab) not in self._streams:
            backend = "inductor" if self.compile else None
            autocast = PRECISIONS[self.autocast]
            make = partial(StreamedNetwork, network, axis, slab, autocast, compile_backend=backend, graph=graph)
            streamed: Streamed = make()
            if self.ensemble > 1:
                possible = symmetries(streamed.scale)
                if self.ensemble > len(possible):
                    found = f"a network of scale {streamed.scale} has {len(possible)} symmetries"
                    raise InputError(f"ensemble {self.ensemble}: {found}")
                members = [make(symmetry=symmetry) for symmetry in possible[: self.ensemble]]
                streamed = StreamedEnsemble(members, self.deviation)
            self._streams[axis, slab] = streamed
        return self._streams[axis, slab]

    def _run_strip(
        self, image: Image, streamed: Streamed, axis: int, strip: Sequence[tuple[slice, slice]]
    ) -> Iterator[tuple[Place, Tensor]]:
        """Stream what a strip sees, and give what is its own."""
        views, owns = [view for view, _ in strip], [own for _, own in strip]
        extent = image.shape[2 + axis]

        def read(start: int, stop: int) -> Tensor:
            where = [slice(start, stop) if i == axis else view for i, view in enumerate(views)]
            return image[(slice(None), slice(None), *where)]

        device, source = device_of(streamed.network), getattr(image, "device", torch.device("cpu"))
        across = device.type == "cuda" and source.type == "cpu"
        results = streamed.stream(read_ahead(read, extent, device) if across else read, extent)
        for along, part in write_behind(results, device) if across else results:
            scaled = list(zip(views, owns, streamed.scale, strict=True))
            own = [slice(o.start * s, o.stop * s) for _, o, s in scaled]
            place = [slice((v.start + o.start) * s, (v.start + o.stop) * s) for v, o, s in scaled]
            own[axis], place[axis] = slice(None), along
            yield tuple(place), part[cast(Any, (slice(None), slice(None), *own))].to(source)


def device_of(network: nn.Module) -> torch.device:
    """Where a network's weights are."""
    parameter = next(network.parameters(), None)
    return torch.device("cpu") if parameter is None else parameter.device
