"""What each choice of the training recipe buys: short trainings of the bundle's own train.json, one change at a time.

    python benchmarks/bench_recipe.py --dataset_dir $MEDSR_DATA/mri --variants base,lr_2e-3 --iterations 300

Prints a Markdown table row per variant: foreground PSNR on the validation subject (central crop) for three ways to
make the
low-resolution input, above cubic B-spline, and the time per iteration. A variant marked "same time" trains as many
iterations as the base does in the same time.
"""

from __future__ import annotations

import time
from pathlib import Path

import fire
import numpy as np
import torch
from monai.bundle import ConfigParser

from medsr_monai.inferers import ConsistentInferer
from medsr_monai.interpolation import cubic_bspline
from medsr_monai.metrics import foreground_mask, psnr
from medsr_monai.transforms import Acquired, NormaliseIntensityd

BUNDLE = Path(__file__).parent.parent / "bundles" / "brain_mri_super_resolution"
VARIANTS: dict[str, dict] = {
    "base": {},
    "gain_0.1": {"network_def#initial_gain": 0.1},
    "gain_0.1_clip_0.1": {"network_def#initial_gain": 0.1, "train#trainer#clip_norm": 0.1},
    "clip_0.1": {"train#trainer#clip_norm": 0.1},
    "residual_1": {"network_def#residual_scale": 1.0},
    "residual_half": {"network_def#residual_scale": 0.5},
    "lr_2e-3": {"learning_rate": 0.002},
    "residual_1_lr_2e-3": {"network_def#residual_scale": 1.0, "learning_rate": 0.002},
    "lr_5e-4": {"learning_rate": 0.0005},
    "patch_32_batch_8": {"patch_size": 32, "batch_size": 8},
    "patch_56_batch_2": {"patch_size": 56, "margin_size": 80, "batch_size": 2},
    "features_48_growth_32": {"network_def#features": 48, "network_def#growth": 32},
    "features_64_growth_32_dense_1": {
        "network_def#features": 64,
        "network_def#growth": 32,
        "network_def#dense_blocks": 1,
    },
    "features_32_growth_32_dense_2": {"network_def#growth": 32, "network_def#dense_blocks": 2},
    "blocks_2": {"network_def#num_blocks": 2},
    "no_affine": {"affine_prob": 0.0},
    "no_intensity": {"intensity_prob": 0.0},
    "box_only": {
        "acquisition#profiles": {"box": 1.0},
        "acquisition#noise_prob": 0.0,
        "acquisition#box_width_prob": 0.0,
    },
    "denoised": {"denoise_steps": 2},
}
TESTS = {"box": ("box", 0.0), "gaussian 1 %": ("gaussian", 0.01), "k-space": ("kspace", 0.0)}
CROP = 128


def measure(parser: ConfigParser) -> dict[str, float]:
    """Gain over cubic B-spline in dB by kind of input, on the central crop of the validation subject."""
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
    """Train one variant; returns its configuration and the seconds per iteration."""
    parser = ConfigParser()
    parser.read_config([BUNDLE / "configs" / "train.json", BUNDLE / "configs" / "shipped_weights.json"])
    parser.update({"bundle_root": str(BUNDLE), "dataset_dir": dataset_dir, "epoch_length": 50, "num_workers": 0})
    parser.update({"max_epochs": iterations // 50, "warmup": 50, "train#handlers": parser["train"]["handlers"][:1]})
    # Load, orient and crop the validation volume; the low-resolution inputs are made here.
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
    dataset_dir: str, variants: str | tuple = "base", iterations: int = 300, seconds: float = 0, threads: int = 2
) -> None:
    """Train and measure the variants, one after the other.

    Args:
        dataset_dir: folder of the training volumes.
        variants: names, comma separated.
        iterations: of each training.
        seconds: train every variant about this long instead, after timing it; 0 uses ``iterations``.
        threads: of PyTorch.
    """
    torch.set_num_threads(threads)
    names = variants.split(",") if isinstance(variants, str) else list(variants)
    print("| variant | parameters | iterations | s/iteration | " + " | ".join(f"{t} gain (dB)" for t in TESTS) + " |")
    print("|---|---|---|---|" + "---|" * len(TESTS))
    for name in names:
        count = iterations
        if seconds:
            count = max(50, int(seconds / train(dataset_dir, name, 50)[1]) // 50 * 50)
        parser, rate = train(dataset_dir, name, count)
        size = sum(p.numel() for p in parser.get_parsed_content("network").parameters())
        gains = measure(parser)
        row = " | ".join(f"{np.round(gain, 2):+.2f}" for gain in gains.values())
        print(f"| {name} | {size / 1e6:.2f} M | {count} | {rate:.2f} | {row} |", flush=True)


if __name__ == "__main__":
    fire.Fire(main)
