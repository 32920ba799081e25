"""Values of piq 0.8.0 on images made by a formula, kept in golden_piq.json: ``python golden_piq.py`` writes it anew.

It needs ``pip install --no-deps piq==0.8.0``. The images are made here, so that the tests measure the same ones.
"""

from __future__ import annotations

import importlib
import json
import sys
import types
from pathlib import Path

import numpy as np
import torch
from scipy.stats import gennorm

FILE = Path(__file__).with_suffix(".json")
SIZES = {"even": (192, 176), "odd": (57, 63)}
DISTORTIONS = ("noise", "blur", "contrast")
SHAPES = {"ggd": (0.5, 1.0, 2.0, 4.0), "aggd": ((0.7, 1.0, 2.0), (1.5, 2.0, 0.5), (2.0, 1.0, 1.0))}


def hashed_noise(shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Uniform in [0, 1), by a formula that no library's version changes."""
    index = np.arange(1, int(np.prod(shape)) + 1, dtype=np.float64).reshape(shape)
    return np.modf(np.abs(np.sin(index * 12.9898 + seed * 78.233)) * 43758.5453)[0]


def pair(size: str, distortion: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Distorted image and reference in [0, 1], (1, 1, H, W) float64."""
    rows, columns = np.meshgrid(*[np.linspace(0, 1, n) for n in SIZES[size]], indexing="ij")
    hr = 0.5 + 0.2 * np.sin(40 * rows * columns) + 0.15 * (np.hypot(rows - 0.5, columns - 0.4) < 0.3)
    hr = hr + 0.1 * (hashed_noise(hr.shape, 1) - 0.5)
    if distortion == "noise":
        sr = hr + 0.2 * (hashed_noise(hr.shape, 2) - 0.5)
    elif distortion == "blur":
        sr = sum(np.roll(hr, (i, j), (0, 1)) for i in (-1, 0, 1) for j in (-1, 0, 1)) / 9
    else:
        sr = 0.5 + 0.6 * (hr - 0.5) + 0.05 * rows
    return tuple(torch.from_numpy(np.clip(image, 0, 1))[None, None] for image in (sr, hr))


def samples(kind: str) -> torch.Tensor:
    """Values of generalised Gaussians of the ``SHAPES`` (shape, left and right scale): (rows, 64, 64) float64."""
    rows = []
    for seed, shape in enumerate(SHAPES[kind]):
        alpha, left, right = (shape, 1.0, 1.0) if kind == "ggd" else shape
        magnitude = gennorm.ppf(0.5 + hashed_noise((64, 64), 10 + seed) / 2, alpha)
        is_left = hashed_noise((64, 64), 20 + seed) < left / (left + right)
        rows.append(magnitude * np.where(is_left, -left, right))
    return torch.from_numpy(np.stack(rows))


def main() -> None:
    sys.modules.setdefault("torchvision", types.ModuleType("torchvision"))
    package = types.ModuleType("piq")  # the package's own __init__ wants torchvision
    package.__path__ = [str(Path(p) / "piq") for p in sys.path if (Path(p) / "piq" / "vif.py").is_file()]
    sys.modules["piq"] = package
    haarpsi = importlib.import_module("piq.haarpsi").haarpsi
    vif_p = importlib.import_module("piq.vif").vif_p
    ms_ssim = importlib.import_module("piq.ms_ssim").multi_scale_ssim
    brisque = importlib.import_module("piq.brisque")
    values: dict[str, object] = {}
    for size in SIZES:
        for distortion in DISTORTIONS:
            sr, hr = pair(size, distortion)
            values[f"haarpsi {size} {distortion}"] = haarpsi(sr, hr).item()
            values[f"vif {size} {distortion}"] = vif_p(sr, hr).item()
            if size == "even":
                values[f"ms_ssim {size} {distortion}"] = ms_ssim(sr, hr).item()
                weights = torch.tensor([0.0448, 0.2856, 0.3001], dtype=torch.float64)
                values[f"ms_ssim3 {size} {distortion}"] = ms_ssim(sr, hr, scale_weights=weights).item()
    for kind, fit in (("ggd", brisque._ggd_parameters), ("aggd", brisque._aggd_parameters)):
        values[kind] = torch.stack([p.reshape(-1) for p in fit(samples(kind)[:, None])]).T.tolist()
    FILE.write_text(json.dumps(values, indent=1) + "\n")


if __name__ == "__main__":
    main()
