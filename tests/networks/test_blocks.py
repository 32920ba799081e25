"""The blocks by themselves: sub-pixel order, initialisation, residual scaling."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch.nn import functional

from medsr_monai.networks.blocks import (
    RRDB,
    PixelShuffle,
    ResidualDenseBlock,
    convolution,
    initialise_icnr_,
    scale_per_axis,
)
from medsr_monai.system.errors import InputError


def draw(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_pixel_shuffle_in_2d_is_that_of_torch(factor):
    image = draw(2, 3 * factor**2, 4, 5)
    assert torch.equal(PixelShuffle((factor, factor))(image), functional.pixel_shuffle(image, factor))


@pytest.mark.parametrize("scale", [(2, 3), (1, 4), (2, 1, 3), (1, 1, 4), (2, 2, 2)], ids=str)
def test_pixel_shuffle_puts_every_channel_where_it_belongs(scale):
    size, channels = (2, 3, 4)[: len(scale)], 2
    factor = int(np.prod(scale))
    image = draw(1, channels * factor, *size)
    shuffled = PixelShuffle(scale)(image)
    assert shuffled.shape == (1, channels, *(n * s for n, s in zip(size, scale, strict=True)))
    for channel in range(channels):
        for i, offset in enumerate(itertools.product(*(range(s) for s in scale))):
            phase = shuffled[(0, channel, *(slice(o, None, s) for o, s in zip(offset, scale, strict=True)))]
            assert torch.equal(phase, image[0, channel * factor + i])


@pytest.mark.parametrize("spatial_dims, kernel_size", [(2, 3), (3, 3), (2, 1), (3, 5)])
def test_convolution_keeps_the_size(spatial_dims, kernel_size):
    size = (4, 1, 6)[:spatial_dims]
    assert convolution(spatial_dims, 2, 3, kernel_size)(draw(1, 2, *size)).shape == (1, 3, *size)


@pytest.mark.parametrize("scale, expected", [(2, (2, 2, 2)), ((1, 1, 4), (1, 1, 4)), ([8, 1, 3], (8, 1, 3))], ids=str)
def test_scale_is_one_integer_per_axis(scale, expected):
    assert scale_per_axis(scale, 3) == expected


def test_scale_may_come_from_numpy():
    scale = scale_per_axis(np.array([1, 2, 4]), 3)
    assert scale == (1, 2, 4) and all(type(factor) is int for factor in scale)
    assert scale_per_axis(np.int64(2), 2) == (2, 2)


@pytest.mark.parametrize("scale", ["2", "ab", None, 2.5, (2, "a")], ids=repr)
def test_scale_that_is_no_integer_is_named(scale):
    with pytest.raises(InputError, match="scale"):
        scale_per_axis(scale, 2)


@pytest.mark.parametrize("factor, gain", [(4, 1.0), (8, 0.1), (1, 1.0)])
def test_icnr_repeats_one_kernel_for_all_sub_pixels(factor, gain):
    torch.manual_seed(0)
    weight = torch.empty(64 * factor, 16, 3, 3)
    assert initialise_icnr_(weight, factor, gain) is weight
    kernels = weight.reshape(64, factor, 16, 3, 3)
    assert torch.equal(kernels, kernels[:, :1].expand_as(kernels))
    assert kernels[:, 0].std().item() == pytest.approx(gain * (2 / (16 * 9)) ** 0.5, rel=0.05)


@pytest.mark.parametrize("spatial_dims", [2, 3], ids=["2d", "3d"])
def test_dense_block_is_the_identity_without_its_weight(spatial_dims):
    image = draw(1, 4, *[3] * spatial_dims)
    for block in (
        ResidualDenseBlock(spatial_dims, 4, 2, residual_scale=0.0),
        RRDB(spatial_dims, 4, 2, residual_scale=0.0),
    ):
        assert torch.equal(block(image), image)


def test_residual_grows_with_its_weight():
    image = draw(1, 4, 5, 5)
    block = ResidualDenseBlock(2, 4, 2, residual_scale=0.2)
    with torch.no_grad():
        small = block(image) - image
        block.residual_scale = 0.4
        large = block(image) - image
    assert small.abs().max() > 0 and (large - 2 * small).abs().max() <= 1e-6


def test_every_convolution_of_a_dense_block_sees_all_maps_before_it():
    block = ResidualDenseBlock(2, features=8, growth=4, layers=5)
    shapes = [(conv.in_channels, conv.out_channels) for conv in block.convolutions]
    assert shapes == [(8, 4), (12, 4), (16, 4), (20, 4), (24, 8)]
