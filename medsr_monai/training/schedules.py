"""Learning-rate schedules."""

from __future__ import annotations

import math
from collections.abc import Callable


def warmup_stable_decay(warmup: int, total: int, decay: int, floor: float = 0.01) -> Callable[[int], float]:
    """A learning-rate factor that rises linearly, stays at 1, and falls along a cosine at the end.

    Only the fall depends on the end of the run, so a run can be extended while the factor is 1.

    Args:
        warmup: iterations of the rise.
        total: iterations in all.
        decay: iterations of the fall, at the end.
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
