"""Discriminators one by one: sizes, verdicts, copies; with the objectives they are in tests/contracts."""

from __future__ import annotations

import copy
import io

import pytest
import torch
from torch import nn

from medsr_monai.networks import (
    DCGANDiscriminator,
    MultiScalePatchDiscriminator,
    UNetDiscriminator,
    VGGDiscriminator,
)
from medsr_monai.system.errors import InputError

SMALL = {
    "vgg": (VGGDiscriminator, {"features": 2, "stages": 2}),
    "vgg-instance": (VGGDiscriminator, {"features": 2, "stages": 2, "norm": "instance"}),
    "vgg-none": (VGGDiscriminator, {"features": 2, "stages": 2, "norm": "none"}),
    "unet": (UNetDiscriminator, {"features": 2}),
    "patches": (MultiScalePatchDiscriminator, {"features": 2, "layers": 1}),
    "patches-batch": (MultiScalePatchDiscriminator, {"features": 2, "layers": 1, "norm": "batch"}),
    "patches-none": (MultiScalePatchDiscriminator, {"features": 2, "layers": 1, "norm": "none"}),
    "dcgan": (DCGANDiscriminator, {"features": 2}),
}
VERDICTS_PER_IMAGE = (VGGDiscriminator, DCGANDiscriminator)


@pytest.fixture(params=SMALL)
def name(request) -> str:
    return request.param


@pytest.fixture(params=[2, 3], ids=["2d", "3d"])
def discriminator(request, name):
    kind, arguments = SMALL[name]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return kind(request.param, in_channels=2, **arguments)


def draw(discriminator, extra: int = 0, batch: int = 1) -> torch.Tensor:
    """An image of the smallest size, or more along the last axis."""
    size = [discriminator.min_size] * discriminator.spatial_dims
    size[-1] += extra
    return torch.rand(batch, 2, *size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("extra", [0, 1, 5])
def test_any_size_from_the_smallest_on_even_with_one_image(discriminator, extra):
    image = draw(discriminator, extra)
    verdicts, features = discriminator(image)
    assert all(v.size(0) == 1 and v.isfinite().all() for v in verdicts)
    assert len(features) >= 2 and all(f.dim() == image.dim() and f.isfinite().all() for f in features)
    if isinstance(discriminator, VERDICTS_PER_IMAGE):
        assert [v.shape for v in verdicts] == [(1, 1)]
    elif isinstance(discriminator, UNetDiscriminator):
        assert [v.shape for v in verdicts] == [(1, 1, *image.shape[2:])]
    else:
        assert len(verdicts) == 2 and verdicts[0].numel() > verdicts[1].numel()


def test_one_voxel_less_along_any_axis_is_refused(discriminator):
    for axis in range(discriminator.spatial_dims):
        image = draw(discriminator).narrow(axis + 2, 0, discriminator.min_size - 1)
        with pytest.raises(
            InputError, match=f"axis {axis} has {discriminator.min_size - 1} voxels, but needs at least"
        ):
            discriminator(image)


def test_images_of_other_dimensions_are_refused(discriminator):
    with pytest.raises(InputError, match=f"{discriminator.spatial_dims} spatial axes"):
        discriminator(draw(discriminator)[0])


def test_batch_dependent_says_whether_the_other_images_matter(discriminator):
    image = draw(discriminator, batch=2)
    other = torch.cat((image[:1], image[1:] * 5 + 1))
    # Spectral normalisation takes a step of its power iteration in every call of training.
    discriminator.train(not isinstance(discriminator, UNetDiscriminator))
    first, second = (discriminator(x)[0][0][0].detach() for x in (image, other))
    alike = torch.allclose(first, second, rtol=1e-5, atol=1e-6)
    assert alike != discriminator.batch_dependent


def test_a_saved_state_and_a_copy_judge_alike(discriminator):
    image = draw(discriminator, batch=2)
    discriminator(image)  # spectral normalisation and batch statistics have changed since the start
    discriminator.eval()
    file = io.BytesIO()
    torch.save(discriminator.state_dict(), file)
    file.seek(0)
    twin = copy.deepcopy(discriminator)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.add_(1.0)
    expected = discriminator(image)[0]
    assert not torch.equal(twin(image)[0][0], expected[0])
    twin.load_state_dict(torch.load(file, weights_only=True))
    for loaded, original in zip(twin(image)[0], expected, strict=True):
        assert torch.equal(loaded, original)


def test_spectral_normalisation_bounds_the_inner_convolutions():
    discriminator = UNetDiscriminator(2, features=4)
    inner = [m for m in discriminator.modules() if isinstance(m, nn.Conv2d) and hasattr(m, "parametrizations")]
    assert len(inner) == 8
    for _ in range(30):
        discriminator(torch.rand(1, 1, 8, 8))
    for conv in inner:
        assert torch.linalg.matrix_norm(conv.weight.flatten(1), 2).item() == pytest.approx(1, rel=0.05)


def test_widths_double_to_eight_times_at_most():
    discriminator = VGGDiscriminator(2, features=2, stages=5, norm="none")
    widths = [f.size(1) for f in discriminator(torch.zeros(1, 1, 32, 32))[1]]
    assert widths == [2, 4, 8, 16, 16]


@pytest.mark.parametrize(
    "kind", [VGGDiscriminator, UNetDiscriminator, MultiScalePatchDiscriminator, DCGANDiscriminator]
)
def test_bad_arguments_are_named(kind):
    with pytest.raises(InputError, match="spatial_dims 1: must be 2 or 3"):
        kind(1)
    with pytest.raises(InputError, match="features 0"):
        kind(2, features=0)
    if kind is not UNetDiscriminator:
        with pytest.raises(InputError, match="norm 'group': must be one of batch, instance, none"):
            kind(2, norm="group")
