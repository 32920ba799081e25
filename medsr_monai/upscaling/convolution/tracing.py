"""Trace a network to the graph of operations that a stream runs, or name the layer that cannot be streamed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from typing import Any

import torch
from torch import fx, nn

from medsr_monai.networks.blocks import PixelShuffle
from medsr_monai.networks.upsampling import CubicUpsampling
from medsr_monai.system.errors import InputError
from medsr_monai.system.json_files import first_line
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
        translate = {"placeholder": self._argument, "get_attr": self._constant, "output": self._result}
        for node in self.traced.nodes:
            self.values[node] = translate.get(node.op, self._call)(node)
        graph = fuse_scaled_sums(Graph(tuple(self.layers), self.spatial_dims))
        return prune(graph, self.values[node])

    def _argument(self, node: fx.Node) -> Any:
        if not self.layers:
            return self._add(Layer("input", None, ()))
        if not node.args:
            raise InputError(f"{type(self.network).__name__}.forward: needs '{node.target}' too; {WAY_OUT}")
        return node.args[0]  # the default value

    def _result(self, node: fx.Node) -> int:
        value = self.values.get(node.args[0]) if isinstance(node.args[0], fx.Node) else None
        if not isinstance(value, At) or value.layer == 0:
            raise InputError(f"{type(self.network).__name__}: must return one image computed from its input; {WAY_OUT}")
        return value.layer

    def _constant(self, node: fx.Node) -> torch.Tensor:
        value: Any = attrgetter(str(node.target))(self.network)
        if not isinstance(value, torch.Tensor):
            raise InputError(f"{node.target}: not a tensor; {WAY_OUT}")
        if any(size != 1 for size in value.shape[-self.spatial_dims :]):
            raise InputError(f"{node.target}: a constant that varies over the image; {WAY_OUT}")
        return value

    def _add(self, layer: Layer) -> At:
        self.layers.append(layer)
        return At(len(self.layers) - 1)

    def _call(self, node: fx.Node) -> At:
        """Translate one call. After an in-place call, later readers of its input get its result."""
        name, kind, translate, in_place = self._lookup(node)
        sources: list[int] = []

        def resolve(argument: Any) -> Any:
            if not isinstance(argument, fx.Node):
                return argument
            value = self.values[argument]
            if not isinstance(value, At):
                return value
            sources.append(value.layer)
            return Source(len(sources) - 1)

        args, kwargs = fx.node.map_aggregate((node.args, node.kwargs), resolve)
        try:
            operation = translate(Call(args, kwargs, self.spatial_dims))
        except Refusal as refusal:
            raise InputError(f"{kind} at {name}: {refusal}; {refusal.way_out or WAY_OUT}") from None
        if operation is SAME:
            return At(sources[0])
        if not sources:
            raise InputError(f"{kind} at {name}: does not depend on the input; {WAY_OUT}")
        new, old = self._add(Layer(name, operation, tuple(sources))), sources[0]
        if operation.is_view:
            self.views[new.layer] = old
        if in_place or kwargs.get("inplace"):
            if old in self.views or old in self.views.values():
                raise InputError(f"{kind} at {name}: works in place on a part of an image; {WAY_OUT}")
            if old == 0:
                raise InputError(f"{kind} at {name}: overwrites the input of the network; {WAY_OUT}")
            self.values = {other: new if value == At(old) else value for other, value in self.values.items()}
        return new

    def _lookup(self, node: fx.Node) -> tuple[str, str, Any, bool]:
        """Find the name, type and translation of a call, and whether it works in place."""
        if node.op == "call_module":
            name, module = str(node.target), self.modules[str(node.target)]
            kind, in_place = type(module).__name__, bool(getattr(module, "inplace", False))
            if module._forward_hooks or module._forward_pre_hooks:  # a stream would ignore them silently
                raise InputError(f"{kind} at {name}: has forward hooks, but a stream does not call them; remove them")
            found: Any = partial(MODULES[type(module)], module) if type(module) in MODULES else None
        else:
            name, key = owner(node), node.target
            kind = str(key) if isinstance(key, str) else getattr(key, "__name__", str(key))
            in_place = (kind.endswith("_") and not kind.endswith("__")) or kind in ("iadd", "isub", "imul", "itruediv")
            bare = kind.rstrip("_") if in_place and isinstance(key, str) else key
            found = FUNCTIONS.get(bare)
        if found is None:
            raise InputError(f"{kind} at {name}: not a local operation that can be streamed; {WAY_OUT}")
        return name, kind, found, in_place


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
    """Trace a network in evaluation mode to its operations, in the order in which a stream runs them.

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
            message = f"{type(network).__name__}: cannot be traced ({first_line(error)}); {WAY_OUT}"
            raise InputError(message) from error
    graph = GraphBuilder(root, traced).build()
    for axis in range(graph.spatial_dims):
        factors = graph.factors(axis)
        for layer in graph.layers:
            if len({factors[source] for source in layer.sources}) > 1:
                raise InputError(f"{layer.name}: joins images of different scale along axis {axis}; {WAY_OUT}")
    return graph
