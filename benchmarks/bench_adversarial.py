"""Compare adversarial objectives and feature networks by short trainings from the fidelity weights.

    python benchmarks/bench_adversarial.py --dataset_dir $MEDSR_DATA/mri --iterations 200

Every variant starts from the bundle's fidelity weights and runs the bundle's train_gan.json with the change that its
row names. The central crop of the validation subject is averaged over 2x2x2 voxels, upscaled and projected. The
Markdown table shows PSNR, the gradient-magnitude distance and the spectrum distance (smaller is closer to the
reference's texture), and the seconds per iteration. The first row is the fidelity weights without training.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import fire
import torch
from monai.bundle import ConfigParser

from medsr_monai.metrics import foreground_mask, gradient_magnitude_distance, psnr, spectrum_distance
from medsr_monai.transforms import Acquired, NormaliseIntensityd
from medsr_monai.upscaling import ConsistentInferer

ROOT = Path(__file__).parent.parent
CONFIGS = ROOT / "bundles" / "brain_mri_super_resolution" / "configs"
OBJECTIVES = sorted(path.stem.removeprefix("objective_") for path in (ROOT / "configs").glob("objective_*.json"))
NO_GAN = {"adversarial": 0.0}
VARIANTS: dict[str, dict] = {
    "pixel only": {"loss_weights": {"pixel": 1.0, "unprojected": 0.2, **NO_GAN}},
    "random features": {"loss_weights": {"pixel": 1.0, "unprojected": 0.2, "perceptual": 1.0, **NO_GAN}},
    "bundle": {},
}
CROP = 128


def measure(parser: ConfigParser, network: torch.nn.Module) -> list[float]:
    """Measure PSNR in dB, gradient-magnitude distance, and spectrum distance in dB on the central crop."""
    hr = NormaliseIntensityd("hr")(parser.get_parsed_content("validate#dataset")[0])["hr"]
    start = [(n - CROP) // 2 for n in hr.shape[1:]]
    crop = hr[(slice(None), *(slice(a, a + CROP) for a in start))]
    lr = Acquired("hr")({"hr": crop})["lr"].as_tensor()[None]
    target = crop.as_tensor()[None]
    mask = foreground_mask(target)
    with torch.no_grad():
        sr = ConsistentInferer()(lr, network.eval())
    return [float(score(sr, target, mask)) for score in (psnr, gradient_magnitude_distance, spectrum_distance)]


def parser_of(dataset_dir: str, variant: str, iterations: int) -> ConfigParser:
    """Read the configuration of one variant: a name in VARIANTS, or of an objective in configs/."""
    files = [CONFIGS / "train.json", CONFIGS / "shipped_weights.json", CONFIGS / "train_gan.json"]
    if variant in OBJECTIVES:
        files.append(ROOT / "configs" / f"objective_{variant}.json")
    parser = ConfigParser()
    parser.read_config([str(file) for file in files])
    parser.update({"bundle_root": str(CONFIGS.parent), "dataset_dir": dataset_dir, "num_workers": 1})
    parser.update({"epoch_length": iterations, "max_epochs": 1, "warmup": 10, "decay": iterations // 3})
    parser.update({"train#handlers": [h for h in parser["train"]["handlers"] if h["_target_"] == "LrScheduleHandler"]})
    # Load, orient and crop the validation volume; `measure` makes the low-resolution input.
    parser.update({"validate#preprocessing#transforms": parser["validate"]["preprocessing"]["transforms"][:3]})
    parser["ema"]["momentum"] = 0.03
    parser.update(VARIANTS.get(variant, {}))
    parser.parse()
    return parser


def main(dataset_dir: str, variants: str | tuple = "all", iterations: int = 200, threads: int = 2) -> None:
    """Train and measure the variants one after the other.

    Args:
        dataset_dir: folder of the training volumes.
        variants: names in VARIANTS or of objectives; default is all. A JSON object adds a variant.
        iterations: of each training.
        threads: of PyTorch.
    """
    torch.set_num_threads(threads)
    names = [*VARIANTS, *OBJECTIVES] if variants == "all" else [variants] if isinstance(variants, str) else variants
    print("| variant | s/iteration | PSNR (dB) | gradient distance | spectrum distance (dB) |")
    print("|---|---|---|---|---|")
    parser = parser_of(dataset_dir, names[0], iterations)
    print_row("fidelity weights", 0.0, measure(parser, parser.get_parsed_content("network")))
    for name in names:
        if name.startswith("{"):
            VARIANTS[name] = json.loads(name)
        torch.manual_seed(0)
        parser = parser_of(dataset_dir, name, iterations)
        trainer = parser.get_parsed_content("train#trainer")
        parser.get_parsed_content("ema").attach(trainer, name="ema_momentum")
        start = time.perf_counter()
        trainer.run()
        rate = (time.perf_counter() - start) / iterations
        print_row(name, rate, measure(parser, parser.get_parsed_content("ema").ema_model))
        print(f"<!-- {json.dumps({k: round(v, 5) for k, v in trainer.state.metrics.items()})} -->", flush=True)


def print_row(name: str, rate: float, scores: list[float]) -> None:
    """Print one row of the table."""
    print(f"| {name} | {rate:.2f} | {scores[0]:.2f} | {scores[1]:.3f} | {scores[2]:.2f} |", flush=True)


if __name__ == "__main__":
    fire.Fire(main)
