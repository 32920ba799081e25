"""A distance between the discriminator's features of two images."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from medsr_monai.system.errors import InputError
from medsr_monai.training.losses.precision import image_pair


class FeatureMatchingLoss(nn.Module):
    """L1 between the discriminator's features of sr and hr: ``mean over layers of mean |f_i(sr) - f_i(hr)|``.

    Args of the call:
        fake_features: activations on sr, shallow to deep, each (B, C, ...).
        real_features: activations on hr, the same shapes; they get no gradient.

    Shape:
        lists of (B, C_i, ...) -> ()

    Raises:
        InputError: there are no layers, or the numbers of layers or the shapes differ.

    Reference:
        Wang et al., pix2pixHD, doi:10.1109/CVPR.2018.00917
    """

    def forward(self, fake_features: Sequence[Tensor], real_features: Sequence[Tensor]) -> Tensor:
        if not fake_features or len(fake_features) != len(real_features):
            raise InputError(
                f"feature matching: {len(fake_features)} layers of sr and {len(real_features)} of hr, "
                "but need the same number and at least one"
            )
        pairs = [image_pair(fake, real.detach()) for fake, real in zip(fake_features, real_features, strict=True)]
        return torch.stack([(fake - real).abs().mean() for fake, real in pairs]).mean()
