"""Strips are even, and the result measured again is the measurement."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.inferers import SimpleInferer, SlidingWindowInferer
from torch import Tensor, nn

from medsr_monai.acquisition import PROFILES, SeparableAcquisition
from medsr_monai.networks import RRDBNet
from medsr_monai.networks.blocks import PixelShuffle, convolution
from medsr_monai.system.errors import InputError
from medsr_monai.upscaling import (
    ConsistentInferer,
    StreamingInferer,
    consistency_regularisation,
    cut_axis,
    is_exact,
)


class Convolutions(nn.Module):
    """A generator with a receptive radius to choose, whose outermost weights count."""

    def __init__(self, spatial_dims: int, scale: Sequence[int], layers: int) -> None:
        super().__init__()
        self.scale = tuple(scale)
        self.receptive_radius = layers
        channels = [1] + [2] * (layers - 1) + [math.prod(scale)]
        self.body = nn.Sequential(
            *(convolution(spatial_dims, *pair) for pair in itertools.pairwise(channels)), PixelShuffle(scale)
        )
        for parameter in self.parameters():
            nn.init.uniform_(parameter, 0.0, 2 / parameter.shape[0] / 3**spatial_dims)

    def forward(self, image: Tensor) -> Tensor:
        return self.body(image)


def convolutions(spatial_dims: int, scale: Sequence[int], layers: int = 2) -> Convolutions:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Convolutions(spatial_dims, scale, layers).eval()


def rrdb(spatial_dims: int, scale: int | Sequence[int]) -> RRDBNet:
    """A small one, with branches as strong as after training."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = RRDBNet(spatial_dims, scale=scale, features=4, growth=4, dense_blocks=1, residual_scale=1.0).eval()
        for parameter in network.parameters():
            nn.init.normal_(parameter, std=0.15)
    return network


def image(shape: Sequence[int], batch: int = 1, channels: int = 1, seed: int = 0) -> Tensor:
    return torch.rand(batch, channels, *shape, generator=torch.Generator().manual_seed(seed))


class Counting:
    """A network that notes the shapes it was given."""

    def __init__(self, network: nn.Module) -> None:
        self.network, self.scale, self.receptive_radius = network, network.scale, network.receptive_radius
        self.shapes: list[tuple[int, ...]] = []

    def __call__(self, tile: Tensor) -> Tensor:
        self.shapes.append(tuple(tile.shape[2:]))
        return self.network(tile)


# ---- strips


def test_cut_axis_is_even():
    for size, tiles in [(10, 3), (64, 7), (5, 5)]:
        sizes = [own.stop - own.start for _, own in cut_axis(size, tiles, 2)]
        assert sum(sizes) == size and len(sizes) == tiles and max(sizes) - min(sizes) <= 1


# ---- consistency


def measured_again(sr: Tensor, shape: Sequence[int], profile: str) -> Tensor:
    return SeparableAcquisition.from_profile(sr.shape[2:], shape, profile).forward(sr)


def consistency_error(sr: Tensor, lr: Tensor, profile: str) -> float:
    """Largest error as a share of the measurement's range."""
    return float((measured_again(sr, lr.shape[2:], profile) - lr).abs().max() / (lr.max() - lr.min()))


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("scale", [(2, 2, 2), (1, 1, 4), (3, 1, 2)])
@torch.no_grad()
def test_result_reproduces_the_measurement(profile, scale):
    lr, network = 3000 * image((6, 7, 8)) - 700, rrdb(3, scale)
    sr = ConsistentInferer(profile=profile)(lr, network)
    assert sr.shape == network(lr).shape and sr.dtype == torch.float32
    assert consistency_error(network(lr), lr, profile) > 1e-2, "the network alone must not already do it"
    assert consistency_error(sr, lr, profile) <= 1e-4


@pytest.mark.parametrize("profile", ["box", "kspace"])
@torch.no_grad()
def test_no_other_consistent_image_is_nearer(profile):
    lr, network = image((5, 6)), rrdb(2, 2)
    sr, raw = ConsistentInferer(profile=profile)(lr, network), network(lr)
    acquisition = SeparableAcquisition.from_profile(sr.shape[2:], lr.shape[2:], profile)
    other = acquisition.project(sr + image(sr.shape[2:], seed=4), lr)
    assert consistency_error(other, lr, profile) <= 1e-4
    assert float((sr - raw).norm()) < float((other - raw).norm())


@torch.no_grad()
def test_none_leaves_the_networks_result_alone():
    lr, network = image((6, 5, 4)), rrdb(3, 2)
    assert torch.equal(ConsistentInferer(regularisation=None)(lr, network), network(lr))


@pytest.mark.parametrize("profile", PROFILES)
@torch.no_grad()
def test_damping_lies_in_between(profile):
    lr, network = image((6, 6, 6)), rrdb(3, 2)
    errors = [
        consistency_error(ConsistentInferer(profile=profile, regularisation=damping)(lr, network), lr, profile)
        for damping in (0.0, 0.01, 0.1, 1.0, 100.0, None)
    ]
    assert errors == sorted(errors) and len(set(errors)) == len(errors)
    if profile == "box":
        # A A^T is the identity times its largest singular value: the damped error is damping / (1 + damping) of it.
        assert errors[2] == pytest.approx(errors[-1] * 0.1 / 1.1, rel=1e-3)


@torch.no_grad()
def test_streams_and_consistency_together():
    lr, network = image((14, 9, 8)), convolutions(3, (2, 2, 2))
    streamed = ConsistentInferer(StreamingInferer(slab=3))(lr, network)
    torch.testing.assert_close(streamed, ConsistentInferer(SimpleInferer())(lr, network), rtol=0, atol=1e-5)


@torch.no_grad()
def test_only_the_mean_of_an_ensemble_is_projected():
    series, network = image((5, 6, 4), channels=2), rrdb(3, 2)
    inner = StreamingInferer(ensemble=8, deviation=True)
    mean, deviation = ConsistentInferer(inner)(series, network)
    assert mean.shape == deviation.shape == (1, 2, 10, 12, 8)
    assert consistency_error(mean, series, "box") <= 1e-4
    for channel in range(2):
        raw = inner(series[:, channel : channel + 1], network)
        torch.testing.assert_close(deviation[:, channel], raw[:, 1])
    assert deviation.min() >= 0 and deviation.max() > 1e-3


def test_what_is_exact():
    window = SlidingWindowInferer(8)
    assert (
        is_exact(StreamingInferer()) and is_exact(ConsistentInferer(StreamingInferer())) and is_exact(SimpleInferer())
    )
    assert not is_exact(window) and not is_exact(ConsistentInferer(window))


@torch.no_grad()
def test_series_is_upscaled_volume_by_volume():
    network = rrdb(3, (2, 1, 2))
    series = image((5, 4, 6), batch=2, channels=3)
    counting = Counting(network)
    together = ConsistentInferer()(series, counting)
    assert together.shape == (2, 3, 10, 4, 12)
    assert counting.shapes == [(5, 4, 6)] * 6
    for b, c in itertools.product(range(2), range(3)):
        alone = ConsistentInferer()(series[b : b + 1, c : c + 1], network)
        torch.testing.assert_close(together[b : b + 1, c : c + 1], alone, rtol=0, atol=1e-6)


@torch.no_grad()
def test_images_with_meta_data_are_taken():
    lr, network = image((5, 4, 6)), rrdb(3, 2)
    sr = ConsistentInferer()(MetaTensor(lr, affine=2 * torch.eye(4)), network)
    assert torch.equal(torch.as_tensor(sr), ConsistentInferer()(lr, network))


@torch.no_grad()
def test_half_precision_result_is_projected_in_full():
    lr = image((6, 6, 6))
    network = convolutions(3, (2, 2, 2))
    half = Counting(network)
    half.network = lambda tile: network(tile).half()
    assert consistency_error(ConsistentInferer()(lr, half), lr, "box") <= 1e-5


# ---- what the config says


@pytest.mark.parametrize(
    "consistency, expected",
    [
        (None, None),
        ("none", None),
        ("None", None),
        ("exact", 0.0),
        ("EXACT", 0.0),
        (0, 0.0),
        (0.25, 0.25),
        ("0.1", 0.1),
        ("1e-3", 1e-3),
        (np.float32(0.5), 0.5),
    ],
)
def test_consistency_is_none_exact_or_a_damping(consistency, expected):
    value = consistency_regularisation(consistency)
    assert value == expected and type(value) is type(expected)


@pytest.mark.parametrize("consistency", [-1, "-0.1", math.nan, "nan", math.inf, "inf", "exactly", "", "0,1", [0.1]])
def test_consistency_of_another_kind_is_refused(consistency):
    with pytest.raises(InputError, match=r"consistency '.*': must be none, exact, or a damping of 0 or more"):
        consistency_regularisation(consistency)


def test_a_whole_ensemble_commutes_with_mirroring():
    torch.manual_seed(0)
    network = RRDBNet(3, features=4, growth=4).eval()
    inferer = StreamingInferer(ensemble=8)
    image = torch.rand(1, 1, 5, 6, 4)
    with torch.no_grad():
        direct, mirrored = inferer(image, network), inferer(image.flip(2, 4), network).flip(2, 4)
        single = network(image)
    assert (direct - mirrored).abs().max() < 1e-6
    assert (direct - single).abs().max() > 1e-6
