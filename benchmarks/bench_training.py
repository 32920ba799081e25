"""Measure the parts of a training iteration: waiting for data, forward, backward, discriminator, and the rest.

    python benchmarks/bench_training.py --dataset_dir $MEDSR_DATA/mri --iterations 50

It runs a bundle's train.json, and train_gan.json on top of it, each in a separate process, and prints a Markdown table.
The time between two events of the engine counts for the phase that the second event ends. A GPU is synchronised at each
event, which makes an iteration a little slower.

- data: waiting for the loader. Near 0, its processes keep up; otherwise raise ``num_workers``.
- forward, backward: the generator's step with its losses; in the GAN stage, also the feature network and the
  discriminator.
- discriminator: its whole step without the optimiser's.
- other: optimisers, averaging of weights, handlers. Validation and checkpoints come once in many iterations and are
  left out.
- GFLOP/s: the generator's convolutions, forward and backward, divided by the time of a whole iteration. Discriminator
  and feature network do not count, so in the GAN stage it is a lower bound of the device's speed.
- memory: on a GPU, the peak of the tensors; on the CPU, the process's resident set without the loader's processes.
"""

from __future__ import annotations

import math
import os
import platform
import resource
import tempfile
import time
from collections import defaultdict
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import fire
import torch
from ignite.engine import Engine, Events
from monai.bundle import ConfigParser
from monai.engines.utils import IterationEvents
from monai.utils.enums import AdversarialIterationEvents
from torch import Tensor, nn

ROOT = Path(__file__).parent.parent
STAGES = {"fidelity": ["train"], "gan": ["train", "train_gan"]}
PHASES = ("data", "forward", "backward", "discriminator", "other")
BACKWARD_COST = 2  # in forward passes: gradients of the input and of the weights
GIGA, MEBI = 1e9, 2**20
# The phase that ends at each event.
ENDS: dict[object, str] = {
    Events.GET_BATCH_STARTED: "other",
    Events.GET_BATCH_COMPLETED: "data",
    Events.ITERATION_STARTED: "other",
    IterationEvents.FORWARD_COMPLETED: "forward",
    IterationEvents.LOSS_COMPLETED: "forward",
    IterationEvents.BACKWARD_COMPLETED: "backward",
    IterationEvents.MODEL_COMPLETED: "other",
    Events.ITERATION_COMPLETED: "other",
}
GAN_ENDS: dict[object, str] = {
    AdversarialIterationEvents.GENERATOR_MODEL_COMPLETED: "other",
    AdversarialIterationEvents.DISCRIMINATOR_REALS_FORWARD_COMPLETED: "discriminator",
    AdversarialIterationEvents.DISCRIMINATOR_FAKES_FORWARD_COMPLETED: "discriminator",
    AdversarialIterationEvents.DISCRIMINATOR_LOSS_COMPLETED: "discriminator",
    AdversarialIterationEvents.DISCRIMINATOR_BACKWARD_COMPLETED: "discriminator",
    AdversarialIterationEvents.DISCRIMINATOR_MODEL_COMPLETED: "other",
}


class Stopwatch:
    """Seconds by phase, from the engine's events.

    Args:
        warmup: number of first iterations that do not count.
    """

    def __init__(self, warmup: int) -> None:
        self.warmup = warmup
        self.seconds: dict[str, float] = defaultdict(float)
        self.last = math.nan

    def attach(self, trainer: Engine, ends: dict[object, str]) -> None:
        """Listen to the trainer; attach it last, so that it measures the time of other handlers."""
        for event, phase in ends.items():
            trainer.add_event_handler(event, self.mark, phase)

    def mark(self, trainer: Engine, phase: str) -> None:
        """Add the time since the last event to the phase that this event ends."""
        device = trainer.state.device
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        now = time.perf_counter()
        # The engine requests a batch before it increases the number of the iteration.
        fetching = phase == "data"
        if trainer.state.iteration + fetching > self.warmup and not math.isnan(self.last):
            self.seconds[phase] += now - self.last
        self.last = now


class ConvolutionCounter:
    """Count the floating-point operations of a network's convolutions during training."""

    def __init__(self, network: nn.Module) -> None:
        self.operations = 0.0
        for module in network.modules():
            if isinstance(module, (nn.Conv2d, nn.Conv3d)):
                module.register_forward_hook(self.add)

    def add(self, convolution: nn.Conv2d | nn.Conv3d, inputs: tuple[Tensor], output: Tensor) -> None:
        """Add one forward pass, and its backward pass if gradients are enabled."""
        per_voxel = 2 * convolution.in_channels // convolution.groups * math.prod(convolution.kernel_size)
        self.operations += output.numel() * per_voxel * (1 + BACKWARD_COST * torch.is_grad_enabled())


def parser_of(bundle: Path, stage: str, overlays: list[str], settings: dict) -> ConfigParser:
    """Read the stage's configuration without validation."""
    own = {path.stem: path for path in (bundle / "configs").glob("*.json")}
    parser = ConfigParser()
    parser.read_config([str(own.get(name, name)) for name in [*STAGES[stage], *overlays]])
    parser.update({"bundle_root": str(bundle), **settings})
    handlers = [h for h in parser["train"]["handlers"] if h["_target_"] != "ValidationHandler"]
    parser.update({"train#handlers": handlers})
    parser.parse()
    return parser


def measure(stage: str, bundle: Path, overlays: list[str], settings: dict, iterations: int, warmup: int) -> list[float]:
    """Train for ``iterations`` after ``warmup``.

    Returns:
        Seconds per iteration in each phase, then samples per iteration of the generator, GFLOP per iteration, and peak
        memory in MiB.
    """
    with tempfile.TemporaryDirectory() as folder:
        count = {"epoch_length": warmup + iterations, "max_epochs": 1, "ckpt_dir": folder, "resume": False}
        parser = parser_of(bundle, stage, overlays, {**settings, **count})
        trainer = parser.get_parsed_content("train#trainer")
        parser.get_parsed_content("ema").attach(trainer, name="ema_momentum")
        counter = ConvolutionCounter(trainer.network)
        stopwatch = Stopwatch(warmup)
        stopwatch.attach(trainer, {**ENDS, **GAN_ENDS} if stage == "gan" else ENDS)
        trainer.run()
        if trainer.state.device.type == "cuda":
            peak = torch.cuda.max_memory_allocated(trainer.state.device) / MEBI
        else:
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # Linux counts KiB
        operations = counter.operations / (warmup + iterations) / GIGA
        phases = [stopwatch.seconds[phase] / iterations for phase in PHASES]
        return [*phases, parser.get_parsed_content("batch_size"), operations, peak]


def device_name(device: torch.device, threads: int) -> str:
    """The name of the device."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor() or platform.machine()}, {threads} threads"


def row(stage: str, name: str, measured: list[float]) -> str:
    """Format one row of the table."""
    *phases, samples, operations, peak = measured
    total = sum(phases)
    cells = [f"{100 * seconds / total:.0f} %" for seconds in phases]
    speed = [f"{total:.3f}", f"{samples / total:.2f}", f"{operations / total:.0f}", f"{peak:.0f}"]
    return " | ".join(["", stage, name, *speed, *cells, ""]).strip()


def run_stage(stage: str, threads: int, *arguments: Any) -> list[float]:
    """Measure one stage; call it in a separate process, so that the memory peak is that of the stage."""
    torch.set_num_threads(threads)
    return measure(stage, *arguments)


def main(
    dataset_dir: str,
    stage: str = "all",
    bundle: str = "brain_mri_super_resolution",
    overlays: str | tuple | list = ("shipped_weights",),
    device: str = "cuda" if torch.cuda.is_available() else "cpu",
    iterations: int = 50,
    warmup: int = 5,
    num_workers: int = 1,
    threads: int = min(2, os.cpu_count() or 1),
    settings: dict | None = None,
) -> None:
    """Measure the stages and print a table.

    Args:
        dataset_dir: folder of the training volumes.
        stage: "fidelity", "gan" or "all".
        bundle: name of a bundle.
        overlays: configurations on top of the stage's: names of the bundle's own, or files. The default is the split of
            the shipped weights; give ``[]`` for other images.
        device: device of the training.
        iterations: number of measured iterations.
        warmup: number of iterations before them.
        num_workers: number of loading processes.
        threads: of PyTorch on the CPU.
        settings: other keys of the configuration, e.g. ``{"batch_size": 8}``.
    """
    if stage not in (*STAGES, "all"):
        raise SystemExit(f"stage '{stage}': choose one of {', '.join(STAGES)}, all")
    if iterations < 1 or warmup < 1:
        raise SystemExit("iterations, warmup: must be 1 or more, because the first iteration starts the loader")
    overlays = [overlays] if isinstance(overlays, str) else list(overlays)
    settings = {**(settings or {}), "dataset_dir": dataset_dir, "num_workers": num_workers}
    settings["device"] = torch.device(device)
    name = device_name(torch.device(device), threads)
    load = f"{os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
    print(f"{iterations} iterations after {warmup}, {num_workers} loading process(es), load at the start {load}\n")
    print("| stage | device | s/iteration | samples/s | GFLOP/s | memory (MiB) | " + " | ".join(PHASES) + " |")
    print("|---" * (6 + len(PHASES)) + "|", flush=True)
    for chosen in STAGES if stage == "all" else [stage]:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            task = (chosen, threads, ROOT / "bundles" / bundle, overlays, settings, iterations, warmup)
            print(row(chosen, name, pool.submit(run_stage, *task).result()), flush=True)


if __name__ == "__main__":
    fire.Fire(main)
