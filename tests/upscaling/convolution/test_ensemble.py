"""A network with mirrored weights is the network applied to the mirrored image; ensembles stream side by side."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from medsr_monai.networks.blocks import PixelShuffle
from medsr_monai.system.errors import InputError
from medsr_monai.upscaling import StreamingInferer
from medsr_monai.upscaling.convolution import StreamedEnsemble, StreamedNetwork, Symmetry, symmetries
from tests.upscaling.convolution.generators import RandomGenerator, stream_whole, whole_image


def naive(network, image, symmetry):
    """Exchange and mirror the axes of an image, apply the network, and undo both in the result."""
    order, mirrored = np.argsort(symmetry.permutation), [2 + axis for axis in symmetry.mirrored]
    turned = image.permute(0, 1, *(2 + order).tolist()).flip(mirrored)
    return whole_image(network, turned).flip(mirrored).permute(0, 1, *(2 + axis for axis in symmetry.permutation))


@pytest.fixture(scope="module")
def network():
    """Kernels, dilations and pads that differ along the axes, at a scale that all share."""
    torch.manual_seed(1)
    network = RandomGenerator(3, np.random.default_rng(5))
    channels = network.late.in_channels
    network.late = torch.nn.Conv3d(channels, 16, (3, 1, 5), padding=(1, 0, 2))
    network.scale, network.kind = [2, 2, 2], "shuffle"
    network.shuffle = PixelShuffle((2, 2, 2))
    network.tail = torch.nn.Conv3d(2, 1, (1, 3, 5), padding="same")
    return network.eval()


@pytest.mark.parametrize("symmetry", symmetries((2, 2, 2)), ids=str)
def test_every_one_of_the_48(network, symmetry):
    axis = sum(symmetry.mirrored) % 3
    image = torch.rand(1, 2, 4, 5, 3)
    streamed = StreamedNetwork(network, axis, 2, symmetry=symmetry)
    expected = naive(network, image, symmetry)
    assert (stream_whole(streamed, image) - expected).abs().max() <= 1e-5 * float(expected.abs().max())


def test_they_are_all_different(network):
    image = torch.rand(1, 2, 4, 4, 4)
    results = torch.stack([naive(network, image, symmetry) for symmetry in symmetries((2, 2, 2))])
    assert len(results) == 48 and results.unique(dim=0).shape[0] == 48


@pytest.mark.parametrize("seed", range(6))
def test_mean_and_deviation_of_any_network(seed):
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    dims = 2 + seed % 2
    generator = RandomGenerator(dims, rng).eval()
    chosen = symmetries(generator.scale)
    image = torch.rand(1, 2, *(6, 5, 4)[:dims])
    members = torch.stack([naive(generator, image, symmetry) for symmetry in chosen])
    expected = torch.cat((members.mean(0), members.std(0, correction=0)), dim=1)
    axis = seed % dims
    single = [StreamedNetwork(generator, axis, 1 + seed % 3, symmetry=symmetry) for symmetry in chosen]
    result = stream_whole(StreamedEnsemble(single, deviation=True), image)
    assert (result - expected).abs().max() <= 1e-5 * max(1.0, float(expected.abs().max()))


def test_the_inferer_averages_and_says_how_many_there_are(network):
    image = torch.rand(1, 2, 5, 4, 6)
    members = torch.stack([naive(network, image, symmetry) for symmetry in symmetries((2, 2, 2))[:8]])
    result = StreamingInferer(slab=2, ensemble=8, deviation=True)(image, network)
    assert result.shape == (1, 2, 10, 8, 12)
    torch.testing.assert_close(result[:, :1], members.mean(0), rtol=0, atol=1e-5)
    torch.testing.assert_close(result[:, 1:], members.std(0, correction=0), rtol=0, atol=1e-5)
    with pytest.raises(InputError, match=r"ensemble 49: a network of scale .* has 48 symmetries"):
        StreamingInferer(ensemble=49)(image, network)


def test_members_count_in_the_estimate_of_memory(network):
    single = [StreamedNetwork(network, 0, 4, symmetry=symmetry) for symmetry in symmetries((2, 2, 2))[:8]]
    shape = (1, 2, 64, 20, 20)
    one, eight = StreamedEnsemble(single[:1]).window_bytes(shape), StreamedEnsemble(single).window_bytes(shape)
    assert one < eight < 8 * one


@pytest.mark.parametrize(
    ("scale", "count"), [((2, 2, 2), 48), ((1, 1, 4), 16), ((1, 2, 3), 8), ((2, 2), 8), ((1, 4), 4)]
)
def test_symmetries_keep_the_scale(scale, count):
    found = symmetries(scale)
    assert len(found) == len(set(found)) == count
    assert found[0] == Symmetry(tuple(range(len(scale))), ()) and all(
        s.permutation == found[0].permutation for s in found[: 2 ** len(scale)]
    )


@pytest.mark.parametrize("size", [0, -1, 1.5, True, "two"])
def test_an_ensemble_of_no_whole_size_is_refused(size):
    with pytest.raises(InputError, match="ensemble"):
        StreamingInferer(ensemble=size)
    with pytest.raises(InputError, match="uncertainty: needs an ensemble"):
        StreamingInferer(deviation=True)
