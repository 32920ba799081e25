"""The weighted sum, and what it refuses."""

from __future__ import annotations

import math

import pytest
import torch

from medsr_monai.system.errors import InputError
from medsr_monai.training.losses import WeightedSum


def must_not_run() -> torch.Tensor:
    raise AssertionError("a term without weight was computed")


def test_total_is_weighted_and_the_log_is_not():
    x = torch.tensor(3.0, requires_grad=True)
    terms = {"pixel": lambda: x, "edges": lambda: x**2, "off": must_not_run, "unnamed": must_not_run}
    total, values = WeightedSum({"pixel": 1, "edges": 0.5, "off": 0.0})(terms)
    assert total.item() == pytest.approx(3 + 0.5 * 9)
    assert {name: value.item() for name, value in values.items()} == {"pixel": 3, "edges": 9}
    assert not any(value.requires_grad for value in values.values())
    total.backward()
    assert x.grad.item() == pytest.approx(1 + 0.5 * 6)


@pytest.mark.parametrize("weight", [-1, math.nan, math.inf, "1", None, True])
def test_weights_must_be_finite_and_not_negative(weight):
    with pytest.raises(InputError, match="weights: pixel is"):
        WeightedSum({"pixel": weight, "edges": 1.0})


@pytest.mark.parametrize("weights", [{}, {"pixel": 0.0}])
def test_something_must_count(weights):
    with pytest.raises(InputError, match="nothing would be learned"):
        WeightedSum(weights)


def test_an_unknown_term_is_named_with_the_known_ones():
    terms = {"pixel": must_not_run, "edges": must_not_run}
    with pytest.raises(InputError, match="no term is called perceptul; there are edges, pixel"):
        WeightedSum({"pixel": 1.0, "perceptul": 0.0})(terms)
