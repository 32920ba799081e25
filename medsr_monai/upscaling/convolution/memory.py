"""How much memory a stream needs, before it starts."""

from __future__ import annotations

import math

from medsr_monai.upscaling.convolution.execution import Execution
from medsr_monai.upscaling.convolution.operations import Convolution, Shuffle, Upsampling
from medsr_monai.upscaling.convolution.schedule import Schedule


def slice_bytes(execution: Execution, layer: int) -> int:
    """Bytes of one slice of a layer."""
    voxels = execution.batch * execution.channels[layer] * math.prod(execution.across[layer])
    return voxels * execution.dtypes[layer].itemsize


def weight_bytes(execution: Execution) -> int:
    """Bytes of the convolutions' weights, of which a stream may take a copy in another order or precision."""
    operations = [layer.operation for layer in execution.graph.layers]
    weights = [operation.module.weight for operation in operations if isinstance(operation, Convolution)]
    return sum(weight.numel() * (execution.low or weight.dtype).itemsize for weight in weights)


def held_bytes(execution: Execution, schedule: Schedule) -> int:
    """What is held from step to step: the slices kept, a copy of the weights, and a slab at either end."""
    step = schedule.constant_step()
    extent = [factor * schedule.extent for factor in schedule.factors]
    size = [slice_bytes(execution, layer) for layer in range(len(step))]
    kept = sum(min(task.kept, n) * each for task, n, each in zip(step, extent, size, strict=True))
    return kept + schedule.slab * (size[0] + schedule.factors[-1] * size[-1]) + weight_bytes(execution)


def peak_bytes(execution: Execution, schedule: Schedule) -> int:
    """The most that is held at a time, in the order in which layers run; a step far from both ends holds most.

    Counted are a copy of the weights, the slices kept between steps, the windows of the layers, what operations need
    beside them, a slab read ahead, and a result still with its reader.
    """
    layers, step = execution.graph.layers, schedule.constant_step()
    size = [slice_bytes(execution, layer) for layer in range(len(layers))]
    extent = [factor * schedule.extent for factor in schedule.factors]

    def window(layer: int) -> int:
        return min(step[layer].held + step[layer].fresh, extent[layer]) * size[layer]

    def kept(layer: int) -> int:
        return min(step[layer].kept, extent[layer]) * size[layer]

    live = peak = held_bytes(execution, schedule)
    for layer, task in enumerate(step):
        working = 0
        if isinstance(layers[layer].operation, (Convolution, Upsampling, Shuffle)):
            # A copy with padding or of another type, and a result that has still to be moved to its place.
            source, margin = layers[layer].sources[0], task.margin
            read = task.reads[0].stop - task.reads[0].start + margin.before + margin.after
            working = read * size[source] + task.fresh * size[layer]
        if isinstance(operation := layers[layer].operation, Upsampling):
            # Whole groups, of which it leaves some out.
            working += operation.copies * read * operation.factor(schedule.axis) * size[layer]
        peak = max(peak, live + window(layer) + working)
        live += window(layer) - kept(layer)
        for source in execution.done_with[layer]:
            peak = max(peak, live + kept(source))  # which is moved out of the window
            live -= window(source) - kept(source)
    return peak
