"""Learning-rate schedules."""

from __future__ import annotations

import math
from collections.abc import Callable


def warmup_stable_decay(warmup: int, total: int, decay: int, floor: float = 0.01) -> Callable[[int], float]:
    """A learning-rate factor that rises, stays, and falls along a cosine at the end.

    While it stays, training can go on for as long as there is time: only the end of the run must know that it is the
    end.

    Args:
        warmup: iterations of linear rise.
        total: iterations in all.
        decay: iterations of the fall, the last ones.
        floor: factor at the end.

    Returns:
        Factor by iteration, for ``torch.optim.lr_scheduler.LambdaLR``.

    Reference:
        Hägele et al., arXiv:2405.18392
    """

    def factor(iteration: int) -> float:
        if iteration < warmup:
            return (iteration + 1) / warmup
        progress = min(1.0, max(0.0, (iteration - (total - decay)) / max(1, decay)))
        return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress))

    return factor
