"""Whether a network can be streamed or not, the result is that of the whole image."""

from __future__ import annotations

import logging

import pytest
import torch
from torch import nn

from medsr_monai.networks import RRDBNet
from medsr_monai.system.errors import InputError
from medsr_monai.upscaling import ConsistentInferer, StreamOrWholeInferer, is_exact


def whole_and_inferred(network: nn.Module, inferer: StreamOrWholeInferer) -> tuple[torch.Tensor, torch.Tensor]:
    image = torch.rand(1, 1, 7, 6, 5, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return network.eval()(image), inferer(image, network)


def test_a_convolutional_network_is_streamed(monkeypatch: pytest.MonkeyPatch) -> None:
    inferer = StreamOrWholeInferer(slab=2)
    streams = []
    stream = inferer.streaming.stream
    monkeypatch.setattr(inferer.streaming, "stream", lambda *given: streams.append(given) or stream(*given))
    whole, inferred = whole_and_inferred(RRDBNet(3, features=4, growth=4, dense_blocks=1), inferer)
    assert (whole - inferred).abs().max() < 1e-5 and len(streams) == 1
    assert is_exact(ConsistentInferer(inferer))


def test_another_one_sees_the_whole_image_and_a_line_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    inferer, network = StreamOrWholeInferer(), nn.Sequential(nn.Conv3d(1, 2, 1), nn.InstanceNorm3d(2))
    for _ in range(2):
        whole, inferred = whole_and_inferred(network, inferer)
        assert torch.equal(whole, inferred)
    assert ["InstanceNorm3d at 1" in record.message for record in caplog.records] == [True]


def test_too_little_memory_to_stream_is_no_reason_to_take_more() -> None:
    with pytest.raises(InputError, match="too little"):
        whole_and_inferred(RRDBNet(3, features=4, growth=4, dense_blocks=1), StreamOrWholeInferer(memory_gb=1e-9))
