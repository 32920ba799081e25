"""Compare how perceptual distances punish blur and other errors of the same mean squared error.

    python benchmarks/bench_perceptual.py $MEDSR_DATA/mri/adult_3t_T1w.nii.gz --trained features.pt

The central crop of a volume is blurred, shifted by part of a voxel, given white noise, or given foreign texture (its
own fine detail from another place), each to the same mean squared error. It prints each distance relative to that of
the blurred image: below 1, the distance prefers this error to blur. Voxelwise L1 is the row to compare with.
"""

from __future__ import annotations

import fire
import numpy as np
import torch
from scipy import ndimage

from medsr_monai.networks import ConvolutionalFeatures
from medsr_monai.training.losses import GradientLoss, PerceptualLoss
from medsr_monai.transforms import NormaliseIntensityd
from medsr_monai.volumes import LoadVolumed

SIDE, REACH = 96, 8
BLUR = 0.8  # voxels


def scaled_to(image: np.ndarray, distorted: np.ndarray, error: float) -> np.ndarray:
    """Scale a distortion to the given root mean squared error."""
    difference = distorted - image
    return image + difference * (error / np.sqrt((difference**2).mean()))


def distortions(image: np.ndarray) -> dict[str, np.ndarray]:
    """Distort the image in several ways with the same root mean squared error."""
    blurred = ndimage.gaussian_filter(image, BLUR)
    error = float(np.sqrt(((blurred - image) ** 2).mean()))
    elsewhere = np.roll(image - blurred, (11, 7, 5), axis=(0, 1, 2))
    kinds = {
        "shift": ndimage.shift(image, (0.3, 0.3, 0.3), order=3, mode="nearest"),
        "foreign texture on blur": blurred + elsewhere,
        "noise": image + np.random.default_rng(0).normal(size=image.shape),
    }
    return {"blur": blurred, **{name: scaled_to(image, kind, error) for name, kind in kinds.items()}}


def main(volume: str, trained: str | None = None, seeds: int = 3) -> None:
    """Print the table.

    Args:
        volume: image file.
        trained: weights from ``train_features.py``.
        seeds: number of random feature networks.
    """
    data = NormaliseIntensityd("hr")(LoadVolumed("hr")({"hr": volume}))["hr"].as_tensor()[0].numpy()
    start = [(n - SIDE) // 2 for n in data.shape]
    image = data[tuple(slice(a, a + SIDE) for a in start)].astype(np.float64)
    losses = {"voxelwise L1": torch.nn.L1Loss(), "gradient L1": GradientLoss()}
    for seed in range(seeds):
        losses[f"random features, seed {seed}"] = PerceptualLoss(ConvolutionalFeatures(seed=seed))
    if trained:
        losses["self-supervised features"] = PerceptualLoss(ConvolutionalFeatures(weights=trained))
    inside = (slice(REACH, -REACH),) * 3
    images = {k: torch.from_numpy(v[inside]).float()[None, None] for k, v in distortions(image).items()}
    hr = torch.from_numpy(image[inside]).float()[None, None]
    names = [name for name in images if name != "blur"]
    print("| distance | " + " | ".join(f"{name} / blur" for name in names) + " |")
    print("|---|" + "---|" * len(names))
    with torch.no_grad():
        for label, loss in losses.items():
            blur = float(loss(images["blur"], hr))
            print(f"| {label} | " + " | ".join(f"{float(loss(images[name], hr)) / blur:.2f}" for name in names) + " |")


if __name__ == "__main__":
    fire.Fire(main)
