"""Noise of a measurement."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def add_rician_noise(image: Tensor, sigma: float, seed: int) -> Tensor:
    """Magnitude of the image with complex Gaussian noise, as a magnitude MR image has it.

    Args:
        image: any shape.
        sigma: standard deviation of each of the two components, in the image's units.
        seed: of the noise.

    Reference:
        Gudbjartsson and Patz, doi:10.1002/mrm.1910340618
    """
    if sigma == 0:
        return image
    rng = np.random.default_rng(seed)
    real, imaginary = torch.as_tensor(rng.standard_normal((2, *image.shape), dtype=np.float32) * np.float32(sigma))
    return torch.sqrt((image + real).square() + imaginary.square())
