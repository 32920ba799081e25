"""The objectives against numbers worked out by hand; what all share is in tests/contracts."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from medsr_monai.system.errors import InputError
from medsr_monai.training.losses import (
    Hinge,
    LeastSquares,
    NonSaturating,
    RelativisticAverage,
    WassersteinGradientPenalty,
)

REAL, FAKE = [torch.tensor([[2.0], [0.0]])], [torch.tensor([[-1.0], [0.5]])]


def softplus(x: float) -> float:
    return math.log1p(math.exp(x))


def log_terms(real: list[float], fake: list[float]) -> float:
    return sum(softplus(-d) for d in real) / len(real) + sum(softplus(d) for d in fake) / len(fake)


# mean real 1, mean fake -0.25
EXPECTED = {
    NonSaturating: (log_terms([2, 0], [-1, 0.5]), (softplus(1) + softplus(-0.5)) / 2),
    LeastSquares: (((1 + 1) / 2 + (1 + 0.25) / 2) / 2, (4 + 0.25) / 4),
    Hinge: ((0 + 1) / 2 + (0 + 1.5) / 2, 0.25),
    WassersteinGradientPenalty: (-1.25, 0.25),
    RelativisticAverage: (log_terms([2.25, 0.25], [-2, -0.5]), log_terms([-2, -0.5], [2.25, 0.25])),
}


class Linear(nn.Module):
    """Two scales whose mean verdict is ``slope . image``, the second as a map."""

    def __init__(self, slope: list[float]) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.tensor(slope))

    def forward(self, image: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        product = image.flatten(1) * self.slope
        return [product.sum(dim=1, keepdim=True), product * product.size(1)], []


@pytest.mark.parametrize("objective", EXPECTED, ids=lambda objective: objective.__name__)
def test_values_by_hand(objective):
    loss = objective()
    discriminator, generator = EXPECTED[objective]
    assert loss.discriminator(REAL, FAKE).item() == pytest.approx(discriminator, rel=1e-6)
    assert loss.generator(FAKE, REAL).item() == pytest.approx(generator, rel=1e-6)
    assert loss.needs_real == (objective is RelativisticAverage)


def test_relativistic_generator_learns_through_the_mean_too():
    fake = [torch.zeros(2, 1, dtype=torch.float64, requires_grad=True)]
    real = [torch.ones(2, 1, dtype=torch.float64)]
    (slope,) = torch.autograd.grad(RelativisticAverage().generator(fake, real), fake)
    # sigmoid(1) / 2 from each image's own term and as much from the mean in the terms of the real images
    assert slope.flatten().tolist() == pytest.approx([-1 / (1 + math.exp(-1))] * 2)
    with pytest.raises(InputError, match="needs the verdicts on the real images"):
        RelativisticAverage().generator(fake)


@pytest.mark.parametrize("shape", [(3, 1, 1, 2), (3, 1, 1, 1, 2)])
def test_penalties_of_a_linear_discriminator(shape):
    discriminator = Linear([3.0, 4.0])  # slope 5
    hr, sr = torch.rand(shape), torch.rand(shape)
    assert NonSaturating().penalty(discriminator, hr, sr) == {}
    r1 = NonSaturating(r1_weight=0.5).penalty(discriminator, hr, sr)
    assert {name: value.item() for name, value in r1.items()} == pytest.approx({"r1": 0.25 * 25})
    penalty = WassersteinGradientPenalty(weight=2).penalty(discriminator, hr, sr)
    assert {name: value.item() for name, value in penalty.items()} == pytest.approx({"gradient_penalty": 2 * 16})
    penalty["gradient_penalty"].backward()  # 2 * 2 * (5 - 1) * slope / 5
    assert discriminator.slope.grad.tolist() == pytest.approx([16 * 0.6, 16 * 0.8])


def test_gradient_penalty_lies_between_the_images_and_draws_from_the_rng():
    seen = []

    def judge(image: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        seen.append(image.detach())
        return [image.square().flatten(1).sum(dim=1)], []

    hr, sr = torch.ones(64, 1, 2, 2), torch.zeros(64, 1, 2, 2)
    state = torch.get_rng_state()
    for seed in (0, 0, 1):
        WassersteinGradientPenalty().penalty(judge, hr, sr, torch.Generator().manual_seed(seed))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(seen[0], seen[1]) and not torch.equal(seen[0], seen[2])
    per_image = seen[0].flatten(1)
    assert (per_image == per_image[:, :1]).all()  # one place on the line for each image
    assert per_image.min() >= 0 and per_image.max() <= 1 and per_image.std() > 0.2


def test_gradient_penalty_is_finite_where_the_discriminator_is_flat():
    discriminator = Linear([0.0, 0.0])
    image = torch.rand(2, 1, 1, 2)
    penalty = WassersteinGradientPenalty(weight=1).penalty(discriminator, image, image)["gradient_penalty"]
    penalty.backward()
    assert penalty.item() == 1 and discriminator.slope.grad.isfinite().all()


def test_penalties_are_in_float32_inside_autocast():
    discriminator = nn.Sequential(nn.Flatten(), nn.Linear(4, 1))
    dtypes = []

    def judge(image: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        dtypes.append(discriminator(image).dtype)
        return [discriminator(image)], []

    image = torch.rand(2, 1, 2, 2, dtype=torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        WassersteinGradientPenalty().penalty(judge, image, image)
        NonSaturating(r1_weight=1).penalty(judge, image, image)
    assert set(dtypes) == {torch.float32}


def test_bad_input_is_named():
    for value in (-1.0, math.nan, math.inf):
        with pytest.raises(InputError, match="r1_weight"):
            Hinge(r1_weight=value)
        with pytest.raises(InputError, match=r"^weight"):
            WassersteinGradientPenalty(weight=value)
    with pytest.raises(InputError, match="no verdicts"):
        LeastSquares().generator([])
    with pytest.raises(InputError, match="must be the same"):
        WassersteinGradientPenalty().penalty(Linear([1.0]), torch.rand(2, 1, 1, 1), torch.rand(1, 1, 1, 1))


def test_both_penalties_of_wgan_gp_have_their_own_names():
    slope = torch.tensor([3.0, 4.0]).reshape(1, 1, 2)

    def critic(image):
        return [(image * slope).sum((1, 2)).reshape(-1, 1)], []

    images = torch.rand(2, 1, 2), torch.rand(2, 1, 2)
    terms = WassersteinGradientPenalty(weight=10.0, r1_weight=2.0).penalty(critic, *images)
    assert terms["gradient_penalty"].item() == pytest.approx(160.0, rel=1e-5), "10 (5 - 1)^2"
    assert terms["r1"].item() == pytest.approx(25.0, rel=1e-5), "2 / 2 * 5^2"
