"""Memory that is kept: fewer page faults within, and everything as before afterwards."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest
import torch

from medsr_monai import allocation
from medsr_monai.allocation import keeping_freed_memory

PAGES = 64 * 2**20 // resource.getpagesize()


def faults_per_block(blocks: int = 8) -> float:
    """Page faults that a block of 64 MiB costs, as a share of its pages, once one has been freed."""
    torch.ones(16 * 2**20)
    start = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(blocks):
        torch.ones(16 * 2**20)
    return (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - start) / blocks / PAGES


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


@pytest.mark.skipif(allocation._glibc() is None, reason="the C library is not glibc")
def test_a_freed_block_serves_the_next_within_and_is_returned_afterwards():
    assert faults_per_block() > 0.9
    before = resident()
    with keeping_freed_memory():
        within = faults_per_block()
        with keeping_freed_memory():
            pass
        still = faults_per_block()
        kept = resident() - before
    assert within < 0.1 and still < 0.1
    assert kept > 60 * 2**20
    assert resident() - before < 8 * 2**20


def test_without_glibc_nothing_changes(monkeypatch):
    monkeypatch.setattr(allocation, "_glibc", lambda: None)
    with keeping_freed_memory():
        assert torch.ones(3).sum() == 3
    assert allocation._users == 0


def test_an_error_within_gives_the_memory_back():
    with pytest.raises(ValueError), keeping_freed_memory():
        raise ValueError
    assert allocation._users == 0
