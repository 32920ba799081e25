"""Small batches, networks and optimisers that the tests of the engines share."""

from __future__ import annotations

import numpy as np
import torch
from ignite.engine import Engine, Events

from medsr_monai.networks import RRDBNet
from medsr_monai.transforms import RandAcquired

PATCH = 8


def patches(count: int = 4, noise: float = 0.0) -> list[dict]:
    """Smooth patches and their measurements."""
    rng = np.random.default_rng(0)
    axes = np.meshgrid(*[np.linspace(0, 1, PATCH)] * 3, indexing="ij")
    result = []
    for index in range(count):
        waves = sum(np.sin(rng.uniform(4, 12) * axis + rng.uniform(0, 6)) for axis in axes)
        measure = RandAcquired("hr", noise=(noise, noise), noise_prob=float(noise > 0)).set_random_state(index)
        result.append(measure({"hr": torch.from_numpy(0.5 + waves / 6).float()[None]}))
    return result


def network(seed: int = 0) -> RRDBNet:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return RRDBNet(3, scale=2, features=4, growth=4, dense_blocks=1)


def standing_still(parameters) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.0)


def collect_losses(trainer: Engine) -> list[float]:
    losses = []
    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda e: losses.append(float(e.state.output["loss"])))
    return losses
