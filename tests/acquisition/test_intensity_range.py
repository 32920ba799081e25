"""The intensity range is the same in whatever slabs the image comes, to the last bit, and numpy's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medsr_monai.acquisition import RobustRange
from medsr_monai.acquisition.intensity_range import _keys, _value, scan_slabs

MAKERS = {
    "normal": lambda rng, n: rng.normal(size=n),
    "integer": lambda rng, n: rng.integers(-5, 40, n),
    "int16": lambda rng, n: rng.integers(-32768, 32767, n),
    "constant": lambda rng, n: np.full(n, rng.normal()),
    "zero": lambda rng, n: rng.choice([0.0, -0.0], n),
    "negative": lambda rng, n: -1000 - rng.exponential(300, n),
    "heavy-tailed": lambda rng, n: rng.standard_cauchy(n) * 1e6,
    "ties at the mean": lambda rng, n: rng.choice([0.1, 0.2, 0.3], n),
    "mostly background": lambda rng, n: rng.exponential(1, n) * (rng.random(n) > 0.9),
    "tiny": lambda rng, n: rng.normal(size=n) * 1e-40,
}


@settings(deadline=None, max_examples=50)
@given(
    maker=st.sampled_from(sorted(MAKERS)),
    n=st.integers(1, 3000),
    cuts=st.integers(1, 6),
    percents=st.sampled_from([(0.5, 99.5), (0.0, 100.0), (25, 50)]),
    seed=st.integers(0, 1000),
)
def test_it_does_not_depend_on_the_slabs(maker, n, cuts, percents, seed):
    values = MAKERS[maker](np.random.default_rng(seed), n).astype(np.float32)
    scan = scan_slabs(lambda: np.array_split(values, cuts), percents)
    assert scan == scan_slabs(lambda: [values], percents)
    assert (scan.low, scan.high, scan.n_nan, scan.n_inf) == (values.min(), values.max(), 0, 0)


@pytest.mark.parametrize("maker", sorted(MAKERS))
def test_percentiles_are_numpys(maker):
    values = MAKERS[maker](np.random.default_rng(7), 20_001).astype(np.float32)
    low, high = RobustRange(0.5, 99.5).window(values)
    exact = values.astype(np.float64)
    foreground = exact[values > np.float32(exact.mean())]
    if foreground.size and np.percentile(foreground, 99.5) > np.percentile(exact, 0.5):
        np.testing.assert_allclose(
            (low, high), (np.percentile(exact, 0.5), np.percentile(foreground, 99.5)), rtol=1e-12
        )
    else:
        assert high > low == values.min()


def test_what_is_not_finite_is_counted():
    values = np.array([1, np.nan, np.inf, -np.inf, 3, np.nan], np.float32)
    scan = scan_slabs(lambda: [values[:3], values[3:]], (0.5, 99.5))
    assert (scan.n_nan, scan.n_inf, scan.low, scan.high, scan.window) == (2, 2, 1, 3, None)


def test_a_pass_without_voxels_is_noticed():
    with pytest.raises(ValueError, match="no voxels"):
        scan_slabs(list)


def test_keys_sort_as_the_numbers_do():
    values = np.array([-np.inf, -3e38, -1, -1e-45, 0, 1e-45, 1, 3e38, np.inf], np.float32)
    keys = _keys(values)
    assert (np.diff(keys.astype(np.int64)) > 0).all()
    np.testing.assert_array_equal([_value(int(key)) for key in keys], values)
