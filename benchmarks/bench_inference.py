"""Measure time, memory and error of inference: whole volume, streaming, and MONAI's sliding window, in one process.

    python benchmarks/bench_inference.py --size 96 --threads 2
    python benchmarks/bench_inference.py --size 144 --device cuda --autocast bfloat16

It runs a bundle's network on a volume of random numbers and prints a Markdown table with the best of several rounds.
The variants take turns in each round, so that other load on the machine affects all of them equally.

- voxels/s: output voxels per second.
- cpu: processor seconds of all threads; other load changes them less than the time.
- share: the time that the convolutions would take at the best speed of the largest one alone, divided by the time
taken.
  100 % is an inference that only convolves at that speed.
- memory: on a GPU, the peak of the tensors; on the CPU, the growth of the process.
- error: maximum absolute difference from the whole volume's result, divided by the range of that result.
- kept: the C library keeps freed memory for the next request (`medsr_monai.system.allocation`), as streams do.
- OpenVINO: with `--openvino` and that package, the whole volume in this runtime instead of PyTorch.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from pathlib import Path

import fire
import torch
from bench_training import device_name
from monai.bundle import ConfigParser
from monai.inferers import SlidingWindowInferer
from torch import Tensor, nn
from torch.nn import functional

from medsr_monai.system.allocation import keeping_freed_memory
from medsr_monai.upscaling import StreamingInferer

ROOT = Path(__file__).parent.parent
GIGA, MEBI = 1e9, 2**20
SAMPLING_SECONDS = 0.01


class ResidentPeak:
    """A context manager that measures the growth of this process's resident memory, sampled by a thread."""

    def __enter__(self) -> ResidentPeak:
        self.start = self.peak = self._resident()
        self.done = threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.done.set()
        self.thread.join()

    @property
    def grown(self) -> int:
        return self.peak - self.start

    def _watch(self) -> None:
        while not self.done.wait(SAMPLING_SECONDS):
            self.peak = max(self.peak, self._resident())

    @staticmethod
    def _resident() -> int:
        status = Path("/proc/self/status").read_text()
        return 1024 * next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))


def load_network(bundle: str, device: torch.device) -> nn.Module:
    """Load the generator of a bundle with its weights."""
    parser = ConfigParser()
    parser.read_config(str(ROOT / "bundles" / bundle / "configs" / "inference.json"))
    parser.update({"bundle_root": str(ROOT / "bundles" / bundle), "device": device})
    return parser.get_parsed_content("network").eval()


def convolutions(network: nn.Module) -> list[nn.Conv3d]:
    return [module for module in network.modules() if isinstance(module, nn.Conv3d)]


def operations_per_voxel(convolution: nn.Conv3d) -> int:
    return 2 * convolution.weight.numel()


def best_rate(network: nn.Module, size: int, precision: torch.dtype | None) -> float:
    """Measure the operations per second of the network's largest convolution alone, on 32 slices of the volume."""
    largest = max(convolutions(network), key=operations_per_voxel)
    weight = largest.weight.detach().to(precision or largest.weight.dtype)
    image = torch.rand(1, largest.in_channels, min(size, 32), size, size, dtype=weight.dtype, device=weight.device)
    image = image.to(memory_format=torch.channels_last_3d)
    seconds = []
    for _ in range(4):
        start = now(weight.device)
        with torch.inference_mode():
            functional.conv3d(image, weight, padding=1)
        seconds.append(now(weight.device) - start)
    return operations_per_voxel(largest) * image[0, 0].numel() / min(seconds)


def now(device: torch.device) -> float:
    """The time in seconds, after the device has finished its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def measure(run: Callable[[], Tensor], device: torch.device) -> tuple[Tensor, float, float, float, float]:
    """Run and return the result, its seconds, its processor seconds, and the peaks of host and device memory in MiB."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    with ResidentPeak() as memory, torch.inference_mode():
        start, processor = now(device), time.process_time()
        result = run()
        seconds, processor = now(device) - start, time.process_time() - processor
    on_device = torch.cuda.max_memory_allocated(device) / MEBI if device.type == "cuda" else 0.0
    return result, seconds, processor, memory.grown / MEBI, on_device


def openvino_run(network: nn.Module, image: Tensor) -> Callable[[], Tensor]:
    """Compile the network for the whole volume in OpenVINO, with as many threads as PyTorch."""
    import openvino

    model = openvino.convert_model(network, example_input=image, input=[list(image.shape)])
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": torch.get_num_threads(), "NUM_STREAMS": 1}
    compiled = openvino.Core().compile_model(model, "CPU", settings)
    return lambda: torch.from_numpy(compiled(image.numpy())[0])


def candidates(
    network: nn.Module, image: Tensor, slabs: list[int], autocast: str | None, windows: bool, openvino: bool
) -> dict[str, Callable]:
    """The variants to compare, by name; the whole volume comes first."""
    low = None if autocast is None else getattr(torch, autocast)

    def cast(run: Callable[[Tensor], Tensor]) -> Callable[[], Tensor]:
        def within() -> Tensor:
            with torch.autocast(image.device.type, low, enabled=low is not None):
                return run(image)

        return within

    whole = cast(lambda x: network(x.contiguous(memory_format=torch.channels_last_3d)))

    def kept() -> Tensor:
        with keeping_freed_memory():
            return whole()

    runs = {"whole volume": whole}
    if image.device.type == "cpu":
        runs["whole volume, memory kept"] = kept
    if openvino:
        runs["whole volume, OpenVINO"] = openvino_run(network, image)
    for slab in slabs:
        inferer = StreamingInferer(axis=0, slab=slab, autocast=autocast, memory_gb=1e6)
        runs[f"streaming, slab {slab}"] = lambda inferer=inferer: inferer(image, network)
    for overlap in (0.25, 0.5) if windows else ():
        window = SlidingWindowInferer(48, 1, overlap, mode="gaussian")
        runs[f"sliding window 48, overlap {overlap}"] = cast(lambda x, window=window: window(x, network))
    return runs


def main(
    size: int = 96,
    slabs: tuple | list | int = (4, 16, 32),
    rounds: int = 3,
    bundle: str = "brain_mri_super_resolution",
    device: str = "cpu",
    threads: int = 2,
    autocast: str | None = None,
    windows: bool = True,
    openvino: bool = False,
) -> None:
    """Measure and print a table.

    Args:
        size: voxels along each axis of the input.
        slabs: input slices per step of the streams.
        rounds: number of rounds, of which the best counts.
        bundle: name of the bundle.
        device: device of the network.
        threads: of PyTorch on the CPU.
        autocast: "bfloat16", "float16" or None.
        windows: whether to measure the sliding windows, which take most of the time.
        openvino: whether to measure OpenVINO, which must be installed.
    """
    torch.set_num_threads(threads)
    place = torch.device(device)
    network = load_network(bundle, place)
    image = torch.rand(1, 1, size, size, size, generator=torch.Generator().manual_seed(0)).to(place)
    runs = candidates(network, image, [slabs] if isinstance(slabs, int) else list(slabs), autocast, windows, openvino)
    rate = best_rate(network, size, None if autocast is None else getattr(torch, autocast))
    bare = sum(map(operations_per_voxel, convolutions(network))) * size**3 / rate
    best: dict[str, list[float]] = {}
    errors: dict[str, float] = {}
    expected = None
    for _ in range(rounds):
        for name, run in runs.items():
            result, *measured = measure(run, place)
            best[name] = [*map(min, measured, best.get(name, [math.inf] * 4))]
            expected = result.float() if expected is None else expected
            errors[name] = float((result.float() - expected).abs().max() / (expected.max() - expected.min()))
            voxels = result[0, 0].numel()
            del result
    what = f"{device_name(place, threads)}, {size}^3 voxels, {autocast or 'float32'}"
    print(f"{what}; largest convolution alone {rate / GIGA:.0f} GFLOP/s\n")
    print("| inference | s | cpu s | Mvoxel/s | share | host MiB | device MiB | error |")
    print("|---" * 8 + "|")
    for name, (seconds, processor, host, on_device) in best.items():
        figures = f"{seconds:.2f} | {processor:.2f} | {voxels / seconds / 1e6:.2f} | {bare / seconds:.0%}"
        print(f"| {name} | {figures} | {host:.0f} | {on_device:.0f} | {errors[name]:.1e} |")


if __name__ == "__main__":
    fire.Fire(main)
