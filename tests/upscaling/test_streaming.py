"""The streaming inferer gives the whole image's result within its budget, and says what it cannot do."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from monai.data import MetaTensor
from torch import Tensor, nn

from medsr_monai.networks import RRDBNet
from medsr_monai.system.errors import InputError
from medsr_monai.upscaling import ConsistentInferer, StreamingInferer, streaming
from medsr_monai.upscaling.convolution import StreamedNetwork


@pytest.fixture(scope="module")
def network() -> RRDBNet:
    torch.manual_seed(0)
    return RRDBNet(3, features=4, growth=2, dense_blocks=1, scale=(2, 1, 2)).eval()


def whole(network: nn.Module, image: Tensor) -> Tensor:
    with torch.no_grad():
        return network(image)


@pytest.mark.parametrize("size", [(1, 1, 1), (7, 5, 9), (24, 6, 3)])
@pytest.mark.parametrize("settings", [{}, {"axis": 2}, {"slab": 1}, {"axis": 1, "slab": 3}])
def test_result_of_the_whole_image(network: RRDBNet, size: tuple[int, ...], settings: dict) -> None:
    image = torch.rand(2, 1, *size)
    result = StreamingInferer(**settings)(image, network)
    expected = whole(network, image)
    assert result.shape == expected.shape and (result - expected).abs().max() <= 1e-5


def test_inside_the_projection(network: RRDBNet) -> None:
    image = MetaTensor(torch.rand(1, 1, 6, 7, 5))
    results = [ConsistentInferer(inner)(image, network) for inner in (None, StreamingInferer(slab=2))]
    assert torch.allclose(*results, atol=1e-5)


def test_budget_chooses_axis_and_slab(network: RRDBNet) -> None:
    image = torch.empty(1, 1, 12, 12, 60)
    plenty, little = StreamingInferer(memory_gb=1), StreamingInferer(memory_gb=6e-4)
    assert (plenty.plan(image, network).axis, plenty.plan(image, network).slab) == (2, 16)
    plan = little.plan(image, network)
    assert plan.axis == 2 and plan.slab < 32 and plan.recomputed == 0
    assert little._stream(network, 2, plan.slab).window_bytes(image.shape) <= 6e5


def test_strips_are_exact_and_their_cost_is_said_once(network: RRDBNet, caplog: pytest.LogCaptureFixture) -> None:
    image = torch.rand(1, 1, 6, 40, 36)
    inferer = StreamingInferer(axis=0, slab=1, memory_gb=6e-4)
    plan = inferer.plan(image, network)
    assert plan.recomputed > 0 and len(plan.strips[0]) == 1
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert (inferer(image, network) - whole(network, image)).abs().max() <= 1e-5
    assert len(caplog.records) == 1 and f"{100 * plan.recomputed:.0f} % more voxels" in caplog.text


def test_too_little_memory_is_said_with_what_is_needed(network: RRDBNet) -> None:
    with pytest.raises(InputError, match=r"memory_gb 1e-06: too little .* need [\d.e-]+ for the narrowest"):
        StreamingInferer(memory_gb=1e-6)(torch.rand(1, 1, 6, 20, 20), network)


def test_output_goes_where_it_is_told_to(network: RRDBNet) -> None:
    image = torch.rand(1, 1, 9, 5, 4)
    expected = whole(network, image)
    given = torch.empty_like(expected)
    assert StreamingInferer(slab=2, output=given)(image, network) is given
    assert torch.allclose(given, expected, atol=1e-5)
    collected = torch.full_like(expected, torch.nan)

    def collect(place: tuple[slice, ...], voxels: Tensor) -> None:
        assert collected[(..., *place)].isnan().all()
        collected[(..., *place)] = voxels

    assert StreamingInferer(slab=2, output=collect)(image, network) is None
    assert torch.allclose(collected, expected, atol=1e-5)


def test_an_image_that_is_read_when_indexed(network: RRDBNet) -> None:
    class OnDisk:
        shape, dtype = (1, 1, 9, 5, 4), torch.float32

        def __init__(self) -> None:
            self.image, self.most = torch.rand(self.shape), 0

        def __getitem__(self, index: tuple[Any, ...]) -> Tensor:
            part = self.image[index]
            self.most = max(self.most, part.shape[2])
            return part

    disk = OnDisk()
    expected = whole(network, disk.image)
    for place, voxels in StreamingInferer(axis=0, slab=2).stream(disk, network):
        assert torch.allclose(voxels, expected[(..., *place)], atol=1e-5)
    assert disk.most == 2


def test_progress_counts_voxels_and_an_interrupt_closes_it(
    network: RRDBNet, capsys: pytest.CaptureFixture[str]
) -> None:
    image = torch.rand(1, 1, 9, 5, 4)
    StreamingInferer(slab=3, progress=True)(image, network)
    assert "upscaling" in capsys.readouterr().err

    def interrupt(place: tuple[slice, ...], voxels: Tensor) -> None:
        raise KeyboardInterrupt

    inferer = StreamingInferer(slab=3, output=interrupt)
    with pytest.raises(KeyboardInterrupt):
        inferer(image, network)
    inferer.output = None
    assert torch.allclose(inferer(image, network), whole(network, image), atol=1e-5)


def test_networks_are_told_apart(network: RRDBNet) -> None:
    image, inferer = torch.rand(1, 1, 9, 5, 4), StreamingInferer(slab=2)
    for other in (network, nn.Conv3d(1, 1, 3, padding=1), network):
        assert torch.allclose(inferer(image, other), whole(other, image), atol=1e-5)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_low_precision_is_near(network: RRDBNet, precision: str) -> None:
    image = torch.rand(1, 1, 9, 5, 4)
    try:
        result = StreamingInferer(autocast=precision)(image, network)
    except RuntimeError as error:
        pytest.skip(f"this processor cannot: {error}")
    assert 0 < (result - whole(network, image)).abs().max() < 0.03


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"autocast": "int8"}, "autocast 'int8'"),
        ({"memory_gb": 0}, "memory_gb 0"),
        ({"slab": 0}, "slab 0"),
        ({"axis": 3}, "axis 3"),
    ],
)
def test_settings_out_of_range(network: RRDBNet, settings: dict, words: str) -> None:
    with pytest.raises(InputError, match=words):
        StreamingInferer(**settings)(torch.rand(1, 1, 2, 2, 2), network)


def test_image_of_other_dimensions(network: RRDBNet) -> None:
    with pytest.raises(InputError, match=r"\(1, 1, 4, 4\): need \(B, C\) and 3 spatial axes"):
        StreamingInferer()(torch.rand(1, 1, 4, 4), network)


def test_memory_is_kept_only_where_there_is_plenty(network: RRDBNet, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = []

    @contextlib.contextmanager
    def keeping() -> Iterator[None]:
        kept.append(True)
        yield

    monkeypatch.setattr(streaming, "keeping_freed_memory", keeping)
    image = torch.rand(1, 1, 40, 9, 8)
    needed = StreamedNetwork(network, 0, 4).window_bytes(image.shape) / 1e9
    for times, expected in ((2.9, 0), (3.1, 1)):
        StreamingInferer(axis=0, slab=4, memory_gb=times * needed)(image, network)
        assert len(kept) == expected


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_transfers_to_and_from_a_gpu(network: RRDBNet) -> None:
    image = torch.rand(1, 1, 40, 9, 8)
    expected = whole(network, image)
    try:
        network.to("cuda")
        for settings in ({"slab": 3}, {"axis": 2, "slab": 1}, {"compile": True, "slab": 4}):
            result = StreamingInferer(**settings)(image, network)
            assert result.device.type == "cpu" and (result - expected).abs().max() <= 1e-4
        assert StreamingInferer()(image.cuda(), network).device.type == "cuda"
    finally:
        network.to("cpu")
