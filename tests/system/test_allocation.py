"""Memory that is kept: fewer page faults within, and everything as before afterwards."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from medsr_monai.system import allocation
from medsr_monai.system.allocation import keeping_freed_memory

# In a process of its own, whose memory no other test has cut up.
PROGRAM = """
import resource
from pathlib import Path
import torch
from medsr_monai.system.allocation import keeping_freed_memory

def faults(blocks=8):  # page faults of a block of 64 MiB, as a share of its pages, once one has been freed
    torch.ones(16 * 2**20)
    start = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(blocks):
        torch.ones(16 * 2**20)
    pages = 64 * 2**20 / resource.getpagesize()
    return (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - start) / blocks / pages

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20

print(faults())
before = resident()
with keeping_freed_memory():
    faults()  # an aligned block needs a little more than itself, so a few are cut before they serve in turn
    print(faults())
    with keeping_freed_memory():
        pass
    print(faults(), resident() - before)
print(resident() - before)
"""


@pytest.mark.skipif(allocation._glibc() is None, reason="the C library is not glibc")
def test_a_freed_block_serves_the_next_within_and_is_returned_afterwards():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    usual, within, still, kept, left = map(float, done.stdout.split())
    assert usual > 0.9
    assert within < 0.1 and still < 0.1
    assert kept > 60
    assert left < 8


def test_without_glibc_nothing_changes(monkeypatch):
    monkeypatch.setattr(allocation, "_glibc", lambda: None)
    with keeping_freed_memory():
        assert torch.ones(3).sum() == 3
    assert allocation._users == 0


def test_an_error_within_gives_the_memory_back():
    with pytest.raises(ValueError), keeping_freed_memory():
        raise ValueError
    assert allocation._users == 0
