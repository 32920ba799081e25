"""Tiles change nothing, and the result measured again is the measurement."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data import MetaTensor
from monai.inferers import SimpleInferer
from torch import Tensor, nn

from medsr_monai.acquisition import PROFILES, SeparableAcquisition
from medsr_monai.errors import InputError
from medsr_monai.inferers import (
    ConsistentInferer,
    FlipEnsembleInferer,
    TiledInferer,
    consistency_regularisation,
    cut_axis,
    plan_tiles,
)
from medsr_monai.networks import RRDBNet
from medsr_monai.networks.blocks import PixelShuffle, convolution


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


# ---- tiles


@pytest.mark.parametrize(
    "network, shape, max_voxels",
    [
        (rrdb(2, 2), (47, 30), 31 * 26),
        (rrdb(2, (1, 3)), (64, 9), 30 * 9),
        (rrdb(2, 4), (20, 41), 20 * 27),
        (rrdb(3, 2), (45, 4, 3), 28 * 4 * 3),
        (rrdb(3, (1, 1, 4)), (3, 5, 40), 3 * 5 * 25),
        (rrdb(3, (2, 3, 1)), (25, 2, 24), 22 * 2 * 22),
        (convolutions(3, (2, 2, 2)), (11, 9, 7), 6 * 6 * 6),
        (convolutions(3, (3, 1, 2), layers=1), (8, 9, 5), 27),
        (convolutions(2, (2, 2), layers=3), (30, 31), 100),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else str(value),
)
@torch.no_grad()
def test_tiles_give_what_the_whole_volume_gives(network, shape, max_voxels):
    lr = image(shape, batch=2)
    whole = network(lr)
    counting = Counting(network)
    tiled = TiledInferer(max_voxels)(lr, counting)
    assert len(counting.shapes) > 1 and max(map(math.prod, counting.shapes)) <= max_voxels
    assert tiled.shape == whole.shape
    assert float((tiled - whole).abs().max()) <= 1e-5 * float(whole.abs().max())


@settings(derandomize=True, deadline=None, max_examples=40)
@given(
    shape=st.tuples(*[st.integers(1, 10)] * 3),
    scale=st.tuples(*[st.integers(1, 3)] * 3),
    layers=st.integers(1, 2),
    max_voxels=st.integers(125, 500),
)
@torch.no_grad()
def test_tiles_of_any_shape_scale_and_size(shape, scale, layers, max_voxels):
    network = convolutions(3, scale, layers)
    lr = image(shape)
    whole = network(lr)
    tiled = TiledInferer(max_voxels)(lr, network)
    assert tiled.shape == whole.shape
    assert float((tiled - whole).abs().max()) <= 1e-5 * float(whole.abs().max())


@torch.no_grad()
def test_a_narrower_halo_would_show():
    """The comparisons above can fail: one voxel less of halo is visible."""
    network, lr = convolutions(3, (2, 2, 2), layers=3), image((16, 8, 8))
    whole = network(lr)
    network.receptive_radius -= 1
    assert float((TiledInferer(700)(lr, network) - whole).abs().max()) > 1e-3 * float(whole.abs().max())


@torch.no_grad()
def test_volume_that_fits_is_not_cut():
    counting = Counting(convolutions(2, (2, 2)))
    TiledInferer(max_voxels=8 * 9)(image((8, 9)), counting)
    assert counting.shapes == [(8, 9)]


@settings(derandomize=True, deadline=None, max_examples=100)
@given(
    shape=st.lists(st.integers(1, 100), min_size=1, max_size=3),
    halo=st.integers(0, 6),
    max_voxels=st.integers(0, 20_000),
)
def test_plan_partitions_the_volume_within_the_limit_or_says_that_it_cannot(shape, halo, max_voxels):
    smallest = math.prod(min(n, 2 * halo + 1) for n in shape)
    try:
        plan = plan_tiles(shape, halo, max_voxels)
    except InputError as error:
        assert smallest > max_voxels and str(max_voxels) in str(error) and str(halo) in str(error)
        return
    assert len(plan) == len(shape)
    for size, cuts in zip(shape, plan, strict=True):
        owned = [n for view, own in cuts for n in range(view.start + own.start, view.start + own.stop)]
        assert owned == list(range(size)), "every voxel belongs to exactly one tile"
        for view, own in cuts:
            assert own.start == min(halo, view.start + own.start), "halo before, or the border"
            assert view.stop == min(size, view.start + own.stop + halo), "halo after, or the border"
    assert math.prod(max(v.stop - v.start for v, _ in cuts) for cuts in plan) <= max_voxels
    if math.prod(shape) <= max_voxels:
        assert all(len(cuts) == 1 for cuts in plan)


def test_plan_computes_the_fewest_voxels():
    """A long volume is cut across, where a cut costs least."""
    assert [len(cuts) for cuts in plan_tiles((60, 10, 10), 2, 3400)] == [2, 1, 1]
    assert [len(cuts) for cuts in plan_tiles((10, 60, 10), 2, 3400)] == [1, 2, 1]


def test_tiles_too_small_for_the_halo_are_refused():
    with pytest.raises(InputError, match="tiles of 26 voxels are too small for a receptive radius of 1"):
        plan_tiles((9, 9, 9), 1, 26)
    assert len(plan_tiles((9, 9, 9), 1, 27)[0]) == 9


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
def test_tiles_and_consistency_together():
    lr, network = image((14, 9, 8)), convolutions(3, (2, 2, 2))
    tiled = ConsistentInferer(TiledInferer(max_voxels=400))(lr, network)
    torch.testing.assert_close(tiled, ConsistentInferer(SimpleInferer())(lr, network), rtol=0, atol=1e-5)


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


@pytest.mark.parametrize("axes", [2, 3])
def test_every_mirroring_is_there_once(axes):
    mirrorings = FlipEnsembleInferer.mirrorings(axes)
    assert len(mirrorings) == len({tuple(dims) for dims in mirrorings}) == 2**axes
    assert mirrorings[0] == []


def test_a_whole_ensemble_commutes_with_mirroring():
    torch.manual_seed(0)
    network = RRDBNet(3, features=4, growth=4).eval()
    inferer = FlipEnsembleInferer(TiledInferer(), 8)
    image = torch.rand(1, 1, 5, 6, 4)
    with torch.no_grad():
        direct, mirrored = inferer(image, network), inferer(image.flip(2, 4), network).flip(2, 4)
        single = TiledInferer()(image, network)
    assert (direct - mirrored).abs().max() < 1e-6
    assert (direct - single).abs().max() > 1e-6


@pytest.mark.parametrize("size", [0, -1, 1.5, True, "two"])
def test_an_ensemble_of_no_whole_size_is_refused(size):
    with pytest.raises(InputError, match="ensemble"):
        FlipEnsembleInferer(TiledInferer(), size)
