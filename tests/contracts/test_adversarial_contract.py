"""One contract over every objective and every discriminator, in two and three dimensions."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import pytest
import torch
from torch import Tensor, nn

from medsr_monai.networks import (
    ChestXrayDiscriminator,
    DCGANDiscriminator,
    Discriminator,
    MultiScalePatchDiscriminator,
    UNetDiscriminator,
    VGGDiscriminator,
)
from medsr_monai.system.errors import InputError
from medsr_monai.training.losses import (
    AdversarialLoss,
    Hinge,
    LeastSquares,
    NonSaturating,
    RelativisticAverage,
    WassersteinGradientPenalty,
)

OBJECTIVES: dict[str, Callable[[], AdversarialLoss]] = {
    "non-saturating": NonSaturating,
    "non-saturating-r1": lambda: NonSaturating(r1_weight=2.0),
    "least-squares": LeastSquares,
    "hinge-r1": lambda: Hinge(r1_weight=0.5),
    "relativistic": RelativisticAverage,
    "relativistic-r1": lambda: RelativisticAverage(r1_weight=1.0),
    "wgan-gp": WassersteinGradientPenalty,
}
DISCRIMINATORS: dict[str, Callable[[int], Discriminator]] = {
    "vgg-batch": lambda dims: VGGDiscriminator(dims, features=2, stages=2),
    "vgg-instance": lambda dims: VGGDiscriminator(dims, features=2, stages=2, norm="instance"),
    "vgg-none": lambda dims: VGGDiscriminator(dims, features=2, stages=2, norm="none"),
    "unet": lambda dims: UNetDiscriminator(dims, features=2),
    "patches": lambda dims: MultiScalePatchDiscriminator(dims, features=2, layers=1),
    "patches-none": lambda dims: MultiScalePatchDiscriminator(dims, features=2, layers=1, norm="none"),
    "dcgan-none": lambda dims: DCGANDiscriminator(dims, features=2, norm="none"),
    "chest-xray-batch": lambda dims: ChestXrayDiscriminator(dims, features=2),
    "chest-xray-none": lambda dims: ChestXrayDiscriminator(dims, features=2, norm="none"),
}
DIMENSIONS = {"2d": 2, "3d": 3}


def seeded(build: Callable[..., nn.Module], *arguments: int) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build(*arguments)


def images(discriminator: Discriminator, seed: int = 0) -> Tensor:
    size = [discriminator.min_size + i for i in range(discriminator.spatial_dims)]
    return torch.rand(2, 1, *size, generator=torch.Generator().manual_seed(seed))


def largest_gradient(network: nn.Module) -> float:
    return max(p.grad.abs().max().item() for p in network.parameters() if p.grad is not None)


@pytest.fixture(params=OBJECTIVES)
def loss(request) -> AdversarialLoss:
    return OBJECTIVES[request.param]()


@pytest.fixture(params=product(DISCRIMINATORS, DIMENSIONS), ids="-".join)
def discriminator(request) -> Discriminator:
    name, dimensions = request.param
    return seeded(DISCRIMINATORS[name], DIMENSIONS[dimensions])


def test_one_step_of_each_side(loss, discriminator):
    hr, sr = images(discriminator), images(discriminator, seed=1).requires_grad_()
    if isinstance(loss, WassersteinGradientPenalty) and discriminator.batch_dependent:
        with pytest.raises(InputError, match="normalises over the batch"):
            loss.penalty(discriminator, hr, sr.detach())
        return
    real, fake = discriminator(hr)[0], discriminator(sr.detach())[0]
    terms = [loss.discriminator(real, fake)]
    terms += loss.penalty(discriminator, hr, sr.detach(), torch.Generator().manual_seed(0)).values()
    assert all(term.shape == () and term.isfinite() for term in terms)
    sum(terms).backward()
    for name, parameter in discriminator.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
    assert largest_gradient(discriminator) > 0 and sr.grad is None

    discriminator.requires_grad_(False)
    term = loss.generator(discriminator(sr)[0], discriminator(hr)[0] if loss.needs_real else None)
    assert term.shape == () and term.isfinite()
    term.backward()
    assert sr.grad.isfinite().all() and sr.grad.abs().max() > 0


def test_penalty_reaches_the_parameters_by_itself(loss, discriminator):
    hr, sr = images(discriminator), images(discriminator, seed=1)
    if isinstance(loss, WassersteinGradientPenalty) and discriminator.batch_dependent:
        with pytest.raises(InputError, match="normalises over the batch"):
            loss.penalty(discriminator, hr, sr)
        return
    terms = loss.penalty(discriminator, hr, sr, torch.Generator().manual_seed(0))
    if not terms:
        assert not loss.r1_weight
        return
    (name,) = terms
    assert name == ("gradient_penalty" if isinstance(loss, WassersteinGradientPenalty) else "r1")
    terms[name].backward()
    assert 0 < largest_gradient(discriminator) < float("inf")
    assert hr.grad is None and sr.grad is None


def test_discriminator_gains_by_being_right_and_the_generator_by_looking_real(loss):
    shapes = [(2, 1), (2, 1, 3, 4), (2, 1, 2, 2, 2)]
    yes, no = ([torch.full(shape, value) for shape in shapes] for value in (0.9, 0.1))  # apart, within all targets
    assert loss.discriminator(yes, no) < loss.discriminator(no, no) < loss.discriminator(no, yes)
    assert loss.generator(yes, no) < loss.generator(no, no) <= loss.generator(no, yes)  # few look at the real ones


def test_descent_moves_the_verdicts_the_right_way(loss):
    """One step of each side's gradient on the verdicts themselves."""
    real, fake = (torch.full((3, 1), 0.5, requires_grad=True) for _ in range(2))
    slopes = torch.autograd.grad(loss.discriminator([real], [fake]), (real, fake))
    assert (slopes[0] < 0).all() and (slopes[1] > 0).all()
    (slope,) = torch.autograd.grad(loss.generator([fake], [real]), fake)
    assert (slope < 0).all()


def test_scales_count_alike_whatever_their_size(loss):
    small, large = torch.tensor([[0.3], [-0.4]]), torch.rand(2, 1, 9, 8, generator=torch.Generator().manual_seed(0))
    other = [torch.tensor([[-0.1], [0.2]]), -large]
    both = loss.discriminator([small, large], other)
    each = [loss.discriminator([a], [b]) for a, b in zip([small, large], other, strict=True)]
    assert both.item() == pytest.approx(sum(each).item() / 2, rel=1e-6)
    both = loss.generator([small, large], other)
    each = [loss.generator([a], [b]) for a, b in zip([small, large], other, strict=True)]
    assert both.item() == pytest.approx(sum(each).item() / 2, rel=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_large_verdicts_of_low_precision_are_computed_in_float32(loss, dtype):
    real, fake = torch.full((2, 1, 4), 1000.0, dtype=dtype), torch.full((2, 1, 4), -1000.0, dtype=dtype)
    for term in (
        loss.discriminator([real], [fake]),
        loss.discriminator([fake], [real]),
        loss.generator([fake], [real]),
    ):
        assert term.dtype == torch.float32 and term.isfinite()


def test_losses_have_no_state_to_save(loss):
    assert not loss.state_dict() and not list(loss.parameters())
