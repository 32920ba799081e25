"""The modules and functions that can be streamed, and their translation to operations."""

from __future__ import annotations

import copy
import operator
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from medsr_monai.networks.blocks import PixelShuffle
from medsr_monai.networks.upsampling import CubicUpsampling
from medsr_monai.system.errors import InputError
from medsr_monai.upscaling.convolution.operations import (
    PAD_MODES,
    ChannelSlice,
    Concatenation,
    Convolution,
    Elementwise,
    Operation,
    Shuffle,
    Source,
    Upsampling,
)

WHOLE_IMAGE = "looks at the whole image"
BATCH_NORM_WAY_OUT = "use batch normalisation in evaluation mode or none, or SlidingWindowInferer (approximate)"
SAME: Any = object()  # the layer returns its input


class Refusal(Exception):
    """The reason why a layer cannot be streamed, and a way out other than the sliding window, if there is one."""

    def __init__(self, reason: str, way_out: str = "") -> None:
        super().__init__(reason)
        self.way_out = way_out


@dataclass
class Call:
    """The arguments of a traced call, with a :class:`Source` for each image."""

    args: Sequence[Any]
    kwargs: dict[str, Any]
    spatial_dims: int

    def get(self, place: int, name: str, default: Any = None) -> Any:
        """Get an argument by its position or its name."""
        return self.args[place] if len(self.args) > place else self.kwargs.get(name, default)


def convolution(module: nn.Module, call: Call) -> Operation:
    """Translate a convolution with stride 1 that keeps the size, padded with zeros or replicated voxels."""
    assert isinstance(module, (nn.Conv2d, nn.Conv3d))
    if any(stride != 1 for stride in module.stride):
        raise Refusal(f"stride {tuple(module.stride)}, but must be 1")
    if module.padding_mode not in PAD_MODES:
        raise Refusal(f"padding_mode '{module.padding_mode}', but must be zeros or replicate")
    pads = []
    for axis, (size, dilation) in enumerate(zip(module.kernel_size, module.dilation, strict=True)):
        total = dilation * (size - 1)
        if module.padding == "same":
            before, after = total // 2, total - total // 2
        else:
            before = after = 0 if module.padding == "valid" else int(module.padding[axis])
        if before + after != total:
            raise Refusal(
                f"changes the size of axis {axis} by {before + after - total} voxels, but needs padding {total / 2:g}"
            )
        pads.append((before, after))
    return Convolution(module, tuple(pads))


def elementwise(
    function: Callable[..., Any], out_function: Callable[..., Any] | None = None, max_args: int = 3
) -> Callable[[Call], Any]:
    """Make a translation for a function of voxels; more than ``max_args`` arguments mean a positional ``inplace``."""

    def translate(call: Call) -> Operation:
        if len(call.args) > max_args:
            raise Refusal("has 'inplace' as a positional argument", "pass it by name")
        kwargs = {key: value for key, value in call.kwargs.items() if key != "inplace"}
        if any(isinstance(value, Source) for value in kwargs.values()):
            raise Refusal("has an image as a keyword argument", "pass it by position")
        for value in call.args:
            if isinstance(value, torch.Tensor):
                if any(size != 1 for size in value.shape[-call.spatial_dims :]):
                    raise Refusal("has a constant that varies over the image")
            elif not isinstance(value, (Source, int, float, str, type(None))):
                raise Refusal(f"has an argument of type {type(value).__name__}")
        return Elementwise(function, tuple(call.args), kwargs, out_function)

    return translate


def activation(module: nn.Module, call: Call) -> Operation:
    """Translate an activation without parameters; it never works in place."""
    function: Any = copy.copy(module)
    if hasattr(function, "inplace"):
        function.inplace = False
    return Elementwise(function, (Source(0),))


def always(operation: Any) -> Callable[[nn.Module, Call], Any]:
    """Make a translation of all modules of a type to one operation."""
    return lambda module, call: operation


def leaky_relu(module: nn.Module, call: Call) -> Operation:
    return Elementwise(functional.leaky_relu, (Source(0), module.negative_slope), {}, torch.ops.aten.leaky_relu.out)


def prelu(module: nn.Module, call: Call) -> Operation:
    """Translate a PReLU; it uses its weights at the time of the run, in the image's precision."""
    assert isinstance(module, nn.PReLU)
    return Elementwise(lambda image: functional.prelu(image, module.weight.to(image.dtype)), (Source(0),))


def batch_norm(module: nn.Module, call: Call) -> Operation:
    """Translate batch normalisation with running statistics."""
    assert isinstance(module, nn.modules.batchnorm._BatchNorm)
    if module.running_mean is None:
        raise Refusal(f"{WHOLE_IMAGE}, because it has no running statistics", BATCH_NORM_WAY_OUT)

    def normalise(image: torch.Tensor) -> torch.Tensor:
        mean, variance, weight, bias = module.running_mean, module.running_var, module.weight, module.bias
        return functional.batch_norm(image, mean, variance, weight, bias, False, 0.0, module.eps)

    return Elementwise(normalise, (Source(0),))


def whole_image(module: nn.Module, call: Call) -> Operation:
    raise Refusal(WHOLE_IMAGE, BATCH_NORM_WAY_OUT)


def upsampling(scale: Any, size: Any, mode: str, align_corners: bool | None, axes: int) -> Operation:
    """Translate nearest or linear interpolation by an integer factor."""
    if size is not None or scale is None:
        raise Refusal("has a fixed output size, but needs an integer scale_factor")
    linear = mode in ("linear", "bilinear", "trilinear")
    if not linear and mode not in ("nearest", "nearest-exact"):
        raise Refusal(f"mode '{mode}', but must be nearest or linear")
    if linear and align_corners:
        raise Refusal("align_corners=True, but must be False")
    factors = tuple(scale) if isinstance(scale, Iterable) else (scale,) * axes
    if len(factors) != axes:
        raise Refusal(f"{len(factors)} factors, but {axes} axes")
    if any(not isinstance(factor, (int, float)) or factor < 1 or factor != int(factor) for factor in factors):
        raise Refusal(f"scale_factor {scale}, but must be whole numbers of 1 or more")
    return Upsampling(tuple(int(factor) for factor in factors), 1 if linear else 0)


def upsample(module: nn.Module, call: Call) -> Operation:
    assert isinstance(module, nn.Upsample)
    return upsampling(module.scale_factor, module.size, module.mode, module.align_corners, call.spatial_dims)


def interpolate(call: Call) -> Operation:
    size, scale, mode = call.get(1, "size"), call.get(2, "scale_factor"), call.get(3, "mode", "nearest")
    return upsampling(scale, size, mode, call.get(4, "align_corners"), call.spatial_dims)


def concatenation(call: Call) -> Operation:
    images, dim = call.get(0, "tensors"), call.get(1, "dim", 0)
    if not all(isinstance(image, Source) for image in images):
        raise Refusal("concatenates a value that does not depend on the input")
    if dim not in (1, -1 - call.spatial_dims):
        raise Refusal(f"dim {dim}, but must be 1 (the channels)")
    return Concatenation()


def channel_slice(call: Call) -> Operation:
    index = call.get(1, "index")
    first, channels, *others = index if isinstance(index, tuple) and len(index) > 1 else (index, None)
    is_slice = isinstance(channels, slice) and channels.step in (None, 1) and first == slice(None)
    if not is_slice or not all(part is Ellipsis or part == slice(None) for part in others):
        raise Refusal(f"[{index}], but must be a slice of channels such as [:, :1]")
    if not all(isinstance(edge, (int, type(None))) for edge in (channels.start, channels.stop)):
        raise Refusal("has a slice whose limits depend on the image")
    return ChannelSlice(channels)


def dropout(call: Call) -> Any:
    if call.get(2, "training", True):
        raise Refusal("drops voxels at random", "pass training=self.training and use evaluation mode")
    return SAME


def pixel_shuffle(call: Call) -> Operation:
    return Shuffle((int(call.get(1, "upscale_factor")),) * 2)


MODULES: dict[type[nn.Module], Callable[[Any, Call], Any]] = {
    nn.Conv2d: convolution,
    nn.Conv3d: convolution,
    nn.LeakyReLU: leaky_relu,
    nn.ReLU: always(Elementwise(torch.relu, (Source(0),), {}, torch.ops.aten.relu.out)),
    nn.SiLU: always(Elementwise(functional.silu, (Source(0),), {}, torch.ops.aten.silu.out)),
    nn.PReLU: prelu,
    **dict.fromkeys(
        (nn.GELU, nn.Tanh, nn.Sigmoid, nn.ELU, nn.ReLU6, nn.Hardtanh, nn.Softplus, nn.Mish, nn.Hardswish, nn.CELU),
        activation,
    ),
    **dict.fromkeys((nn.Identity, nn.Dropout, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout), always(SAME)),
    **dict.fromkeys((nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm), batch_norm),
    **dict.fromkeys(
        (nn.InstanceNorm2d, nn.InstanceNorm3d, nn.GroupNorm, nn.LayerNorm, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d),
        whole_image,
    ),
    **dict.fromkeys((nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d, nn.MultiheadAttention), whole_image),
    PixelShuffle: lambda module, call: Shuffle(tuple(module.scale)),
    CubicUpsampling: lambda module, call: Upsampling(tuple(module.scale), 3),
    nn.PixelShuffle: lambda module, call: Shuffle((module.upscale_factor,) * 2),
    nn.Upsample: upsample,
    nn.UpsamplingNearest2d: upsample,
}

# Functions, and tensor methods by name; the final underscore of a method's name is removed first.
FUNCTIONS: dict[Any, Callable[[Call], Any]] = {
    **dict.fromkeys((operator.add, operator.iadd, torch.add, "add"), elementwise(torch.add, torch.add)),
    **dict.fromkeys((operator.mul, operator.imul, torch.mul, "mul"), elementwise(torch.mul, torch.mul)),
    **dict.fromkeys((operator.sub, operator.isub, torch.sub, "sub"), elementwise(torch.sub)),
    **dict.fromkeys((operator.truediv, operator.itruediv, torch.div, "div"), elementwise(torch.div)),
    **dict.fromkeys((operator.neg, torch.neg, "neg"), elementwise(torch.neg)),
    **dict.fromkeys((torch.relu, functional.relu, "relu"), elementwise(torch.relu)),
    **dict.fromkeys((torch.tanh, functional.tanh, "tanh"), elementwise(torch.tanh)),
    **dict.fromkeys((torch.sigmoid, functional.sigmoid, "sigmoid"), elementwise(torch.sigmoid)),
    **dict.fromkeys((torch.clamp, "clamp"), elementwise(torch.clamp)),
    **dict.fromkeys((torch.abs, operator.abs, "abs"), elementwise(torch.abs)),
    functional.leaky_relu: elementwise(functional.leaky_relu, None, 2),
    functional.silu: elementwise(functional.silu, None, 1),
    functional.gelu: elementwise(functional.gelu),
    **dict.fromkeys((torch.cat, torch.concat, torch.concatenate), concatenation),
    operator.getitem: channel_slice,
    functional.interpolate: interpolate,
    **dict.fromkeys((functional.pixel_shuffle, torch.pixel_shuffle), pixel_shuffle),
    **dict.fromkeys((functional.dropout, functional.dropout2d, functional.dropout3d), dropout),
    "contiguous": lambda call: SAME,
}


def spatial_dims_of(modules: Sequence[nn.Module]) -> int:
    """Derive the number of spatial axes, 2 or 3, from the layers."""
    found = set()
    for module in modules:
        if isinstance(module, (nn.Conv2d, nn.BatchNorm2d, nn.PixelShuffle)):
            found.add(2)
        elif isinstance(module, (nn.Conv3d, nn.BatchNorm3d)):
            found.add(3)
        elif isinstance(module, PixelShuffle):
            found.add(module.spatial_dims)
        elif isinstance(module, nn.Upsample) and module.mode in ("bilinear", "trilinear"):
            found.add(2 if module.mode == "bilinear" else 3)
    if len(found) != 1:
        raise InputError(
            "network: need 2D or 3D convolutions, not both, to derive the number of spatial axes; no other network "
            "can be streamed"
        )
    return found.pop()
