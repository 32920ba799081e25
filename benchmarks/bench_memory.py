"""Measure the peak memory of `medsr upscale --stream always` against the depth of the volume.

    python benchmarks/bench_memory.py --depths 64,256,1024
    python benchmarks/bench_memory.py --side 512 --depths 600 --suffix .nii --memory_gb 3 --folder /a/large/disk

It writes volumes of random int16 numbers and upscales each from file to file in a separate process. It uses the
bundle's workflow with a small RRDB network, including the projection, and prints a Markdown table.

- peak: the largest resident memory of the process (`ru_maxrss`), including the interpreter and the libraries.
- start: the same after all imports, before the volume is opened.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import fire
import numpy as np
import torch

from medsr_monai.geometry import Grid
from medsr_monai.networks import RRDBNet
from medsr_monai.volumes import SlabWriter, read_info

NETWORK = {"features": 8, "growth": 4, "dense_blocks": 1}
PROGRAM = """
import resource, sys, time
from pathlib import Path
from medsr_monai.bundle.commands import cli
import medsr_monai.training, medsr_monai.networks, medsr_monai.volumes
from monai.bundle import ConfigWorkflow
source, target, settings = sys.argv[1], sys.argv[2], eval(sys.argv[3])
start, begun = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
cli.run_inference(
    cli.bundle_root("brain_mri_super_resolution"), input=source, output_file=target, stream="always",
    output_dir=str(Path(target).parent),
    progress=False, device="cpu", **settings,
)
print(start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter() - begun)
"""


def write_source(path: Path, side: int, depth: int) -> None:
    """Write random numbers slice by slice, so that a large volume needs little memory."""
    grid = Grid((side, side, depth), np.diag([1.0, 1.0, 1.0, 1.0]))
    rng = np.random.default_rng(0)
    with SlabWriter(path, grid, dtype="int16") as writer:
        for _ in range(depth):
            writer.write(rng.gamma(2, 150, (side, side, 1)).astype(np.float32))


def measure(folder: Path, side: int, depth: int, suffix: str, settings: dict) -> tuple[float, float, float]:
    """Measure one volume: MiB at the start, MiB at the peak, and seconds."""
    source, target = folder / "source.nii", folder / f"target{suffix}"
    write_source(source, side, depth)
    command = [sys.executable, "-c", PROGRAM, str(source), str(target), repr(settings)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr)
    start, peak, seconds = (float(word) for word in done.stdout.split()[-3:])
    if suffix != ".ome.zarr":
        assert read_info(target).shape == (2 * side, 2 * side, 2 * depth)
    return start / 1024, peak / 1024, seconds


def main(
    depths: Sequence[int] | int = (64, 256, 1024),
    side: int = 128,
    suffix: str = ".nii",
    consistency: str | float = "exact",
    profile: str = "box",
    memory_gb: float | None = None,
    slab: int | None = None,
    folder: str | None = None,
) -> None:
    """Measure and print a table.

    Args:
        depths: slices of the volumes.
        side: voxels of a slice along either axis.
        suffix: of the output.
        consistency: as for ``medsr upscale``.
        profile: the assumed acquisition, as for ``medsr upscale``.
        memory_gb: memory of the network, as for ``medsr upscale``.
        slab: input slices per step.
        folder: folder of the volumes; default is the system's folder of temporary files.
    """
    settings = {"consistency": consistency, "profile": profile, "memory_gb": memory_gb, "slab": slab}
    settings |= {f"network_def#{name}": value for name, value in NETWORK.items()}
    print("| input | output | start (MiB) | peak (MiB) | s |\n|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory(dir=folder) as place:
        weights = Path(place) / "small.pt"
        torch.manual_seed(0)
        torch.save(RRDBNet(3, **NETWORK).state_dict(), weights)
        for depth in [depths] if isinstance(depths, int) else depths:
            checkpoints = {"checkpoint": str(weights)}
            start, peak, seconds = measure(Path(place), side, depth, suffix, {**settings, **checkpoints})
            voxels = f"{2 * side}x{2 * side}x{2 * depth}"
            print(
                f"| {side}x{side}x{depth} | {voxels} {suffix} | {start:.0f} | {peak:.0f} | {seconds:.0f} |", flush=True
            )


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    fire.Fire(main)
