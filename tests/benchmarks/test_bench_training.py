"""benchmarks/bench_training.py counts what it says: seconds by phase, and operations of convolutions."""

from __future__ import annotations

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest
import torch
from ignite.engine import Engine, Events

PATH = Path(__file__).parents[2] / "benchmarks" / "bench_training.py"


@pytest.fixture
def bench(monkeypatch) -> ModuleType:
    spec = spec_from_file_location("bench_training", PATH)
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "bench_training", module)
    spec.loader.exec_module(module)
    return module


def test_every_second_after_the_warmup_belongs_to_one_phase(bench, monkeypatch):
    clock = iter(range(1000))
    monkeypatch.setattr(bench.time, "perf_counter", lambda: float(next(clock)))  # one second between any two events
    engine = Engine(lambda engine, batch: None)
    engine.state.device = torch.device("cpu")
    stopwatch = bench.Stopwatch(warmup=2)
    ends = {event: phase for event, phase in bench.ENDS.items() if event in set(Events)}
    stopwatch.attach(engine, ends)
    engine.run([0] * 5, max_epochs=1)
    # Three iterations: the loader's, before and after the network, and the way back to the loader but for the last one.
    assert dict(stopwatch.seconds) == {"data": 3.0, "other": 3 * 2.0 + 2}


def test_a_backward_pass_counts_twice_and_only_where_it_follows(bench):
    network = torch.nn.Sequential(torch.nn.Conv3d(2, 4, 3, padding=1), torch.nn.Conv3d(4, 4, 1, groups=2))
    counter = bench.ConvolutionCounter(network)
    forward = 2 * 5**3 * (4 * 2 * 27 + 4 * 2)
    with torch.no_grad():
        network(torch.rand(1, 2, 5, 5, 5))
    assert counter.operations == forward
    network(torch.rand(1, 2, 5, 5, 5))
    assert counter.operations == forward + 3 * forward


def test_a_stage_that_does_not_exist_is_refused(bench):
    with pytest.raises(SystemExit, match="stage 'both': choose one of fidelity, gan, all"):
        bench.main("data", stage="both")
