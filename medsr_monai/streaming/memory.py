"""How much memory a stream needs, before it starts."""

from __future__ import annotations

import math

from medsr_monai.streaming.execution import Execution
from medsr_monai.streaming.operations import Convolution, Shuffle, Upsampling
from medsr_monai.streaming.schedule import Schedule, Step


def slice_bytes(execution: Execution, layer: int) -> int:
    """Bytes of one slice of a layer."""
    voxels = execution.batch * execution.channels[layer] * math.prod(execution.across[layer])
    return voxels * execution.dtypes[layer].itemsize


def working_bytes(execution: Execution, layer: int, step: Step) -> int:
    """What an operation needs beside its inputs and its window: copies with padding, and a result to be moved."""
    operation, task = execution.graph.layers[layer].operation, step[layer]
    result = task.fresh * slice_bytes(execution, layer)
    if not isinstance(operation, (Convolution, Upsampling, Shuffle)):
        return result
    source = execution.graph.layers[layer].sources[0]
    read = task.reads[0].stop - task.reads[0].start + task.margin.before + task.margin.after
    return result + read * slice_bytes(execution, source)


def peak_bytes(execution: Execution, schedule: Schedule) -> int:
    """The most that is held at a time over all steps, in the order in which layers run."""
    layers = range(len(execution.graph.layers))
    size = [slice_bytes(execution, layer) for layer in layers]
    peak = 0
    previous: Step | None = None
    for step in schedule.steps():
        if step == previous:
            continue
        previous = step
        # One more slab read ahead, and the result of the step before with its reader.
        live = sum(step[layer].held * size[layer] for layer in layers) + (schedule.slab * size[0])
        live += schedule.slab * schedule.factors[-1] * size[-1]
        for layer in layers:
            if step[layer].fresh:
                live += (step[layer].held + step[layer].fresh) * size[layer]
                working = working_bytes(execution, layer, step) if step[layer].reads else 0
                peak = max(peak, live + working)
                live -= step[layer].held * size[layer]
            for source in execution.done_with[layer]:
                window = step[source].held + step[source].fresh
                live -= (window - step[source].kept) * size[source]
    return peak
