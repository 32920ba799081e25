"""Two processes that average their gradients learn what one process learns from all images."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, distributed, multiprocessing

from medsr_monai.training.losses import RelativisticAverage
from medsr_monai.training.losses.distributed import mean_over_processes

PROCESSES = 2


def draw(seed: int, *size: int) -> Tensor:
    return torch.randn(*size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def judge(weight: Tensor, images: Tensor) -> list[Tensor]:
    """Verdicts of two scales, not linear in the weight."""
    return [images @ weight, torch.tanh(images * weight)[:, :2]]


def losses_and_gradients(part: slice) -> dict[str, Tensor]:
    """Both sides' losses and gradients on a part of the batch."""
    loss = RelativisticAverage()
    hr, noise = draw(0, 6, 3)[part] + 1, draw(1, 6, 3)[part]
    weight, gain = draw(2, 3).requires_grad_(), draw(3, 3).requires_grad_()
    discriminator = loss.discriminator(judge(weight, hr), judge(weight, noise * gain.detach()))
    generator = loss.generator(judge(weight.detach(), noise * gain), judge(weight.detach(), hr))
    (slope,) = torch.autograd.grad(discriminator, weight)
    (slope_of_gain,) = torch.autograd.grad(generator, gain)
    return {
        "discriminator": discriminator.detach(),
        "generator": generator.detach(),
        "slope": slope,
        "slope_of_gain": slope_of_gain,
    }


def run_one(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    meeting = f"file://{folder}/meeting"
    distributed.init_process_group("gloo", init_method=meeting, rank=rank, world_size=PROCESSES)
    values = losses_and_gradients(slice(rank * 3, rank * 3 + 3))
    own = {f"own_{name}": value.clone() for name, value in values.items()}
    for value in values.values():  # what DDP does to gradients, and a log to losses
        distributed.all_reduce(value)
        value /= PROCESSES
    torch.save(values | own, f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


def test_gradients_averaged_over_processes_are_those_of_the_whole_batch(tmp_path: Path):
    multiprocessing.spawn(run_one, args=(str(tmp_path),), nprocs=PROCESSES)
    whole = losses_and_gradients(slice(None))
    parts = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(PROCESSES)]
    for name, expected in whole.items():
        for part in parts:
            torch.testing.assert_close(part[name], expected, rtol=1e-12, atol=1e-14)
    assert not torch.allclose(parts[0]["own_slope"], parts[1]["own_slope"])  # the parts do differ
    # Means of each process's own batch would give something else: the exchange is what makes them equal.
    alone = [losses_and_gradients(slice(rank * 3, rank * 3 + 3))["slope"] for rank in range(PROCESSES)]
    assert not torch.allclose(sum(alone) / PROCESSES, whole["slope"], rtol=1e-3)


def test_a_single_process_exchanges_nothing():
    values = torch.ones(3, requires_grad=True)
    assert mean_over_processes(values) is values
    assert losses_and_gradients(slice(None))["generator"].item() == pytest.approx(
        losses_and_gradients(slice(0, 6))["generator"].item()
    )
