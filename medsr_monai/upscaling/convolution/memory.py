"""The memory that a stream will need, computed before it starts."""

from __future__ import annotations

import math

from medsr_monai.upscaling.convolution.execution import Execution
from medsr_monai.upscaling.convolution.operations import Convolution, Shuffle, Upsampling
from medsr_monai.upscaling.convolution.schedule import Schedule


def slice_bytes(execution: Execution) -> list[int]:
    """Bytes of one slice of each layer."""
    layers = zip(execution.channels, execution.across, execution.dtypes, strict=True)
    return [execution.batch * channels * math.prod(across) * dtype.itemsize for channels, across, dtype in layers]


def held_bytes(execution: Execution, schedule: Schedule) -> int:
    """Bytes held between steps: the kept slices, a copy of the weights, and the input and output slabs."""
    step = schedule.constant_step()
    size = slice_bytes(execution)
    layers = zip(step, schedule.factors, size, strict=True)
    kept = sum(min(task.kept, factor * schedule.extent) * each for task, factor, each in layers)
    operations = [layer.operation for layer in execution.graph.layers]
    # A stream may copy the weights in another order or precision.
    weights = [operation.module.weight for operation in operations if isinstance(operation, Convolution)]
    copies = sum(weight.numel() * (execution.low or weight.dtype).itemsize for weight in weights)
    return kept + schedule.slab * (size[0] + schedule.factors[-1] * size[-1]) + copies


def peak_bytes(execution: Execution, schedule: Schedule) -> int:
    """Peak bytes of a step; layers run in order, and a step far from both ends needs most.

    The sum counts a copy of the weights, the slices kept between steps, the windows of the layers, the working memory
    of operations, a slab that is read ahead, and a result that its reader still holds.
    """
    layers, step, size = execution.graph.layers, schedule.constant_step(), slice_bytes(execution)
    extent = [factor * schedule.extent for factor in schedule.factors]

    def window(layer: int) -> int:
        return min(step[layer].held + step[layer].fresh, extent[layer]) * size[layer]

    def kept(layer: int) -> int:
        return min(step[layer].kept, extent[layer]) * size[layer]

    live = peak = held_bytes(execution, schedule)
    for layer, task in enumerate(step):
        working = 0
        if isinstance(layers[layer].operation, (Convolution, Upsampling, Shuffle)):
            # A copy of the input, padded or converted, and a result before it is copied to its place.
            source, margin = layers[layer].sources[0], task.margin
            start, stop = task.reads[0]
            read = stop - start + margin.before + margin.after
            working = read * size[source] + task.fresh * size[layer]
        if isinstance(operation := layers[layer].operation, Upsampling):
            # Upsampling makes whole groups of slices and leaves some out.
            working += operation.copies * read * operation.factor(schedule.axis) * size[layer]
        peak = max(peak, live + window(layer) + working)
        live += window(layer) - kept(layer)
        for source in execution.done_with[layer]:
            peak = max(peak, live + kept(source))  # the kept slices are copied out of the window
            live -= window(source) - kept(source)
    return peak
