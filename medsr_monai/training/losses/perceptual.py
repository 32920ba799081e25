"""A distance between the features of a frozen network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from medsr_monai.metrics.perceptual import feature_distance
from medsr_monai.system.errors import InputError
from medsr_monai.training.losses.precision import image_pair

SHORTEST = 1e-2  # the direction of a shorter feature vector counts less, because its gradient is undefined at 0


DISTANCES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "l1": functional.l1_loss,
    "mse": functional.mse_loss,
    "cosine": partial(feature_distance, shortest=SHORTEST),
}


class PerceptualLoss(nn.Module):
    """Distance between features: ``mean over layers of mean |f_i(sr) - f_i(hr)|``, or another distance.

    The loss freezes the network. The network is not part of the loss's parameters or state, so checkpoints do not hold
    it, but it moves to a device with the loss. Several losses may share one network.

    Args:
        features: maps (B, C, *spatial) to one feature map or a list of them; see ``medsr_monai.networks.features``.
        layers: the positions in that list that count; None for all.
        distance: "l1", "mse", or "cosine", which is LPIPS without its trained channel weights.

    Shape:
        (B, C, *spatial), (B, C, *spatial) -> ()

    Raises:
        InputError: the distance is unknown, a layer does not exist, the shapes differ, or the network refuses the
        image.

    Reference:
        Johnson et al., doi:10.1007/978-3-319-46475-6_43; Zhang et al., LPIPS, doi:10.1109/CVPR.2018.00068
    """

    def __init__(self, features: nn.Module, layers: Sequence[int] | None = None, distance: str = "l1") -> None:
        super().__init__()
        if distance not in DISTANCES:
            raise InputError(f"distance {distance!r}: must be one of {', '.join(DISTANCES)}")
        if layers is not None and not layers:
            raise InputError("layers []: need at least one, or None for all")
        features.requires_grad_(False).eval()
        self._unregistered = [features]  # a list keeps it out of parameters(), state_dict() and train()
        self.layers = layers
        self.distance = distance

    @property
    def features(self) -> nn.Module:
        return self._unregistered[0]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        self.features._apply(fn)
        return super()._apply(fn, recurse)

    def forward(self, sr: Tensor, hr: Tensor) -> Tensor:
        sr, hr = image_pair(sr, hr)
        fake = self._choose(self.features(sr))
        with torch.no_grad():
            real = self._choose(self.features(hr))
        pairs = [image_pair(a, b) for a, b in zip(fake, real, strict=True)]
        return torch.stack([DISTANCES[self.distance](a, b) for a, b in pairs]).mean()

    def _choose(self, maps: Tensor | Sequence[Tensor]) -> list[Tensor]:
        maps = [maps] if isinstance(maps, Tensor) else list(maps)
        if self.layers is None:
            return maps
        for layer in self.layers:
            if not -len(maps) <= layer < len(maps):
                raise InputError(f"layers: there is no layer {layer}, the feature network has {len(maps)} layers")
        return [maps[layer] for layer in self.layers]
