"""Train a feature network for the perceptual loss by self-supervision: it learns to restore degraded patches.

    python benchmarks/train_features.py --dataset_dir $MEDSR_DATA/mri --output features.pt

Patches of the training subjects are smoothed along every axis by a Gaussian of random width and get random noise. One
linear map per feature map predicts the difference to the original patch. It writes the state dict of a
``ConvolutionalFeatures``.
"""

from __future__ import annotations

from pathlib import Path

import fire
import torch
from monai.bundle import ConfigParser
from torch import Tensor, nn
from torch.nn import functional

from medsr_monai.networks import ConvolutionalFeatures

CONFIGS = Path(__file__).parent.parent / "bundles" / "brain_mri_super_resolution" / "configs"
SIDE, REACH = 32, 4
WIDTH, NOISE = 1.5, 0.05  # voxels, share of the intensity range


def smooth(image: Tensor, widths: Tensor) -> Tensor:
    """Smooth (B, 1, X, Y, Z) by a Gaussian with a width per image and axis (B, 3), with one matrix per axis."""
    steps = torch.arange(image.shape[2], dtype=image.dtype)
    distance = (steps[:, None] - steps[None]).square()
    for axis in range(3):
        matrix = torch.exp(-distance / (2 * widths[:, axis, None, None].square() + 1e-4))
        matrix = matrix / matrix.sum(dim=-1, keepdim=True)
        image = torch.einsum("bij,bc...j->bc...i", matrix, image.movedim(2 + axis, -1)).movedim(-1, 2 + axis)
    return image


def degrade(hr: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Smooth patches and add noise; return the degraded and the original patches, both (B, 1, SIDE, SIDE, SIDE)."""
    amount = torch.rand(len(hr), 4, generator=rng)
    image = smooth(hr, amount[:, :3] * WIDTH)
    noise = torch.randn(image.shape, generator=rng) * (amount[:, 3] * NOISE).reshape(-1, 1, 1, 1, 1)
    inside = slice(REACH, -REACH)
    degraded, original = (x[:, :, inside, inside, inside] for x in (image + noise, hr))
    return degraded, original


class Restorer(nn.Module):
    """Predict the difference to the original patch: the sum of a linear map of every level, resized to the patch."""

    def __init__(self, features: ConvolutionalFeatures) -> None:
        super().__init__()
        self.features = features
        self.heads = nn.ModuleList(nn.Conv3d(level[0].out_channels, 1, 1) for level in features.levels)
        for head in self.heads:  # the initial prediction is zero
            nn.init.zeros_(head.weight)
            nn.init.zeros_(head.bias)

    def forward(self, image: Tensor) -> Tensor:
        maps = [head(level) for head, level in zip(self.heads, self.features(image), strict=True)]
        return sum(functional.interpolate(m, size=image.shape[2:], mode="trilinear") for m in maps)


def main(dataset_dir: str, output: str, iterations: int = 600, batch_size: int = 8, seed: int = 0) -> None:
    """Train and write the network.

    Args:
        dataset_dir: folder of the training volumes.
        output: file to write.
        iterations: of training.
        batch_size: patches per iteration.
        seed: of all randomness.
    """
    torch.manual_seed(seed)
    rng = torch.Generator().manual_seed(seed)
    parser = ConfigParser()
    parser.read_config([str(CONFIGS / "train.json"), str(CONFIGS / "shipped_weights.json")])
    parser.update({"dataset_dir": dataset_dir, "batch_size": batch_size, "patch_size": SIDE + 2 * REACH, "seed": seed})
    parser.update({"epoch_length": iterations, "num_workers": 1})
    parser.parse()
    features = ConvolutionalFeatures(seed=seed).requires_grad_(True)
    restorer = Restorer(features)
    optimizer = torch.optim.Adam(restorer.parameters(), lr=1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, iterations)
    done, nothing = 0.0, 0.0
    for step, batch in enumerate(parser.get_parsed_content("train#dataloader"), 1):
        degraded, original = degrade(batch["hr"].as_subclass(Tensor), rng)
        missing = original - degraded
        loss = functional.l1_loss(restorer(degraded), missing)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        done, nothing = done + loss.item(), nothing + missing.abs().mean().item()
        if step % 50 == 0:
            print(f"iteration {step}: error {done / nothing:.3f} of the error of doing nothing", flush=True)
            done, nothing = 0.0, 0.0
    torch.save({name: value.detach() for name, value in features.state_dict().items()}, output)


if __name__ == "__main__":
    fire.Fire(main)
