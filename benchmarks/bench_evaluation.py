"""Time a whole evaluation on all cores: classic methods and every full-reference measure.

    python benchmarks/bench_evaluation.py --cases 2 --side 128

The cases are synthetic: a textured ball. It prints the seconds per case and the estimated time of twenty cases.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import fire
import numpy as np
from scipy import ndimage

from medsr_monai.bundle.commands import cli
from medsr_monai.geometry import Grid
from medsr_monai.volumes import write_volume

METHODS = "nearest,linear,cubic,lanczos,wavelet,back_projection"
TARGET_CASES = 20


def write_case(path: Path, side: int, seed: int) -> None:
    """Write a ball with texture of several sizes on a background of zero."""
    rng = np.random.default_rng(seed)
    texture = sum(ndimage.gaussian_filter(rng.standard_normal((side,) * 3), s) * s**1.5 for s in (0.7, 2, 6))
    axis = np.linspace(-1, 1, side)
    inside = axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2 < 0.9
    write_volume(path, np.where(inside, 500 + 100 * texture, 0).astype(np.float32), Grid((side,) * 3, np.eye(4)))


def main(cases: int = 2, side: int = 128, workers: int | None = None, methods: str = METHODS) -> None:
    """Time an evaluation.

    Args:
        cases: number of cases. The time of as many tiny cases is subtracted before the time is scaled to twenty.
        side: voxels along each axis.
        workers: processes; default is one per core.
        methods: as for ``medsr evaluate``.
    """
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for number in range(cases):
            write_case(root / "hr" / f"sub-{number:02d}_T1w.nii.gz", side, number)
            write_case(root / "small" / f"sub-{number:02d}_T1w.nii.gz", 16, number)
        seconds = {}
        for name in ("small", "hr"):
            began = time.perf_counter()
            cli.evaluate(str(root / name), str(root / f"run_{name}"), methods=methods, workers=workers, progress=False)
            seconds[name] = time.perf_counter() - began
        each = (seconds["hr"] - seconds["small"]) / cases
        minutes = (each * TARGET_CASES + seconds["small"]) / 60
        print(f"{cases} cases of {side}^3, {len(methods.split(','))} methods: {seconds['hr']:.1f} s")
        print(f"each case {each:.1f} s; {TARGET_CASES} cases about {minutes:.1f} minutes")


if __name__ == "__main__":
    fire.Fire(main)
