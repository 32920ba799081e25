"""Rules for intensities: what they refuse, and that slabs of an image give what the image gives."""

from __future__ import annotations

import numpy as np
import pytest

from medsr_monai.acquisition import FixedWindow, RobustRange
from medsr_monai.system.errors import InputError


@pytest.mark.parametrize("rule", [RobustRange(), RobustRange(20, 60), FixedWindow(), FixedWindow(-1024, 2000)])
def test_slabs_and_image_agree(rule, rng):
    image = rng.gamma(2, 150, (6, 7, 8)).astype(np.float32)
    scan = rule.scan(lambda: np.array_split(image, 3))
    assert scan.window == rule.window(image) and (scan.low, scan.high) == (image.min(), image.max())
    image[0, 0, 0] = np.nan
    assert rule.scan(lambda: [image]).window is None and rule.scan(lambda: [image]).n_nan == 1


def test_an_image_that_is_not_finite_has_no_robust_range():
    with pytest.raises(InputError, match="NaN"):
        RobustRange().window(np.array([1.0, np.nan]))


@pytest.mark.parametrize("make", [
    lambda: RobustRange(-1, 50), lambda: RobustRange(0, 101), lambda: RobustRange("much"), lambda: RobustRange(True),
    lambda: FixedWindow(1, 1), lambda: FixedWindow(2, 1), lambda: FixedWindow(0, np.inf), lambda: FixedWindow("a", "b"),
])  # fmt: skip
def test_settings_that_cannot_serve(make):
    with pytest.raises(InputError, match=r"^intensity: "):
        make()
