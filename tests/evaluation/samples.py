"""Small scans of two subjects, and evaluations of them with a tiny network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.transforms import Compose

from medsr_monai.evaluation import Evaluation
from medsr_monai.geometry import Grid
from medsr_monai.networks import RRDBNet
from medsr_monai.transforms import (
    CropToMultipled,
    NormaliseIntensityd,
    ReorientToNetworkd,
    RestoreIntensityd,
)
from medsr_monai.volumes import LoadVolumed, write_volume

AFFINE = np.diag([1.0, -1.1, 0.9, 1.0])
NAMES = ("sub-01_T1w", "sub-02_T1w")


def scan(seed: int, shape: tuple[int, ...] = (24, 24, 24)) -> np.ndarray:
    """A textured ball on zero."""
    axes = np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing="ij")
    rng = np.random.default_rng(seed)
    waves = sum(np.sin(rng.uniform(6, 20) * axis + rng.uniform(0, 6)) for axis in axes)
    texture = 30 * rng.standard_normal(shape)
    return np.where(sum(a**2 for a in axes) < 0.8, 500 + 80 * waves + texture, 0).astype(np.float32)


def write_scans(folder: Path, shape: tuple[int, ...] = (24, 24, 24), names: tuple[str, ...] = NAMES) -> list[Path]:
    files = [folder / f"{name}.nii.gz" for name in names]
    for seed, file in enumerate(files):
        write_volume(file, scan(seed, shape), Grid(shape, AFFINE))
    return files


def tiny_network(seed: int = 0) -> RRDBNet:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = RRDBNet(3, features=4, growth=4).eval()
        for parameter in network.parameters():  # untrained residual branches are all but zero
            torch.nn.init.normal_(parameter, std=0.05)
    return network


def evaluation(tmp_path: Path, out: str = "run", **settings: Any) -> Evaluation:
    """Of two scans, in one process, unless the settings say otherwise."""
    cases = settings.pop("cases", None) or write_scans(tmp_path / "hr")
    for name, seed in (("model", 0), ("gan", 1)):
        if not (tmp_path / f"{name}.pt").exists():
            torch.save(tiny_network(seed).state_dict(), tmp_path / f"{name}.pt")
    given = {
        "output_dir": tmp_path / out,
        "cases": cases,
        "network": tiny_network(9),
        "weights": tmp_path / "model.pt",
        "weights_gan": tmp_path / "gan.pt",
        "load": Compose([LoadVolumed("hr"), ReorientToNetworkd("hr"), CropToMultipled("hr", (2, 2, 2))]),
        "normalise": NormaliseIntensityd("lr"),
        "restore": RestoreIntensityd("pred", "lr"),
        "scale": (2, 2, 2),
        "workers": 1,
        "progress": False,
        "resamples": 200,
    }
    return Evaluation(**{**given, **settings})
