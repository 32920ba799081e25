"""The schedule of a stream: which slices each layer computes in which step. It uses integers only, no tensors.

Every layer has ``factor`` slices per slice of the input. Each layer has a reach, which follows from the layers after
it: the number of slices that it must be ahead, so that the result is complete up to slice 0. After step k, a layer has
the slices up to ::

    ready(k) = clamp(factor * (slab * (k + 1) - R) + reach, 0, its size)       R: the reach of the input

So each step reads one slab of input and computes at most ``factor * slab`` slices of every layer, also at the ends of
the image. Nothing is computed twice. A layer keeps the slices that the next slice of any of its readers needs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from medsr_monai.upscaling.convolution.operations import Interval, Margin, Operation


@dataclass(frozen=True)
class Layer:
    """An operation and its position in the graph.

    Attributes:
        name: qualified name in the network.
        operation: None for the input.
        sources: numbers of the layers it reads.
    """

    name: str
    operation: Operation | None
    sources: tuple[int, ...]


@dataclass(frozen=True)
class Graph:
    """Layers in the order of computation: the input first, the result last."""

    layers: tuple[Layer, ...]
    spatial_dims: int

    def mirrored(self, axes: Sequence[int]) -> Graph:
        """The graph that equals this one with mirroring of the image before and mirroring of the result after it."""
        layers = (
            layer if layer.operation is None else replace(layer, operation=layer.operation.mirrored(axes))
            for layer in self.layers
        )
        return Graph(tuple(layers), self.spatial_dims)

    def readers(self) -> list[list[int]]:
        """Numbers of the layers that read each layer."""
        readers: list[list[int]] = [[] for _ in self.layers]
        for number, layer in enumerate(self.layers):
            for source in dict.fromkeys(layer.sources):
                readers[source].append(number)
        return readers

    def factors(self, axis: int) -> list[int]:
        """The number of slices per slice of the input, for each layer."""
        factors = [1]
        for layer in self.layers[1:]:
            assert layer.operation is not None
            factors.append(factors[layer.sources[0]] * layer.operation.factor(axis))
        return factors

    def reach(self, axis: int) -> list[Interval]:
        """The interval of slices that each layer must have for an empty result [0, 0), without clamping."""
        reach: dict[int, Interval] = {len(self.layers) - 1: (0, 0)}
        for number in range(len(self.layers) - 1, 0, -1):
            layer, own = self.layers[number], reach[number]
            assert layer.operation is not None
            # An empty interval is between two voxels, so take the needs of the voxel before and the voxel after it.
            low, high = layer.operation.need(axis, own[0], own[0] + 1)[0], layer.operation.need(axis, 0, own[1])[1]
            for source in layer.sources:
                known = reach.get(source, (low, high))
                reach[source] = min(low, known[0]), max(high, known[1])
        return [reach[number] for number in range(len(self.layers))]

    def receptive_radius(self, axis: int) -> Interval:
        """How many input voxels before and after its own a voxel of the result can depend on."""
        low, high = self.reach(axis)[0]
        return -low, high


@dataclass(frozen=True)
class Task:
    """The work of one layer in one step.

    Attributes:
        held: number of slices from earlier steps.
        fresh: number of slices to compute.
        kept: number of last slices to hold for the next step.
        reads: slices [start, stop) of each source, counted from the first that it holds; empty if there is nothing to
            compute.
        margin: relation of the read slices to the fresh ones.
    """

    held: int
    fresh: int
    kept: int
    reads: tuple[Interval, ...]
    margin: Margin


Step = tuple[Task, ...]


class Schedule:
    """The steps that stream an image through a graph.

    Args:
        graph: the graph to compute.
        axis: the streamed spatial axis.
        extent: number of slices of the input.
        slab: input slices per step.

    Attributes:
        factors: slices per input slice, for each layer.
        count: number of steps.
    """

    def __init__(self, graph: Graph, axis: int, extent: int, slab: int) -> None:
        self.graph, self.axis, self.extent, self.slab = graph, axis, extent, slab
        self.factors = graph.factors(axis)
        self._readers = graph.readers()
        ahead = [high for _, high in graph.reach(axis)]
        self._lag = [high - factor * ahead[0] for high, factor in zip(ahead, self.factors, strict=True)]
        factor = self.factors[-1]
        self.count = -(-(factor * extent - self._lag[-1]) // (factor * slab))

    def ready(self, step: int) -> list[int]:
        """The number of slices of each layer that are computed after a step; step -1 is before the first."""
        if step < 0:
            return [0] * len(self.factors)
        return [
            min(max(factor * self.slab * (step + 1) + lag, 0), factor * self.extent)
            for factor, lag in zip(self.factors, self._lag, strict=True)
        ]

    def _first_kept(self, ready: Sequence[int]) -> list[int]:
        """The first slice that each layer must keep for the slices that its readers have not computed yet."""
        first = []
        for number, readers in enumerate(self._readers):
            wanted = ready[number]
            for reader in readers:
                operation = self.graph.layers[reader].operation
                if operation is not None and ready[reader] < self.factors[reader] * self.extent:
                    wanted = min(wanted, operation.need(self.axis, ready[reader], ready[reader] + 1)[0])
            first.append(max(0, wanted))
        return first

    def step(self, number: int) -> Step:
        """The tasks of a step in relative numbers, so that equal steps do the same to tensors of the same shapes."""
        before, after = self.ready(number - 1), self.ready(number)
        kept_from, next_kept = self._first_kept(before), self._first_kept(after)
        layers = range(len(self.factors))
        return tuple(self._task(i, before[i], after[i], kept_from, next_kept[i]) for i in layers)

    def steps(self) -> Iterator[Step]:
        """All steps in order."""
        return (self.step(number) for number in range(self.count))

    def constant_step(self) -> Step:
        """The step too far from both ends of an image to depend on them, which repeats; no other step does more."""
        number = -(-(sum(self.graph.receptive_radius(self.axis)) + 1) // self.slab) + 2
        endless = Schedule(self.graph, self.axis, (2 * number + 2) * self.slab, self.slab)
        return endless.step(number)

    def _task(self, number: int, start: int, stop: int, first: Sequence[int], next_first: int) -> Task:
        layer = self.graph.layers[number]
        held, kept = start - first[number], stop - next_first
        if layer.operation is None or start == stop:
            return Task(held, stop - start, kept, (), Margin(0, 0, 0, stop - start))
        low, high = layer.operation.need(self.axis, start, stop)
        size = self.factors[layer.sources[0]] * self.extent
        within = max(0, low), min(high, size)
        reads = tuple((within[0] - first[source], within[1] - first[source]) for source in layer.sources)
        crop = start - low * layer.operation.factor(self.axis) if layer.operation.factor(self.axis) > 1 else 0
        return Task(held, stop - start, kept, reads, Margin(within[0] - low, high - within[1], crop, stop - start))
