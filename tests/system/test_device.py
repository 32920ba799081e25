"""A device that cannot compute is refused by name."""

from __future__ import annotations

import pytest
import torch

from medsr_monai.system.device import usable_device
from medsr_monai.system.errors import InputError


def test_a_device_that_computes():
    assert usable_device("cpu") == usable_device(torch.device("cpu")) == torch.device("cpu")


@pytest.mark.parametrize("name", ["abacus", "cuda:99", "meta", "", None])
def test_a_device_that_does_not(name):
    with pytest.raises(InputError, match=f"device '{name}': not available here; use cpu"):
        usable_device(name)
