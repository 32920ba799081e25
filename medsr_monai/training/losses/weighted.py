"""The weighted sum of several losses, and each of them for the log."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from torch import Tensor

from medsr_monai.system.errors import InputError


def check_weight(name: str, value: float) -> None:
    """Refuse a weight that is not a finite number of at least 0."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not (math.isfinite(value) and value >= 0):
        raise InputError(f"{name} is {value!r}, but must be a finite number of at least 0")


class WeightedSum:
    """``total = sum_i weight_i term_i`` over the terms whose weight is not zero; the others are not computed.

    Args:
        weights: weight of each term by name. A term without a weight is not computed.

    Raises:
        InputError: a weight is negative or not a finite number, or none is positive.
    """

    def __init__(self, weights: Mapping[str, float]) -> None:
        for name, weight in weights.items():
            check_weight(f"weights: {name}", weight)
        if not any(weights.values()):
            raise InputError(
                f"weights: all of {dict(weights)} are zero, so nothing would be learned; set at least one above 0"
            )
        self.weights = dict(weights)

    def __call__(self, terms: Mapping[str, Callable[[], Tensor]]) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the terms with a weight.

        Args:
            terms: the functions that compute the terms, by name.

        Returns:
            The weighted total, and each computed term by name, unweighted and without its graph.

        Raises:
            InputError: a weight, zero or not, has no term.
        """
        unknown = sorted(set(self.weights) - set(terms))
        if unknown:
            raise InputError(f"weights: no term is called {', '.join(unknown)}; there are {', '.join(sorted(terms))}")
        values = {name: terms[name]() for name, weight in self.weights.items() if weight}
        first, *others = (self.weights[name] * value for name, value in values.items())
        total = sum(others, start=first)
        return total, {name: value.detach() for name, value in values.items()}
