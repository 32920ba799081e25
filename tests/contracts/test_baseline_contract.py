"""One contract over the networks of the literature: shapes, initialisation, independence, streaming, refusals."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from medsr_monai.geometry import interpolate
from medsr_monai.networks import (
    EDSR,
    MDCSRN,
    RCAN,
    SRCNN,
    VDSR,
    ChestXrayGenerator,
    ChestXrayResidualCNN,
    SRResNet,
)
from medsr_monai.networks.upsampling import CubicUpsampling
from medsr_monai.system.errors import InputError
from medsr_monai.upscaling.convolution import StreamedNetwork
from tests.upscaling.convolution.generators import stream_whole

NETWORKS: dict[str, tuple[type[nn.Module], dict[str, Any]]] = {
    "srcnn": (SRCNN, {"features": 4, "mapped_features": 3, "kernel_sizes": (5, 1, 3)}),
    "vdsr": (VDSR, {"features": 4, "depth": 4}),
    "srresnet": (SRResNet, {"features": 4, "num_blocks": 2, "end_kernel": 5}),
    "srresnet-without-norm": (SRResNet, {"features": 4, "num_blocks": 1, "end_kernel": 3, "batch_norm": False}),
    "edsr": (EDSR, {"features": 4, "num_blocks": 2}),
    "rcan": (RCAN, {"features": 8, "num_groups": 2, "num_blocks": 1, "reduction": 2}),
    "dcsrn": (MDCSRN, {"growth": 3, "num_blocks": 1, "units": 2}),
    "mdcsrn": (MDCSRN, {"growth": 2, "num_blocks": 3, "units": 2}),
    "chest-xray-cnn": (ChestXrayResidualCNN, {"features": 4}),
    "chest-xray-generator": (ChestXrayGenerator, {"features": 4, "num_blocks": 2, "end_kernel": 3}),
}
RESIDUAL = ("vdsr", "chest-xray-cnn")
PASSING = (*RESIDUAL, "srcnn")  # networks that begin at their interpolation
SCALES = {"3d-x2": (2, 2, 2), "3d-x4-through-plane": (1, 1, 4), "2d-x2": (2, 2)}
SIZES = {3: (5, 7, 4), 2: (5, 8)}


def build(name: str, scale: Any = (2, 2, 2), seed: int = 0, **changed: Any) -> nn.Module:
    network, arguments = NETWORKS[name]
    dims = len(scale) if isinstance(scale, tuple) else 3
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return network(**{"spatial_dims": dims, "scale": scale, **arguments, **changed})


def trained(network: nn.Module, seed: int = 1) -> nn.Module:
    """Weights and running statistics with which nothing that a network computes can hide; in evaluation mode."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            draw = torch.randn(parameter.shape, generator=generator)
            # Biases that are positive keep every ReLU alive.
            parameter.add_(draw / parameter[0].numel() ** 0.5 if parameter.ndim > 1 else draw.abs() / 3)
        for name, buffer in network.named_buffers():
            if "running" in name:
                buffer.add_(torch.rand(buffer.shape, generator=generator))
    return network.eval()


def picture(scale: Sequence[int], channels: int = 1, batch: int = 2, size: Sequence[int] | None = None) -> Tensor:
    generator = torch.Generator().manual_seed(2)
    return torch.rand(batch, channels, *(size or SIZES[len(scale)]), generator=generator)


@pytest.fixture(params=product(NETWORKS, SCALES), ids="-".join)
def case(request) -> tuple[str, tuple[int, ...]]:
    return request.param[0], SCALES[request.param[1]]


# ---- shapes


def test_output_is_the_scale_times_the_input_of_any_size(case):
    name, scale = case
    network = trained(build(name, scale))
    for size in (SIZES[len(scale)], (1,) * len(scale), (1, *SIZES[len(scale)][1:])):
        with torch.no_grad():
            sr = network(picture(scale, size=size))
        assert sr.shape == (2, 1, *(n * factor for n, factor in zip(size, scale, strict=True)))
        assert sr.isfinite().all()


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("scale", [1, 3, 4, 6, (3, 1)])
def test_other_scales(name, scale):
    scales = scale if isinstance(scale, tuple) else (scale, scale)
    network = build(name, scale, spatial_dims=2).eval()
    assert network.scale == scales
    assert network(picture(scales, size=(2, 3))).shape == (2, 1, 2 * scales[0], 3 * scales[1])


@pytest.mark.parametrize("name", NETWORKS)
def test_several_channels_in_and_out(name):
    network = trained(build(name, (2, 2), in_channels=3, out_channels=2))
    assert network(picture((2, 2), channels=3)).shape == (2, 2, 10, 16)


# ---- where training begins


@pytest.mark.parametrize("name", PASSING)
@pytest.mark.parametrize("scale", SCALES.values(), ids=SCALES)
def test_training_begins_near_the_interpolation(name, scale):
    changed = {"features": 16} | ({"depth": 20} if name == "vdsr" else {})
    network = build(name, scale, **changed).train()
    image = picture(scale, size=[9] * len(scale))
    with torch.no_grad():
        residual = network(image) - network.upsampling(image)
    assert 0 < residual.std() < 0.5 * image.std() and residual.mean().abs() < 0.25


@pytest.mark.parametrize("name", RESIDUAL)
def test_without_its_last_convolution_a_residual_network_is_the_interpolation(name):
    network = trained(build(name, (2, 3)))
    nn.init.zeros_(network.body[-1].weight)
    nn.init.zeros_(network.body[-1].bias)
    image = picture((2, 3))
    assert torch.equal(network(image), network.upsampling(image))


def test_no_output_is_nan_at_the_published_sizes():
    """The defaults are the papers' sizes, in two dimensions."""
    for network in (SRCNN, VDSR, SRResNet, EDSR, RCAN, MDCSRN, ChestXrayResidualCNN, ChestXrayGenerator):
        with torch.random.fork_rng(), torch.no_grad():
            torch.manual_seed(0)
            built = network(2)
            for image in (picture((2, 2)), torch.zeros(1, 1, 6, 6)):
                for mode in (True, False):
                    sr = built.train(mode)(image)
                    assert sr.isfinite().all() and sr.abs().max() < 50, (network.__name__, float(sr.abs().max()))


PUBLISHED = {
    "srcnn": (SRCNN, {"in_channels": 1}, 8129),  # 9*9*64 + 64*32 + 5*5*32 = 8032 weights, and 97 biases
    "vdsr": (VDSR, {}, 664_704 + 1217),  # 665k: 18 * 64*64*9 + 2 * 64*9 weights, and 19 * 64 + 1 biases
    "edsr-baseline-x2": (EDSR, {"in_channels": 3, "out_channels": 3}, 1_369_859),  # of the released model
    # Of the released model, without its two layers of 12 for mean colours.
    "rcan-x2": (RCAN, {"in_channels": 3, "out_channels": 3}, 15_444_667 - 24),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_defaults_have_as_many_parameters_as_published(name):
    network, arguments, count = PUBLISHED[name]
    assert sum(p.numel() for p in network(2, scale=2, **arguments).parameters()) == count


@pytest.mark.parametrize("name", NETWORKS)
def test_same_seed_builds_the_same_network(name):
    first, again, other = (build(name, seed=seed).state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


# ---- training


def test_gradient_reaches_every_parameter(case):
    name, scale = case
    network = trained(build(name, scale)).train()
    image = picture(scale).requires_grad_()
    network(image).square().sum().backward()
    for key, parameter in network.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 1e-6, key
    assert image.grad.abs().max() > 0


@pytest.mark.parametrize("name", NETWORKS)
def test_a_few_steps_bring_it_closer(name):
    hr = torch.sin(torch.arange(16.0) / 1.5)[:, None] * torch.cos(torch.arange(12.0) / 2) * 0.4 + 0.5
    hr = hr[None, None].repeat(2, 1, 1, 1)
    lr = torch.nn.functional.avg_pool2d(hr, 2)
    network = build(name, (2, 2), features=8) if "features" in NETWORKS[name][1] else build(name, (2, 2))
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    errors = []
    for _ in range(40):
        optimizer.zero_grad()
        error = (network(lr) - hr).square().mean()
        error.backward()
        optimizer.step()
        errors.append(float(error.detach()))
    assert errors[-1] < 0.9 * errors[0]


def test_the_input_is_left_untouched(case):
    name, scale = case
    network, image = build(name, scale).train(), picture(scale)
    network(image)
    assert torch.equal(image, picture(scale))


# ---- evaluation


def test_an_image_does_not_depend_on_the_others_of_its_batch(case):
    name, scale = case
    network, images = trained(build(name, scale)), picture(scale, batch=3)
    with torch.no_grad():
        together, alone = network(images), torch.cat([network(image[None]) for image in images])
        assert torch.allclose(together, alone, atol=1e-5 * float(together.abs().max()))
        again = network(images)
    assert torch.equal(together, again), "evaluation changes no state"


@pytest.mark.parametrize("name", NETWORKS)
def test_channels_last_computes_the_same(name):
    network, image = trained(build(name)), picture((2, 2, 2))
    with torch.no_grad():
        expected = network(image)
        layout = torch.channels_last_3d
        result = network.to(memory_format=layout)(image.to(memory_format=layout))
    assert (result - expected).abs().max() <= 1e-5 * expected.abs().max()


@pytest.mark.parametrize("name", NETWORKS)
def test_torchscript_computes_the_same_at_any_size(name):
    network = trained(build(name))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        buffer = io.BytesIO()
        torch.jit.save(torch.jit.script(network), buffer)
        buffer.seek(0)
        scripted = torch.jit.load(buffer)
    with torch.no_grad():
        for size in ((5, 7, 4), (3, 4, 6)):
            image = picture((2, 2, 2), size=size)
            expected = network(image)
            assert (scripted(image) - expected).abs().max() <= 1e-5 * expected.abs().max()


# ---- streaming


def test_a_stream_gives_the_result_of_the_whole_image(case):
    name, scale = case
    network = trained(build(name, scale))
    if name == "rcan":
        with pytest.raises(InputError, match=r"AdaptiveAvgPool.d at body.*: looks at the whole image.*SlidingWindow"):
            StreamedNetwork(network)
        return
    for axis, slab in product(range(len(scale)), (1, 3)):
        size = list(SIZES[len(scale)])
        size[axis] = 17
        image = picture(scale, size=size)
        with torch.no_grad():
            expected = network(image)
        result = stream_whole(StreamedNetwork(network, axis, slab), image)
        assert (result - expected).abs().max() <= 1e-5 * expected.abs().max()


# ---- the cubic interpolation before the networks


@pytest.mark.parametrize("scale", [(2, 2), (1, 4), (3, 2), (2, 3, 4), (1, 1, 4)])
def test_cubic_upsampling_equals_torchs_antialiased_one_away_from_the_border(scale):
    """In two dimensions torch has Keys' kernel too; a third axis is constant here."""
    image = picture(scale[:2], size=(9, 11)).double()
    expected = torch.nn.functional.interpolate(
        image, scale_factor=[float(s) for s in scale[:2]], mode="bicubic", antialias=True, align_corners=False
    )
    volume = image if len(scale) == 2 else image[..., None].expand(-1, -1, -1, -1, 5)
    result = CubicUpsampling(scale)(volume)
    result = result if len(scale) == 2 else result[..., 7]
    inner = (..., *(slice(2 * s, -2 * s) for s in scale[:2]))
    torch.testing.assert_close(result[inner], expected[inner], atol=1e-10, rtol=0)


@pytest.mark.parametrize("scale", [(2, 2, 2), (1, 3, 4)])
def test_cubic_upsampling_keeps_constants_and_ramps_in_place(scale):
    size = (8, 9, 10)
    axes = [torch.arange(n, dtype=torch.float64) for n in size]
    ramp = axes[0][:, None, None] - 2 * axes[1][:, None] + 3 * axes[2]
    result = CubicUpsampling(scale)(ramp[None, None])
    new = [(torch.arange(n * s) + 0.5) / s - 0.5 for n, s in zip(size, scale, strict=True)]
    expected = new[0][:, None, None] - 2 * new[1][:, None] + 3 * new[2]
    inner = tuple(slice(2 * s, -2 * s) for s in scale)
    torch.testing.assert_close(result[0, 0][inner], expected[inner].double(), atol=1e-5, rtol=0)
    assert torch.allclose(CubicUpsampling(scale)(torch.full((1, 1, 1, 3, 2), 0.7)), torch.tensor(0.7))
    assert (result - interpolate(ramp[None, None], result.shape[2:])).abs().max() < 1


def test_autocast_leaves_the_interpolation_in_full_precision():
    image = picture((2, 2, 2))
    with torch.autocast("cpu", torch.bfloat16):
        result = CubicUpsampling((2, 2, 2))(image)
    assert result.dtype == torch.float32 and torch.equal(result, CubicUpsampling((2, 2, 2))(image))


# ---- parameters

COMMON = [
    ({"spatial_dims": 1, "scale": (2,)}, "spatial_dims 1"),
    ({"spatial_dims": 4, "scale": 2}, "spatial_dims 4"),
    ({"scale": 0}, "scale 0"),
    ({"scale": 2.5}, "scale 2.5"),
    ({"spatial_dims": 3, "scale": (2, 2)}, r"scale \(2, 2\)"),
    ({"scale": (1, 1, 1.5)}, "axis 2 has 1.5"),
    ({"in_channels": 0}, "in_channels"),
    ({"out_channels": 0}, "out_channels 0"),
]
OWN = [
    ("srcnn", {"features": 0}, "features 0"),
    ("srcnn", {"mapped_features": 0}, "mapped_features 0"),
    ("srcnn", {"kernel_sizes": (9, 5)}, r"kernel_sizes \(9, 5\): need three"),
    ("srcnn", {"kernel_sizes": (9, 2, 5)}, "kernel_sizes 2: must be an odd number"),
    ("vdsr", {"features": 0}, "features 0"),
    ("vdsr", {"depth": 1}, "depth 1"),
    ("vdsr", {"out_channels": 2}, r"out_channels 2.*in_channels \(1\)"),
    ("srresnet", {"features": 0}, "features 0"),
    ("srresnet", {"num_blocks": 0}, "num_blocks 0"),
    ("srresnet", {"end_kernel": 4}, "end_kernel 4: must be an odd number"),
    ("edsr", {"features": 0}, "features 0"),
    ("edsr", {"num_blocks": 0}, "num_blocks 0"),
    ("rcan", {"num_groups": 0}, "num_groups 0"),
    ("rcan", {"num_blocks": 0}, "num_blocks 0"),
    ("rcan", {"reduction": 0}, "reduction 0"),
    ("rcan", {"reduction": 9}, "reduction 9: must not exceed features, which is 8"),
    ("mdcsrn", {"growth": 0}, "growth 0"),
    ("mdcsrn", {"num_blocks": 0}, "num_blocks 0"),
    ("mdcsrn", {"units": 0}, "units 0"),
    ("chest-xray-cnn", {"features": 0}, "features 0"),
    ("chest-xray-cnn", {"depth": 1}, "depth 1"),
    ("chest-xray-cnn", {"out_channels": 2}, r"out_channels 2.*in_channels \(1\)"),
    ("chest-xray-generator", {"num_blocks": 0}, "num_blocks 0"),
]


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [*((name, arguments, message) for name in NETWORKS for arguments, message in COMMON), *OWN],
)
def test_bad_parameters_are_named(name, arguments, message):
    with pytest.raises(InputError, match=message):
        build(name, **arguments)
