"""The learning rate rises, stays and falls where it should."""

from __future__ import annotations

import numpy as np
import pytest

from medsr_monai.training import warmup_stable_decay


@pytest.mark.parametrize("warmup, total, decay, floor", [(10, 100, 40, 0.01), (1, 20, 5, 0.1), (0, 30, 30, 0.0)])
def test_learning_rate_rises_stays_and_falls(warmup, total, decay, floor):
    factors = np.array([warmup_stable_decay(warmup, total, decay, floor)(i) for i in range(total + 5)])
    rise, stay, fall = factors[:warmup], factors[warmup : total - decay], factors[total - decay : total + 1]
    np.testing.assert_allclose(rise, (np.arange(warmup) + 1) / max(1, warmup))
    assert (stay == 1).all()
    assert fall[0] == 1 and (np.diff(fall) < 0).all() and fall[-1] == pytest.approx(floor)
    assert fall[len(fall) // 2] == pytest.approx((1 + floor) / 2, abs=0.16)
    np.testing.assert_allclose(factors[total:], floor)


def test_learning_rate_without_decay_stays():
    assert [warmup_stable_decay(2, 10, 0)(i) for i in (0, 1, 5, 9)] == [0.5, 1, 1, 1]
