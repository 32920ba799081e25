"""Batches are taken apart into what an engine needs."""

from __future__ import annotations

import pytest
import torch
from torch.utils.data import DataLoader

from medsr_monai.system.errors import InputError
from medsr_monai.training import prepare_acquired_batch, prepare_measured_batch
from medsr_monai.training.batches import cut_batch
from tests.training.samples import patches


def test_batches_are_taken_apart():
    lr, hr = torch.rand(1, 1, 2, 2, 2), torch.rand(1, 1, 4, 4, 4)
    taken = prepare_measured_batch({"lr": lr, "hr": hr}, "cpu", dtype=torch.float64)
    assert [t.dtype for t in taken] == [torch.float64] * 2 and torch.equal(taken[1], hr.double())


@pytest.mark.parametrize("parts", [1, 2, 3, 6])
def test_parts_of_a_batch_are_the_batch(parts):
    batch = next(iter(DataLoader(patches(6), batch_size=6)))
    cut = cut_batch(batch, parts)
    assert len(cut) == parts
    for key, value in batch.items():
        assert torch.equal(torch.cat([torch.as_tensor(part[key]) for part in cut]), torch.as_tensor(value))
    lr, hr, _, measured = prepare_acquired_batch(cut[-1])
    torch.testing.assert_close(measured["acquisition"].forward(hr), lr, rtol=0, atol=1e-5)


def test_a_batch_that_cannot_be_cut_is_refused():
    with pytest.raises(InputError, match=r"batch of 6: cannot be cut into 4 equal parts"):
        cut_batch(next(iter(DataLoader(patches(6), batch_size=6))), 4)
