"""The operations of a streamed network: the slices that each needs along an axis, and how it runs on a few slices.

Along an axis, slices are half-open intervals of integers. For given slices of its output, an operation states which
slices of its input it needs. For slices outside the image, the operation adds its own padding.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial, reduce
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from medsr_monai.networks.upsampling import CubicUpsampling

Interval = tuple[int, int]
CONVOLVE: dict[int, Callable[..., Tensor]] = {2: functional.conv2d, 3: functional.conv3d}
PAD_MODES = {"zeros": "constant", "replicate": "replicate"}


@dataclass(frozen=True)
class Margin:
    """The relation between the input slices of an operation and the output slices that it must compute.

    Attributes:
        before: padding slices to add before the first.
        after: padding slices to add after the last.
        crop: slices of the result to leave out at its start, because upsampling makes whole groups.
        fresh: slices to return.
    """

    before: int
    after: int
    crop: int
    fresh: int


# (inputs, margin, out or None) -> the result (B, C, fresh, *others), with the streamed axis first, also written to out
Kernel = Callable[[Sequence[Tensor], Margin, "Tensor | None"], Tensor]


def convolution_function(weight: Tensor) -> Callable[..., Tensor]:
    """Choose the function to call with (image, weight, bias, padding, stride, dilation, groups).

    For small images such as thin slabs, PyTorch chooses its slow convolution, which unfolds the image to 27 times its
    memory. If oneDNN supports this precision, call it directly instead.
    """
    known = {torch.float32: True, torch.bfloat16: False, torch.float16: False}
    if weight.device.type == "cpu" and torch.backends.mkldnn.is_available() and torch.backends.mkldnn.enabled:
        known[torch.bfloat16] = torch.ops.mkldnn._is_mkldnn_bf16_supported()
        known[torch.float16] = torch.ops.mkldnn._is_mkldnn_fp16_supported()
        if known.get(weight.dtype, False) and not torch.compiler.is_compiling():
            return torch.mkldnn_convolution
    convolve = CONVOLVE[weight.ndim - 2]
    return lambda image, weight, bias, padding, stride, *more: convolve(image, weight, bias, stride, padding, *more)


def pad_axes(image: Tensor, pairs: Sequence[Interval], mode: str) -> Tensor:
    """Pad the spatial axes of (B, C, *spatial) by pairs of voxels, the first axis first."""
    amounts = [amount for pair in reversed(pairs) for amount in pair]
    return functional.pad(image, amounts, mode) if any(amounts) else image


def into(result: Tensor, out: Tensor | None) -> Tensor:
    """Copy the result to ``out``, if given."""
    return result if out is None else out.copy_(result)


class Operation:
    """One layer. By default it is local: a voxel of the result needs only the same voxel of the input."""

    is_view = False  # whether the result shares the memory of the input

    def factor(self, axis: int) -> int:
        """Output slices per input slice."""
        return 1

    def need(self, axis: int, start: int, stop: int) -> Interval:
        """The input slices for the output slices [start, stop); slices outside the image mean padding."""
        return start, stop

    def channels(self, sources: Sequence[int]) -> int:
        """Channels of the output."""
        return sources[0]

    def dtype(self, sources: Sequence[torch.dtype], low: torch.dtype | None) -> torch.dtype:
        """Type of the output; ``low`` is the type in which convolutions compute, None for that of their weights."""
        return reduce(torch.promote_types, sources)

    def mirrored(self, axes: Sequence[int]) -> Operation:
        """The operation for mirrored images: it gives the mirrored result; by default the same operation."""
        return self

    def bind(self, order: Sequence[int], memory_format: torch.memory_format, low: torch.dtype | None) -> Kernel:
        """Make the kernel for images whose spatial axes are in ``order``, with the current weights."""
        raise NotImplementedError


@dataclass(frozen=True)
class Convolution(Operation):
    """A convolution of stride 1 that keeps the size of the image.

    Attributes:
        module: Conv2d or Conv3d.
        pads: voxels before and after, per axis.
        backwards: axes along which the kernel is mirrored.
    """

    module: nn.Conv2d | nn.Conv3d
    pads: tuple[Interval, ...]
    backwards: tuple[int, ...] = ()

    def need(self, axis: int, start: int, stop: int) -> Interval:
        before, after = self.pads[axis]
        return start - before, stop + after

    def mirrored(self, axes: Sequence[int]) -> Convolution:
        pads = tuple(pair[::-1] if axis in axes else pair for axis, pair in enumerate(self.pads))
        return replace(self, pads=pads, backwards=tuple({*self.backwards} ^ {*axes}))

    def channels(self, sources: Sequence[int]) -> int:
        return self.module.out_channels

    def dtype(self, sources: Sequence[torch.dtype], low: torch.dtype | None) -> torch.dtype:
        return low or self.module.weight.dtype

    def bind(self, order: Sequence[int], memory_format: torch.memory_format, low: torch.dtype | None) -> Kernel:
        module, mode = self.module, PAD_MODES[self.module.padding_mode]
        dtype = low or module.weight.dtype
        weight = module.weight.detach().flip([2 + axis for axis in self.backwards])
        weight = weight.permute(0, 1, *(2 + axis for axis in order)).to(dtype).contiguous(memory_format=memory_format)
        bias = None if module.bias is None else module.bias.detach().to(dtype)
        dilation = [module.dilation[axis] for axis in order]
        pads = [self.pads[axis] for axis in order[1:]]
        # The margin pads the streamed axis. The convolution pads the other axes itself if it can.
        own, ones = [0] * len(order), [1] * len(order)
        if mode == "constant" and all(before == after for before, after in pads):
            own[1:], pads = [before for before, _ in pads], [(0, 0)] * len(pads)

        def run(inputs: Sequence[Tensor], margin: Margin, out: Tensor | None) -> Tensor:
            image = pad_axes(inputs[0].to(dtype), [(margin.before, margin.after), *pads], mode)
            convolve = convolution_function(weight)
            return into(convolve(image, weight, bias, own, ones, dilation, module.groups), out)

        return run


@dataclass(frozen=True)
class Source:
    """A placeholder in the arguments for an input, by its number."""

    index: int


@dataclass(frozen=True)
class Elementwise(Operation):
    """A function of each voxel alone, and possibly of constants.

    Attributes:
        function: the function to call.
        args: its arguments, with a :class:`Source` for each input.
        kwargs: its keyword arguments.
        out_function: the same function with an ``out`` argument, or None if there is none.
    """

    function: Callable[..., Tensor]
    args: tuple[Any, ...]
    kwargs: dict[str, Any] = field(default_factory=dict)
    out_function: Callable[..., Tensor] | None = None

    def _constants(self) -> list[Tensor]:
        return [arg for arg in self.args if isinstance(arg, Tensor) and arg.ndim]

    def channels(self, sources: Sequence[int]) -> int:
        # A constant has one value in all, or one per channel.
        return max([*sources, *(constant.numel() for constant in self._constants())])

    def dtype(self, sources: Sequence[torch.dtype], low: torch.dtype | None) -> torch.dtype:
        return super().dtype([*sources, *(constant.dtype for constant in self._constants())], low)

    def bind(self, order: Sequence[int], memory_format: torch.memory_format, low: torch.dtype | None) -> Kernel:
        def run(inputs: Sequence[Tensor], margin: Margin, out: Tensor | None) -> Tensor:
            args = [inputs[arg.index] if isinstance(arg, Source) else arg for arg in self.args]
            if out is not None and self.out_function is not None:
                return self.out_function(*args, **self.kwargs, out=out)
            return into(self.function(*args, **self.kwargs), out)

        return run


class Concatenation(Operation):
    """Images side by side along the channels."""

    def channels(self, sources: Sequence[int]) -> int:
        return sum(sources)

    def bind(self, order: Sequence[int], memory_format: torch.memory_format, low: torch.dtype | None) -> Kernel:
        def run(inputs: Sequence[Tensor], margin: Margin, out: Tensor | None) -> Tensor:
            assert out is not None
            for image, part in zip(inputs, out.split([image.shape[1] for image in inputs], dim=1), strict=True):
                # An image that was already written to its place is that place.
                if image.data_ptr() != part.data_ptr():
                    part.copy_(image)
            return out

        return run


@dataclass(frozen=True)
class ChannelSlice(Operation):
    """Some channels of an image."""

    channel_slice: slice
    is_view = True

    def channels(self, sources: Sequence[int]) -> int:
        return len(range(*self.channel_slice.indices(sources[0])))

    def bind(self, order: Sequence[int], memory_format: torch.memory_format, low: torch.dtype | None) -> Kernel:
        return lambda inputs, margin, out: into(inputs[0][:, self.channel_slice], out)


@dataclass(frozen=True)
class Shuffle(Operation):
    """Pixel shuffle: channels into space by a factor per axis."""

    scale: tuple[int, ...]
    backwards: tuple[int, ...] = ()  # axes along which the channels are mirrored
    is_view = True  # if no voxel has to move

    def mirrored(self, axes: Sequence[int]) -> Shuffle:
        return replace(self, backwards=tuple({*self.backwards} ^ {*axes}))

    def factor(self, axis: int) -> int:
        return self.scale[axis]

    def need(self, axis: int, start: int, stop: int) -> Interval:
        return start // self.scale[axis], -(-stop // self.scale[axis])

    def channels(self, sources: Sequence[int]) -> int:
        return sources[0] // math.prod(self.scale)

    def bind(self, order: Sequence[int], memory_format: torch.memory_format, low: torch.dtype | None) -> Kernel:
        axes = len(order)
        # (B, C, *factors in channel order, *spatial in streamed order) -> each spatial axis is followed by its factor
        permutation = [0, 1, *(i for place, axis in enumerate(order) for i in (2 + axes + place, 2 + axis))]
        scale = [self.scale[axis] for axis in order]
        backwards = [2 + axis for axis in self.backwards if self.scale[axis] > 1]

        def run(inputs: Sequence[Tensor], margin: Margin, out: Tensor | None) -> Tensor:
            batch, channels, *spatial = inputs[0].shape
            parts = inputs[0].reshape(batch, -1, *self.scale, *spatial)
            parts = (parts.flip(backwards) if backwards else parts).permute(permutation)
            size = [n * factor for n, factor in zip(spatial, scale, strict=True)]
            result = parts.reshape(batch, channels // math.prod(self.scale), *size)
            return into(result.narrow(2, margin.crop, margin.fresh), out)

        return run


@dataclass(frozen=True)
class Upsampling(Operation):
    """Nearest, linear or cubic interpolation by a factor per axis, half-voxel aligned.

    Attributes:
        scale: integer factor per axis.
        order: 0 for nearest, 1 for linear, 3 for cubic.
    """

    scale: tuple[int, ...]
    order: int

    @property
    def copies(self) -> int:
        """How many images of the result's size are in memory during the computation."""
        return 3 if self.order == 3 else 1

    def factor(self, axis: int) -> int:
        return self.scale[axis]

    def need(self, axis: int, start: int, stop: int) -> Interval:
        factor = self.scale[axis]
        if self.order == 0 or factor == 1:
            return start // factor, -(-stop // factor)
        # Voxel i is centred at (i + 1/2) / factor - 1/2. It needs one input voxel on each side, or two for cubic.
        more = self.order // 2
        return (2 * start + 1 - factor) // (2 * factor) - more, (2 * stop - 1 - factor) // (2 * factor) + 2 + more

    def bind(self, order: Sequence[int], memory_format: torch.memory_format, low: torch.dtype | None) -> Kernel:
        scale = [self.scale[axis] for axis in order]
        mode = {2: "bilinear", 3: "trilinear"}[len(order)] if self.order else "nearest"
        interpolate: Callable[[Tensor], Tensor] = CubicUpsampling(scale)
        if self.order < 3:
            factors = [float(factor) for factor in scale]
            interpolate = partial(functional.interpolate, scale_factor=factors, mode=mode)

        def run(inputs: Sequence[Tensor], margin: Margin, out: Tensor | None) -> Tensor:
            pairs = [(margin.before, margin.after), *[(0, 0)] * (len(order) - 1)]
            result = interpolate(pad_axes(inputs[0], pairs, "replicate"))
            return into(result.narrow(2, margin.crop, margin.fresh), out)

        return run
