"""One contract over every generator: shapes, geometry, receptive field, export, and initialisation."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from medsr_monai.networks import RRDBNet
from medsr_monai.networks.blocks import PixelShuffle
from medsr_monai.system.errors import InputError

TINY = {"features": 4, "growth": 2, "num_blocks": 1, "dense_blocks": 1}


@dataclass(frozen=True)
class Case:
    """A network, how it is built, and an input size that is odd or even as it pleases."""

    network: type[nn.Module]
    spatial_dims: int
    scale: int | Sequence[int]
    size: tuple[int, ...]
    arguments: dict[str, Any] = field(default_factory=dict)

    @property
    def scales(self) -> tuple[int, ...]:
        return (self.scale,) * self.spatial_dims if isinstance(self.scale, int) else tuple(self.scale)

    def build(self, seed: int = 0, **arguments: Any) -> nn.Module:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return self.network(
                self.spatial_dims, **{"scale": self.scale, **TINY, **self.arguments, **arguments}
            ).eval()

    def image(self, size: Sequence[int] | None = None, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        channels = self.arguments.get("in_channels", 1)
        return torch.randn(2, channels, *(size or self.size), generator=generator, dtype=torch.float64).to(dtype)


CASES = {
    "rrdb-2d-x2": Case(RRDBNet, 2, 2, (5, 7)),
    "rrdb-2d-x4": Case(RRDBNet, 2, (4, 4), (6, 4)),
    "rrdb-2d-x8": Case(RRDBNet, 2, 8, (3, 4)),
    "rrdb-2d-x1-x3": Case(RRDBNet, 2, (1, 3), (5, 4)),
    "rrdb-2d-two-blocks": Case(RRDBNet, 2, 2, (4, 5), {"num_blocks": 2, "dense_blocks": 2}),
    "rrdb-2d-five-channels-to-two": Case(RRDBNet, 2, 2, (5, 6), {"in_channels": 5, "out_channels": 2}),
    "rrdb-3d-x2": Case(RRDBNet, 3, 2, (3, 5, 4)),
    "rrdb-3d-x1": Case(RRDBNet, 3, 1, (3, 4, 5)),
    "rrdb-3d-through-plane": Case(RRDBNet, 3, (1, 1, 4), (5, 4, 3)),
    "rrdb-3d-mixed": Case(RRDBNet, 3, [2, 3, 1], (3, 2, 4)),
    "rrdb-3d-x8": Case(RRDBNet, 3, 8, (2, 1, 2)),
    "rrdb-3d-two-channels": Case(RRDBNet, 3, (2, 1, 2), (3, 4, 3), {"in_channels": 2, "out_channels": 2}),
}


@pytest.fixture(params=CASES)
def case(request) -> Case:
    return CASES[request.param]


def with_random_weights(network: nn.Module, deviation: float = 0.3, seed: int = 1) -> nn.Module:
    """Weights that are not small, so that nothing a network computes can hide."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            draw = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.copy_(draw * deviation)
    return network


def last_convolution(network: nn.Module) -> nn.Module:
    return [m for m in network.modules() if isinstance(m, (nn.Conv2d, nn.Conv3d))][-1]


def interpolate_linearly(image: np.ndarray, scales: Sequence[int]) -> np.ndarray:
    """Linear interpolation at the centres of the smaller voxels; beyond the outer centres the edge is repeated."""
    for axis, scale in enumerate(scales):
        size = image.shape[axis + 2]
        centres = (np.arange(size * scale) + 0.5) / scale - 0.5
        image = np.apply_along_axis(lambda line: np.interp(centres, np.arange(len(line)), line), axis + 2, image)  # noqa: B023
    return image


def assert_same(actual: Tensor, expected: Tensor, tolerance: float) -> None:
    """The largest difference, relative to the largest value."""
    assert actual.shape == expected.shape
    error = (actual - expected).abs().max() / expected.abs().max().clamp_min(1e-12)
    assert error <= tolerance, f"largest relative error {error:.2e}, allowed {tolerance:.0e}"


# ---- shapes


def test_output_is_the_scale_times_the_input(case):
    network = case.build()
    channels = case.arguments.get("out_channels", 1)
    one_voxel, thin = (1,) * case.spatial_dims, (1, *case.size[1:])
    for size in (case.size, tuple(n + 1 for n in case.size), thin, one_voxel):
        with torch.no_grad():
            sr = network(case.image(size))
        assert sr.shape == (2, channels, *(n * s for n, s in zip(size, case.scales, strict=True)))
        assert sr.isfinite().all()


@pytest.mark.parametrize("scale", range(1, 9))
@pytest.mark.parametrize("spatial_dims", [2, 3], ids=["2d", "3d"])
def test_every_scale_of_1_to_8_works_along_every_axis(spatial_dims, scale):
    for axis in range(spatial_dims):
        scales = tuple(scale if i == axis else 1 for i in range(spatial_dims))
        sr = RRDBNet(spatial_dims, scale=scales, **TINY)(torch.zeros(1, 1, *[3] * spatial_dims))
        assert sr.shape[2:] == tuple(3 * s for s in scales)


def test_the_scale_is_known_per_axis(case):
    assert tuple(case.build().scale) == case.scales


# ---- the output is a residual on an interpolation


def test_silent_tail_leaves_the_interpolation(case):
    network = with_random_weights(case.build())
    nn.init.zeros_(last_convolution(network).weight)
    nn.init.zeros_(last_convolution(network).bias)
    for size in (case.size, (1, *case.size[1:])):
        image = case.image(size)
        base = image[:, : case.arguments.get("out_channels", 1)].double().numpy()
        with torch.no_grad():
            assert_same(network(image).double(), torch.as_tensor(interpolate_linearly(base, case.scales)), 1e-6)


def test_sub_pixels_start_equal(case):
    """ICNR: at initialisation the residual is the same all over a low-resolution voxel, whatever the image."""
    network = case.build().double()
    image = case.image(dtype=torch.float64)
    base = interpolate_linearly(image[:, : case.arguments.get("out_channels", 1)].numpy(), case.scales)
    with torch.no_grad():
        residual = network(image) - torch.as_tensor(base)
    first_of_each = residual[(..., *(slice(None, None, s) for s in case.scales))]
    assert first_of_each.std() > 1e-6
    repeated = first_of_each
    for axis, s in enumerate(case.scales):
        repeated = repeated.repeat_interleave(s, dim=axis + 2)
    assert (residual - repeated).abs().max() <= 1e-12


def test_sub_pixels_of_constant_features_are_equal(case):
    tail = case.build().tail
    features = torch.full((1, TINY["features"], *[5] * case.spatial_dims), 0.7)
    with torch.no_grad():
        inner = tail(features)[(..., *(slice(2 * s, 3 * s) for s in case.scales))]  # away from the zero padding
    assert inner[0, 0].numel() == math.prod(case.scales)
    for channel in inner[0]:
        assert channel.max() - channel.min() <= 1e-7


def test_residual_starts_small(case):
    """Training begins near the interpolation, not somewhere at random."""
    image = case.image((8,) * case.spatial_dims)
    base = interpolate_linearly(image[:, : case.arguments.get("out_channels", 1)].numpy(), case.scales)
    with torch.no_grad():
        residual = case.build(features=16, growth=8)(image) - torch.as_tensor(base)
    assert 0 < residual.std() < 0.5 * image.std()


# ---- the receptive field

RECEPTIVE_FIELDS = {
    "2d-x2": (2, 2, {}),
    "2d-two-blocks": (2, (1, 3), {"num_blocks": 2}),
    "2d-two-dense-blocks": (2, 1, {"dense_blocks": 2}),
    "3d-through-plane": (3, (1, 1, 4), {"features": 2, "growth": 1}),
    "3d-x2": (3, 2, {"features": 1, "growth": 1}),
}


@pytest.mark.parametrize("name", RECEPTIVE_FIELDS)
def test_receptive_radius_is_neither_larger_nor_smaller(name):
    """Change one voxel: nothing farther away than the radius changes, and something exactly at the radius does."""
    spatial_dims, scale, arguments = RECEPTIVE_FIELDS[name]
    case = Case(RRDBNet, spatial_dims, scale, ())
    network = with_random_weights(case.build(**arguments).double(), deviation=0.4)
    radius = network.receptive_radius
    for axis in range(spatial_dims):
        size = [3] * spatial_dims
        size[axis] = 2 * radius + 5
        centre = [n // 2 for n in size]
        image = case.image(size, dtype=torch.float64)[:1]
        changed = image.clone()
        changed[(0, 0, *centre)] += 1.0
        with torch.no_grad():
            difference = (network(changed) - network(image)).abs()
        profile = difference.amax(dim=[d for d in range(difference.ndim) if d != axis + 2])
        profile = profile.reshape(size[axis], case.scales[axis]).amax(dim=1)
        distance = (torch.arange(size[axis]) - centre[axis]).abs()
        assert profile[distance > radius].max() <= 1e-13 * profile.max()
        assert (profile[distance == radius] > 1e-9 * profile.max()).all(), f"axis {axis}: {profile}"


def test_a_margin_of_the_receptive_radius_makes_a_crop_exact():
    case = Case(RRDBNet, 2, (2, 3), ())
    network = with_random_weights(case.build().double())
    radius = network.receptive_radius
    image = case.image((2 * radius + 7, 2 * radius + 9), dtype=torch.float64)
    with torch.no_grad():
        whole, crop = network(image), network(image[:, :, 2 : 2 * radius + 5, 3 : 2 * radius + 6])
    inner = [slice(radius * s, -radius * s) for s in case.scales]
    start = [(radius + offset) * s for offset, s in zip((2, 3), case.scales, strict=True)]
    part = whole[(..., *(slice(a, a + 3 * s) for a, s in zip(start, case.scales, strict=True)))]
    assert_same(crop[(..., *inner)], part, 1e-12)
    assert crop[(..., *inner)].shape[2:] == (6, 9)


# ---- tracing and export


@pytest.fixture
def trained(case) -> nn.Module:
    """A network whose residual is as large as its input, with sub-pixels that differ."""
    return with_random_weights(case.build(), deviation=0.2)


def other_size(case: Case) -> tuple[int, ...]:
    return tuple(n + 2 - i for i, n in enumerate(case.size))


def test_symbolic_trace_computes_the_same(case, trained):
    traced = torch.fx.symbolic_trace(trained)
    with torch.no_grad():
        for size in (case.size, other_size(case)):
            assert_same(traced(case.image(size)), trained(case.image(size)), 1e-6)


def test_torchscript_computes_the_same_at_any_size(case, trained):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        buffer = io.BytesIO()
        torch.jit.save(torch.jit.script(trained), buffer)
        buffer.seek(0)
        modules = [torch.jit.load(buffer), torch.jit.trace(trained, case.image(), check_trace=False)]
    with torch.no_grad():
        for size in (case.size, other_size(case)):
            for module in modules:
                assert_same(module(case.image(size)), trained(case.image(size)), 1e-6)


ONNX_CASES = ["rrdb-2d-x4", "rrdb-2d-five-channels-to-two", "rrdb-3d-x2", "rrdb-3d-through-plane"]


def export_to_onnx(case: Case, network: nn.Module, target: Any, dynamo: bool) -> None:
    """Export with every size of the input but its channels left open, by either of torch's exporters."""
    axes = {0: "batch"} | {axis + 2: f"n{axis}" for axis in range(case.spatial_dims)}
    if dynamo:
        sizes: dict[str, Any] = {"dynamic_shapes": [{axis: torch.export.Dim(name) for axis, name in axes.items()}]}
    else:
        sizes = {"dynamic_axes": {"lr": axes}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network, (case.image(),), target, input_names=["lr"], output_names=["sr"], dynamo=dynamo, **sizes
        )


@pytest.mark.parametrize(
    "dynamo", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["torchscript-exporter", "dynamo-exporter"]
)
@pytest.mark.parametrize("name", ONNX_CASES)
def test_onnx_export_runs_at_another_size(name, dynamo, tmp_path):
    for module in ("onnx", "onnxscript") if dynamo else ("onnx",):
        pytest.importorskip(module)
    onnxruntime = pytest.importorskip("onnxruntime")
    case = CASES[name]
    network = with_random_weights(case.build(), deviation=0.2)
    export_to_onnx(case, network, tmp_path / "network.onnx", dynamo)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(tmp_path / "network.onnx", options, providers=["CPUExecutionProvider"])
    for size in (case.size, other_size(case), (1, *case.size[1:])):
        image = case.image(size)[:1]
        (sr,) = session.run(None, {"lr": image.numpy()})
        with torch.no_grad():
            assert_same(torch.as_tensor(sr), network(image), 1e-5)


def test_channels_last_computes_the_same(case, trained):
    layout = torch.channels_last if case.spatial_dims == 2 else torch.channels_last_3d
    image = case.image()
    with torch.no_grad():
        expected = trained(image)
        assert_same(trained.to(memory_format=layout)(image.to(memory_format=layout)), expected, 1e-5)


# ---- weights and training


def test_state_dict_loads_as_plain_weights(case, trained):
    buffer = io.BytesIO()
    torch.save(trained.state_dict(), buffer)
    buffer.seek(0)
    other = case.build(seed=5)
    other.load_state_dict(torch.load(buffer, weights_only=True))
    with torch.no_grad():
        assert torch.equal(other(case.image()), trained(case.image()))


def test_there_is_no_normalisation_and_no_state_but_weights(case):
    network = case.build()
    kinds = {type(m).__name__ for m in network.modules()}
    assert not [kind for kind in kinds if "Norm" in kind or "Dropout" in kind]
    assert not list(network.buffers())
    image = case.image()
    with torch.no_grad():
        assert torch.equal(network.train()(image), network.eval()(image))
        assert_same(network(image)[:1], network(image[:1]), 1e-5)


def test_gradient_reaches_every_parameter(case):
    network = case.build().train()
    image = case.image().requires_grad_()
    network(image).square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, name
    assert image.grad.abs().max() > 0


def test_input_is_left_untouched(case, trained):
    image = case.image()
    trained(image)
    assert torch.equal(image, case.image())


def test_same_seed_builds_the_same_network(case):
    first, again, other = (case.build(seed).state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


# ---- parameters


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"spatial_dims": 1, "scale": (2,)}, "spatial_dims 1"),
        ({"spatial_dims": 4}, "spatial_dims 4"),
        ({"scale": 0}, "scale 0"),
        ({"scale": 9}, "scale 9"),
        ({"scale": -2}, "scale -2"),
        ({"scale": 2.5}, "scale 2.5"),
        ({"scale": None}, "scale None"),
        ({"scale": (2, 2)}, r"scale \(2, 2\)"),
        ({"scale": (2, 2, 2, 2)}, r"scale \(2, 2, 2, 2\)"),
        ({"scale": (1, 1, 1.5)}, "axis 2 has 1.5"),
        ({"scale": (1, 12, 1)}, "axis 1 has 12"),
        ({"scale": (1, 1, math.nan)}, "axis 2 has nan"),
        ({"in_channels": 0}, "in_channels"),
        ({"out_channels": 0}, "out_channels 0"),
        ({"in_channels": 1, "out_channels": 2}, r"out_channels 2.*in_channels \(1\)"),
        ({"features": 0}, "features 0"),
        ({"growth": 0}, "growth 0"),
        ({"num_blocks": 0}, "num_blocks 0"),
        ({"dense_blocks": 0}, "dense_blocks 0"),
    ],
    ids=lambda value: ",".join(f"{k}={v}" for k, v in value.items()) if isinstance(value, dict) else "named",
)
@pytest.mark.parametrize("network", [RRDBNet])
def test_bad_parameters_are_named(network, arguments, message):
    with pytest.raises(InputError, match=message):
        network(**{"spatial_dims": 3, "scale": 2, **TINY, **arguments})


def test_more_input_than_output_channels_only_inform_the_residual():
    """The first channels are upscaled; the others are seen by the network but not added to the output."""
    case = CASES["rrdb-2d-five-channels-to-two"]
    network = case.build()
    image = case.image()
    other = image.clone()
    other[:, 2:] += 1.0
    with torch.no_grad():
        assert not torch.equal(network(image), network(other))
        last_convolution(network).weight.zero_()
        assert torch.equal(network(image), network(other))


def test_pixel_shuffle_comes_last():
    for case in CASES.values():
        tail = list(case.build().tail)
        assert isinstance(tail[-1], PixelShuffle)
