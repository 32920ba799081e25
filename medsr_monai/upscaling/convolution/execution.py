"""One step of a stream: every layer computes its new slices and keeps those that later steps need."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from medsr_monai.upscaling.convolution.operations import Concatenation, Elementwise, Kernel
from medsr_monai.upscaling.convolution.schedule import Graph, Step, Task

CHANNELS_LAST = {2: torch.channels_last, 3: torch.channels_last_3d}
Held = list["Tensor | None"]
Advance = Callable[[Held, "Tensor | None"], tuple["Tensor | None", Held]]


class Execution:
    """A graph with fixed weights, precision, memory format and sizes across the streamed axis.

    The streamed axis is the first spatial axis of all images here.

    Args:
        graph: the graph to compute.
        order: the network's spatial axes in the order of these images.
        slab: (B, C, slices, *others), an image like those that the steps will read.
        low: type in which convolutions compute; None for the type of their weights.
        channels_last: memory format of the images.

    Attributes:
        channels: of every layer.
        dtypes: of every layer.
        across: sizes of every layer across the streamed axis.
    """

    def __init__(
        self,
        graph: Graph,
        order: Sequence[int],
        slab: Tensor,
        low: torch.dtype | None = None,
        channels_last: bool = True,
    ) -> None:
        self.graph = graph
        self.memory_format = CHANNELS_LAST[graph.spatial_dims] if channels_last else torch.contiguous_format
        self.device, self.batch = slab.device, slab.shape[0]
        self.channels, self.dtypes = [slab.shape[1]], [slab.dtype]
        self.order, self.low = order, low
        self._kernels: list[Kernel] = []
        self._compiled: dict[Step, Advance] = {}
        for layer in graph.layers[1:]:
            operation = layer.operation
            assert operation is not None
            self.channels.append(operation.channels([self.channels[source] for source in layer.sources]))
            self.dtypes.append(operation.dtype([self.dtypes[source] for source in layer.sources], low))
        factors = zip(*(graph.factors(axis) for axis in order[1:]), strict=True)
        self.across = [[size * f for size, f in zip(slab.shape[3:], row, strict=True)] for row in factors]
        self._plan_memory()

    def bind(self) -> None:
        """Bind the current weights."""
        operations = [layer.operation for layer in self.graph.layers[1:]]
        self._kernels = [op.bind(self.order, self.memory_format, self.low) for op in operations if op is not None]

    def compiled(self, step: Step, backend: str) -> Advance:
        """:meth:`advance` for one step, compiled on first use."""
        if step not in self._compiled:
            self._compiled[step] = torch.compile(partial(self.advance, step), dynamic=False, backend=backend)
        return self._compiled[step]

    def _plan_memory(self) -> None:
        """Find layers with one reader: they may be overwritten, or may write directly into their concatenation."""
        readers = self.graph.readers()
        self.done_with: list[list[int]] = [[] for _ in self.graph.layers]
        for number, own in enumerate(readers[:-1]):
            self.done_with[own[-1]].append(number)
        self._private = [
            layer.operation is not None and not layer.operation.is_view and len(own) == 1
            for layer, own in zip(self.graph.layers, readers, strict=True)
        ]
        # layer -> (the concatenation it is part of, its first channel there)
        self._joined: dict[int, tuple[int, int]] = {}
        for number, layer in enumerate(self.graph.layers):
            if isinstance(layer.operation, Concatenation):
                first = 0
                for source in layer.sources:
                    alone = self._private[source] and layer.sources.count(source) == 1
                    if alone and self.dtypes[source] == self.dtypes[number]:
                        self._joined[source] = (number, first)
                    first += self.channels[source]

    def advance(self, step: Step, held: Held, slab: Tensor | None) -> tuple[Tensor | None, Held]:
        """Do one step.

        Args:
            step: the tasks.
            held: the slices that each layer kept from the previous step; the list is changed, so that no slice is in
                memory twice.
            slab: (B, C, slices, *others), the new slices of the input; None after the last.

        Returns:
            The new slices of the result, or None if there are none yet; and the slices that each layer keeps.
        """
        windows = held
        begun: dict[int, Tensor] = {}  # windows with room for new slices
        for number, task in enumerate(step):
            if task.fresh:
                windows[number] = self._compute(number, step, windows, begun, slab)
            for source in self.done_with[number]:
                windows[source] = self._keep(windows[source], step[source], source)
        return windows[-1], [*windows[:-1], None]

    def _compute(self, number: int, step: Step, windows: Held, begun: dict[int, Tensor], slab: Tensor | None) -> Tensor:
        """Compute the window of a layer: the kept slices, followed by the new ones."""
        task, layer = step[number], self.graph.layers[number]
        if layer.operation is None:
            assert slab is not None
            if not task.held:
                return slab
            self._room(number, task, windows, begun).copy_(slab)
            return begun.pop(number)
        inputs = []
        for source, (start, stop) in zip(layer.sources, task.reads, strict=True):
            window = windows[source]
            assert window is not None
            inputs.append(window[:, :, start:stop])
        kernel = self._kernels[number - 1]
        if task.held or isinstance(layer.operation, Concatenation):
            kernel(inputs, task.margin, self._room(number, task, windows, begun))
            return begun.pop(number)
        if number in self._joined:
            joint, first = self._joined[number]
            room = self._room(joint, step[joint], windows, begun)
            return kernel(inputs, task.margin, room.narrow(1, first, self.channels[number]))
        return kernel(inputs, task.margin, self._disposable(number, step, windows))

    def _room(self, number: int, task: Task, windows: Held, begun: dict[int, Tensor]) -> Tensor:
        """The memory for the new slices of a layer, in a window after its kept slices."""
        if number not in begun:
            begun[number] = self._empty(number, task.held + task.fresh)
            if task.held:
                held = windows[number]
                assert held is not None
                begun[number].narrow(2, 0, task.held).copy_(held)
        return begun[number].narrow(2, task.held, task.fresh)

    def _disposable(self, number: int, step: Step, windows: Held) -> Tensor | None:
        """An input that no other layer needs, which the result may overwrite; None if there is none."""
        layer = self.graph.layers[number]
        if isinstance(layer.operation, Elementwise) and layer.operation.out_function is not None:
            for source in layer.sources:
                whole = not step[source].held and not step[source].kept
                alike = self.dtypes[source] == self.dtypes[number] and self.channels[source] == self.channels[number]
                if self._private[source] and source not in self._joined and whole and alike:
                    return windows[source]
        return None

    def _empty(self, number: int, slices: int) -> Tensor:
        size = (self.batch, self.channels[number], slices, *self.across[number])
        return torch.empty(size, dtype=self.dtypes[number], device=self.device, memory_format=self.memory_format)

    def _keep(self, window: Tensor | None, task: Task, number: int) -> Tensor | None:
        """Copy the last slices of a window, so that the memory of the rest can be freed."""
        if window is None or not task.kept:
            return None
        if task.kept == window.shape[2]:
            return window
        return self._empty(number, task.kept).copy_(window.narrow(2, window.shape[2] - task.kept, task.kept))
