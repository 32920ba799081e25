"""A stream gives the result of the whole image, computes nothing twice and holds a bounded window."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from medsr_monai.networks import RRDBNet
from medsr_monai.networks.upsampling import CubicUpsampling
from medsr_monai.system.errors import InputError
from medsr_monai.upscaling.convolution import StreamedNetwork, operations
from medsr_monai.upscaling.convolution.operations import convolution_function
from tests.upscaling.convolution.generators import RandomGenerator, stream_whole, whole_image

TOLERANCE = 1e-5


def assert_equal(result: Tensor, expected: Tensor) -> None:
    assert result.shape == expected.shape
    assert (result - expected).abs().max() <= TOLERANCE * max(1.0, float(expected.max() - expected.min()))


@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_stream_equals_the_whole_image_for_random_networks(data: st.DataObject) -> None:
    dims = data.draw(st.sampled_from([2, 3]), "dims")
    seed = data.draw(st.integers(0, 10**6), "seed")
    torch.manual_seed(seed)
    network = RandomGenerator(dims, np.random.default_rng(seed)).eval()
    size = [data.draw(st.integers(1, 9), "size") for _ in range(dims)]
    axis = data.draw(st.integers(0, dims - 1), "axis")
    size[axis] = data.draw(st.integers(1, 24), "extent")
    image = torch.rand(data.draw(st.integers(1, 2), "batch"), 2, *size)
    slab = data.draw(st.integers(1, size[axis]), "slab")
    last = data.draw(st.booleans(), "channels last")
    streamed = StreamedNetwork(network, axis, slab, channels_last=last)
    assert streamed.scale == tuple(network.scale)
    assert_equal(stream_whole(streamed, image), whole_image(network, image))


@pytest.mark.parametrize(("dims", "scale"), [(3, (2, 2, 2)), (3, (1, 1, 4)), (2, (4, 4)), (2, (3, 1))])
@pytest.mark.parametrize("slab", [1, 3, 16])
def test_rrdb_networks(dims: int, scale: tuple[int, ...], slab: int) -> None:
    torch.manual_seed(0)
    network = RRDBNet(dims, 2, 1, scale, features=4, growth=3, num_blocks=1, dense_blocks=1).eval()
    for size, axis in itertools.product([(1, 2, 3), (5, 7, 6), (19, 4, 5)], range(dims)):
        image = torch.rand(1, 2, *size[:dims])
        assert_equal(stream_whole(StreamedNetwork(network, axis, slab), image), whole_image(network, image))


def test_training_mode_and_weights_are_left_alone_and_followed() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.BatchNorm2d(2), nn.Dropout(0.5), nn.Conv2d(2, 1, 1))
    network.train()
    streamed = StreamedNetwork(network, 0, 2)
    assert all(module.training for module in network.modules())
    image = torch.rand(2, 1, 7, 5)
    before = stream_whole(streamed, image)
    assert network[1].num_batches_tracked == 0
    with torch.no_grad():
        network[0].weight.mul_(2)
    after = stream_whole(streamed, image)
    assert not torch.allclose(before, after)
    assert_equal(after, whole_image(network, image))


def test_in_place_operations_change_what_later_layers_read() -> None:
    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.relu = nn.Conv2d(1, 3, 3, padding=1), nn.ReLU(inplace=True)

        def forward(self, image: Tensor) -> Tensor:
            maps = self.conv(image)
            early = maps * 3
            late = self.relu(maps)
            maps.mul_(2)
            return early + torch.cat((late, maps), dim=1)[:, 1:4]

    torch.manual_seed(1)
    network, image = Network(), torch.rand(1, 1, 6, 6)
    assert_equal(stream_whole(StreamedNetwork(network, 1, 2), image), whole_image(network, image))


def test_the_input_is_not_changed() -> None:
    network = nn.Sequential(nn.Upsample(scale_factor=2, mode="bilinear"), nn.LeakyReLU(inplace=True))
    image = torch.randn(1, 1, 5, 4)
    copy = image.clone()
    assert_equal(stream_whole(StreamedNetwork(network, 0, 2), image), whole_image(network, image))
    assert torch.equal(image, copy)


def convolved_voxels(streamed: StreamedNetwork, extent: int) -> list[int]:
    schedule = streamed.schedule(extent)
    return [sum(step[i].fresh for step in schedule.steps()) for i in range(len(streamed.graph.layers))]


@pytest.mark.parametrize("slab", [1, 4, 50])
def test_no_convolution_computes_a_voxel_twice(slab: int, monkeypatch: pytest.MonkeyPatch) -> None:
    network = RRDBNet(2, features=4, growth=2).eval()
    image = torch.rand(1, 1, 37, 6)
    counted = 0

    def counting(weight: Tensor) -> Callable[..., Tensor]:
        def convolve(*args: Any) -> Tensor:
            nonlocal counted
            result = convolution_function(weight)(*args)
            counted += result.numel()
            return result

        return convolve

    monkeypatch.setattr(operations, "convolution_function", counting)
    stream_whole(StreamedNetwork(network, 0, slab), image)
    expected = sum(conv.out_channels for conv in network.modules() if isinstance(conv, nn.Conv2d)) * 37 * 6
    assert counted == expected


def test_all_steps_but_those_at_the_ends_are_equal_and_none_does_more() -> None:
    streamed = StreamedNetwork(RRDBNet(3, features=4, growth=2, dense_blocks=1), 0, 3)
    schedule = streamed.schedule(120)
    steps, constant = list(schedule.steps()), schedule.constant_step()
    ends = 2 * (-(-sum(streamed.receptive_radius[0]) // 3) + 1)
    assert sum(step == constant for step in steps) >= len(steps) - ends
    for step in steps:
        for task, usual, factor in zip(step, constant, schedule.factors, strict=True):
            assert task.fresh <= usual.fresh == 3 * factor
            assert task.held + task.fresh <= usual.held + usual.fresh and task.kept <= usual.kept


def test_receptive_radius_is_that_of_the_network() -> None:
    network = RRDBNet(3, features=4, growth=2, dense_blocks=1)
    radius = network.receptive_radius
    assert StreamedNetwork(network).receptive_radius == ((radius, radius),) * 3


def peak_of_allocations(streamed: StreamedNetwork, image: Tensor) -> int:
    """Most bytes that tensors took at a time, from PyTorch's own record of allocations."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        for _ in streamed.stream(
            lambda a, b: image.narrow(2 + streamed.axis, a, b - a), image.shape[2 + streamed.axis]
        ):
            pass
    events = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    now = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    return peak


@pytest.mark.parametrize("slab", [3, 16])
def test_window_bytes_bound_the_memory_taken(slab: int) -> None:
    network = RRDBNet(3, features=8, growth=4, dense_blocks=1).eval()
    streamed = StreamedNetwork(network, 0, slab, channels_last=True)
    peaks = [peak_of_allocations(streamed, torch.rand(1, 1, extent, 24, 24)) for extent in (48, 96)]
    estimate = streamed.window_bytes((1, 1, 96, 24, 24))
    assert max(peaks) <= estimate <= 1.6 * max(peaks)
    assert peaks[1] <= 1.05 * peaks[0]


@pytest.mark.parametrize("slab", [1, 8])
def test_window_bytes_bound_the_memory_of_a_cubic_interpolation(slab: int) -> None:
    network = nn.Sequential(CubicUpsampling((2, 2, 2)), nn.BatchNorm3d(1)).eval()
    streamed = StreamedNetwork(network, 0, slab, channels_last=True)
    peak = peak_of_allocations(streamed, torch.rand(1, 1, 40, 24, 24))
    assert peak <= streamed.window_bytes((1, 1, 40, 24, 24)) <= 2.5 * peak


def test_autocast_computes_convolutions_in_low_precision() -> None:
    torch.manual_seed(0)
    network, image = RRDBNet(2, features=8, growth=4).eval(), torch.rand(1, 1, 20, 12)
    streamed = StreamedNetwork(network, 0, 6, autocast=torch.bfloat16)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        expected = network(image)
        around = stream_whole(StreamedNetwork(network, 0, 6), image)
    result = stream_whole(streamed, image)
    assert result.dtype == expected.dtype and torch.equal(around, result)
    # Sums are rounded at other places than in the network, by the same precision.
    exact = whole_image(network, image)
    assert 0 < (result - exact).abs().max() <= 2 * (expected - exact).abs().max()


def test_compiled_steps_give_the_same() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.LeakyReLU(), nn.Conv2d(2, 1, 3, padding=1)).eval()
    image = torch.rand(1, 1, 40, 6)
    torch.compiler.reset()
    streamed = StreamedNetwork(network, 0, 4, compile_backend="aot_eager")
    for factor in (1, 2):  # weights that change are followed
        with torch.no_grad():
            network[0].weight.mul_(factor)
        assert_equal(stream_whole(streamed, image), whole_image(network, image))
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0


@pytest.mark.parametrize(
    ("arguments", "words"), [({"axis": 2}, "axis 2"), ({"slab": 0}, "slab 0"), ({"slab": 1.5}, "slab 1.5")]
)
def test_arguments_out_of_range(arguments: dict, words: str) -> None:
    with pytest.raises(InputError, match=words):
        StreamedNetwork(nn.Conv2d(1, 1, 1), **arguments)


def test_slabs_of_the_wrong_shape_are_named() -> None:
    streamed = StreamedNetwork(nn.Conv2d(1, 1, 1), 0, 4)
    with pytest.raises(InputError, match=r"need .* 4 slices along axis 0"):
        next(streamed.stream(lambda start, stop: torch.rand(1, 1, 3, 5), 9))
    with pytest.raises(InputError, match="0 slices"):
        next(streamed.stream(lambda start, stop: torch.rand(1, 1, 3, 5), 0))
