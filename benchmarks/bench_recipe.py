"""Measure the effect of each choice of the training recipe by short trainings of train.json with one change each.

    python benchmarks/bench_recipe.py --dataset_dir $MEDSR_DATA/mri --seconds 90

It prints a Markdown table with a row per variant: the gain in foreground PSNR over cubic B-spline on the central crop
of the validation subject, for three ways to make the low-resolution input. With --seconds, every variant trains equally
long, so a slower iteration means fewer iterations.
"""

from __future__ import annotations

import time
from pathlib import Path

import fire
import numpy as np
import torch
from monai.bundle import ConfigParser

from medsr_monai.geometry import cubic_bspline
from medsr_monai.metrics import foreground_mask, psnr
from medsr_monai.transforms import Acquired, NormaliseIntensityd
from medsr_monai.upscaling import ConsistentInferer

BUNDLE = Path(__file__).parent.parent / "bundles" / "brain_mri_super_resolution"
VARIANTS: dict[str, dict] = {
    "base": {},
    "batch 4": {"batch_size": 4},
    "patch 32, batch 4": {"patch_size": 32, "batch_size": 4},
    "patch 56, batch 1": {"patch_size": 56, "margin_size": 80, "batch_size": 1},
    "learning rate 5e-4": {"learning_rate": 0.0005},
    "learning rate 2e-3": {"learning_rate": 0.002},
    "residual scale 1": {"network_def#residual_scale": 1.0},
    "initial gain 0.1": {"network_def#initial_gain": 0.1},
    "48 features, growth 32": {"network_def#features": 48, "network_def#growth": 32},
    "64 features, growth 32, receptive radius 9": {
        "network_def#features": 64,
        "network_def#growth": 32,
        "network_def#dense_blocks": 1,
    },
    "2 blocks, receptive radius 34": {"network_def#num_blocks": 2},
    "no rotation, no scaling": {"affine_prob": 0.0},
    "no intensity changes": {"intensity_prob": 0.0},
    "box only": {
        "acquisition#profiles": {"box": 1.0},
        "acquisition#noise_prob": 0.0,
        "acquisition#box_width_prob": 0.0,
    },
    "targets denoised": {"denoise_steps": 2},
}
TESTS = {"box": ("box", 0.0), "gaussian 1 %": ("gaussian", 0.01), "k-space": ("kspace", 0.0)}
CROP = 128


def measure(parser: ConfigParser) -> dict[str, float]:
    """Measure the gain over cubic B-spline in dB by kind of input, on the central crop of the validation subject."""
    network = parser.get_parsed_content("ema").ema_model.eval()
    hr = NormaliseIntensityd("hr")(parser.get_parsed_content("validate#dataset")[0])["hr"]
    start = [(n - CROP) // 2 for n in hr.shape[1:]]
    crop = hr[(slice(None), *(slice(a, a + CROP) for a in start))]
    mask = foreground_mask(crop[None])
    gains = {}
    for name, (profile, noise) in TESTS.items():
        lr = Acquired("hr", profile=profile, noise=noise)({"hr": crop})["lr"].as_tensor()[None]
        with torch.no_grad():
            sr = ConsistentInferer()(lr, network)
        target = crop.as_tensor()[None]
        gains[name] = float(psnr(sr, target, mask) - psnr(cubic_bspline(lr, crop.shape[1:]), target, mask))
    return gains


def train(dataset_dir: str, variant: str, iterations: int) -> tuple[ConfigParser, float]:
    """Train one variant and return its configuration and the seconds per iteration."""
    parser = ConfigParser()
    parser.read_config([BUNDLE / "configs" / "train.json", BUNDLE / "configs" / "shipped_weights.json"])
    parser.update({"bundle_root": str(BUNDLE), "dataset_dir": dataset_dir, "epoch_length": 10, "num_workers": 0})
    parser.update(
        {"max_epochs": max(1, iterations // 10), "warmup": 50, "train#handlers": parser["train"]["handlers"][:1]}
    )
    # Load, orient and crop the validation volume; `measure` makes the low-resolution inputs.
    parser.update({"validate#preprocessing#transforms": parser["validate"]["preprocessing"]["transforms"][:3]})
    parser["ema"]["momentum"] = 0.01
    parser.update(VARIANTS[variant])
    parser.parse()
    torch.manual_seed(0)
    trainer = parser.get_parsed_content("train#trainer")
    parser.get_parsed_content("ema").attach(trainer, name="ema_momentum")
    start = time.perf_counter()
    trainer.run()
    return parser, (time.perf_counter() - start) / iterations


def main(
    dataset_dir: str, variants: str | tuple = "all", iterations: int = 300, seconds: float = 0, threads: int = 2
) -> None:
    """Train and measure the variants one after the other.

    Args:
        dataset_dir: folder of the training volumes.
        variants: a list of names; default is all.
        iterations: of each training.
        seconds: approximate duration of each training instead; 0 uses ``iterations``.
        threads: of PyTorch.
    """
    torch.set_num_threads(threads)
    names = list(VARIANTS) if variants == "all" else [variants] if isinstance(variants, str) else list(variants)
    print("| variant | parameters | iterations | s/iteration | " + " | ".join(f"{t} gain (dB)" for t in TESTS) + " |")
    print("|---|---|---|---|" + "---|" * len(TESTS))
    for name in names:
        count = iterations
        if seconds:
            count = max(10, int(seconds / train(dataset_dir, name, 20)[1]) // 10 * 10)
        parser, rate = train(dataset_dir, name, count)
        size = sum(p.numel() for p in parser.get_parsed_content("network").parameters())
        gains = measure(parser)
        row = " | ".join(f"{np.round(gain, 2):+.2f}" for gain in gains.values())
        print(f"| {name} | {size / 1e6:.2f} M | {count} | {rate:.2f} | {row} |", flush=True)


if __name__ == "__main__":
    fire.Fire(main)
