"""Trace a network to the graph of operations that a stream runs, or name the layer that cannot be streamed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn

from medsr_monai.networks.blocks import PixelShuffle
from medsr_monai.networks.upsampling import CubicUpsampling
from medsr_monai.system.errors import InputError
from medsr_monai.upscaling.convolution.operations import Elementwise, Source
from medsr_monai.upscaling.convolution.schedule import Graph, Layer
from medsr_monai.upscaling.convolution.translation import (
    FUNCTIONS,
    MODULES,
    SAME,
    Call,
    Refusal,
    spatial_dims_of,
)

WAY_OUT = "use SlidingWindowInferer, whose result is approximate"


@dataclass(frozen=True)
class At:
    """The value of a traced node that is an image: the number of the layer that computes it."""

    layer: int


class GeneratorTracer(fx.Tracer):
    """Trace ``forward`` through every module except torch's own and the two upsampling layers of this package."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, (PixelShuffle, CubicUpsampling)) or super().is_leaf_module(m, module_qualified_name)


@contextmanager
def evaluation_mode(network: nn.Module) -> Iterator[None]:
    """Put every module in evaluation mode, and restore the modes at the end."""
    training = [module for module in network.modules() if module.training]
    network.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def owner(node: fx.Node) -> str:
    """The name of the module whose ``forward`` made a node, for messages."""
    stack = node.meta.get("nn_module_stack")
    if node.op == "call_module" or not stack:
        return str(node.target) if node.op == "call_module" else node.name
    name, _ = list(stack.values())[-1]
    return f"{node.name} in {name}" if name else node.name


class GraphBuilder:
    """Translate the nodes of one traced network, in order, into layers."""

    def __init__(self, network: nn.Module, traced: fx.Graph) -> None:
        self.network = network
        self.traced = traced
        self.modules = dict(network.named_modules())
        self.layers: list[Layer] = []
        # The value of each node: an image (At) or a constant.
        self.values: dict[fx.Node, Any] = {}
        self.views: dict[int, int] = {}
        used = [self.modules[str(node.target)] for node in traced.nodes if node.op == "call_module"]
        self.spatial_dims = spatial_dims_of(used)

    def build(self) -> Graph:
        result = None
        for node in self.traced.nodes:
            if node.op == "placeholder":
                self._placeholder(node)
            elif node.op == "output":
                result = self._result(node)
            elif node.op == "get_attr":
                self.values[node] = self._constant(node)
            else:
                self._call(node)
        assert result is not None
        return prune(fuse_scaled_sums(Graph(tuple(self.layers), self.spatial_dims)), result)

    def _placeholder(self, node: fx.Node) -> None:
        if not self.layers:
            self.values[node] = At(self._add(Layer("input", None, ())))
        elif node.args:
            self.values[node] = node.args[0]  # the default value of an argument
        else:
            raise InputError(f"{type(self.network).__name__}.forward: needs '{node.target}' too; {WAY_OUT}")

    def _result(self, node: fx.Node) -> int:
        value = self.values.get(node.args[0]) if isinstance(node.args[0], fx.Node) else None
        if not isinstance(value, At) or value.layer == 0:
            raise InputError(f"{type(self.network).__name__}: must return one image computed from its input; {WAY_OUT}")
        return value.layer

    def _constant(self, node: fx.Node) -> torch.Tensor:
        value: Any = self.network
        for part in str(node.target).split("."):
            value = getattr(value, part)
        if not isinstance(value, torch.Tensor):
            raise InputError(f"{node.target}: not a tensor; {WAY_OUT}")
        spatial = value.shape[-self.spatial_dims :] if value.ndim else ()
        if any(size != 1 for size in spatial):
            raise InputError(f"{node.target}: a constant that varies over the image; {WAY_OUT}")
        return value

    def _add(self, layer: Layer) -> int:
        self.layers.append(layer)
        return len(self.layers) - 1

    def _call(self, node: fx.Node) -> None:
        """Translate one call. After an in-place call, later readers of its input get its result."""
        name, kind, translate, args, in_place = self._lookup(node)
        sources: list[int] = []

        def resolve(argument: Any) -> Any:
            if not isinstance(argument, fx.Node):
                return argument
            value = self.values[argument]
            if not isinstance(value, At):
                return value
            sources.append(value.layer)
            return Source(len(sources) - 1)

        call = Call(
            fx.node.map_aggregate(args, resolve), fx.node.map_aggregate(node.kwargs, resolve), self.spatial_dims
        )
        try:
            operation = translate(call)
        except Refusal as refusal:
            raise InputError(f"{kind} at {name}: {refusal}; {refusal.way_out or WAY_OUT}") from None
        if operation is SAME:
            self.values[node] = At(sources[0])
            return
        if not sources:
            raise InputError(f"{kind} at {name}: does not depend on the input; {WAY_OUT}")
        number = self._add(Layer(name, operation, tuple(sources)))
        self.values[node] = At(number)
        if operation.is_view:
            self.views[number] = sources[0]
        if in_place or call.in_place:
            self._overwrite(node, sources[0], number, f"{kind} at {name}")

    def _overwrite(self, node: fx.Node, old: int, new: int, where: str) -> None:
        if old in self.views or old in self.views.values():
            raise InputError(f"{where}: works in place on a part of an image; {WAY_OUT}")
        if old == 0:
            raise InputError(f"{where}: overwrites the input of the network; {WAY_OUT}")
        for other, value in self.values.items():
            if value == At(old):
                self.values[other] = At(new)

    def _lookup(self, node: fx.Node) -> tuple[str, str, Any, tuple[Any, ...], bool]:
        """Find the name, type, translation and arguments of a call, and whether it works in place."""
        if node.op == "call_module":
            name, module = str(node.target), self.modules[str(node.target)]
            check_hooks(module, name)
            translate = MODULES.get(type(module))
            found = None if translate is None else lambda call: translate(module, call)
            kind, in_place = type(module).__name__, bool(getattr(module, "inplace", False))
        else:
            name, key = owner(node), node.target
            kind = str(key) if isinstance(key, str) else getattr(key, "__name__", str(key))
            in_place = (kind.endswith("_") and not kind.endswith("__")) or kind in ("iadd", "isub", "imul", "itruediv")
            bare = kind.rstrip("_") if in_place and isinstance(key, str) else key
            found = FUNCTIONS.get(bare)
        if found is None:
            raise InputError(f"{kind} at {name}: not a local operation that can be streamed; {WAY_OUT}")
        return name, kind, found, node.args, in_place


def check_hooks(module: nn.Module, name: str) -> None:
    """Refuse forward hooks, which a stream would ignore silently."""
    if module._forward_hooks or module._forward_pre_hooks:
        raise InputError(
            f"{type(module).__name__} at {name}: has forward hooks, but a stream does not call them; remove them"
        )


def fuse_scaled_sums(graph: Graph) -> Graph:
    """Fuse ``x + number * y`` to one operation if no other layer reads the product; this saves a pass over memory."""
    layers, readers = list(graph.layers), graph.readers()
    for number, layer in enumerate(layers):
        total = layer.operation
        if not isinstance(total, Elementwise) or total.function is not torch.add or total.kwargs:
            continue
        if total.args != (Source(0), Source(1)) or layer.sources[0] == layer.sources[1]:
            continue
        for place in (1, 0):
            product = layers[layer.sources[place]]
            inner = product.operation
            if not isinstance(inner, Elementwise) or inner.function is not torch.mul or inner.args[0] != Source(0):
                continue
            if (
                len(product.sources) == 1
                and type(inner.args[1]) in (int, float)
                and len(readers[layer.sources[place]]) == 1
            ):
                fused = Elementwise(torch.add, total.args, {"alpha": inner.args[1]}, torch.add)
                layers[number] = Layer(layer.name, fused, (layer.sources[1 - place], product.sources[0]))
                break
    return Graph(tuple(layers), graph.spatial_dims)


def prune(graph: Graph, result: int) -> Graph:
    """Keep only the layers that the result needs; the result is the last layer."""
    needed, stack = {0}, [result]
    while stack:
        number = stack.pop()
        if number not in needed:
            needed.add(number)
            stack.extend(graph.layers[number].sources)
    numbers = {old: new for new, old in enumerate(sorted(needed))}
    layers = [graph.layers[old] for old in sorted(needed)]
    renumbered = [Layer(x.name, x.operation, tuple(numbers[source] for source in x.sources)) for x in layers]
    return Graph(tuple(renumbered), graph.spatial_dims)


def trace_generator(network: nn.Module) -> Graph:
    """Trace a network in evaluation mode.

    Args:
        network: see :class:`medsr_monai.upscaling.convolution.StreamedNetwork`.

    Returns:
        Its operations in the order in which a stream runs them.

    Raises:
        InputError: a layer cannot be streamed; the message names it, the reason and the way out.
    """
    if not isinstance(network, nn.Module):
        raise InputError(f"network of type {type(network).__name__}: streams need a torch.nn.Module; {WAY_OUT}")
    with evaluation_mode(network):
        root = nn.Sequential(network) if GeneratorTracer().is_leaf_module(network, "") else network
        try:
            traced = GeneratorTracer().trace(root)
        except InputError:
            raise
        except Exception as error:  # fx raises many kinds of exceptions for control flow that depends on the image
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise InputError(f"{type(network).__name__}: cannot be traced ({reason}); {WAY_OUT}") from error
    graph = GraphBuilder(root, traced).build()
    for axis in range(graph.spatial_dims):
        check_sizes(graph, axis)
    return graph


def check_sizes(graph: Graph, axis: int) -> None:
    """Refuse operations on images of different sizes."""
    factors = graph.factors(axis)
    for layer in graph.layers:
        if len({factors[source] for source in layer.sources}) > 1:
            raise InputError(f"{layer.name}: joins images of different scale along axis {axis}; {WAY_OUT}")
