"""The noise of a measurement."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def add_rician_noise(image: Tensor, sigma: float, seed: int) -> Tensor:
    """Add the noise of a magnitude MR image: ``|image + n_real + i n_imaginary|`` with Gaussian components.

    Args:
        image: any shape.
        sigma: standard deviation of each of the two components, in the image's unit.
        seed: of the noise.

    Returns:
        The noisy image, with the shape of ``image``.

    Reference:
        Gudbjartsson and Patz, doi:10.1002/mrm.1910340618
    """
    if sigma == 0:
        return image
    rng = np.random.default_rng(seed)
    real, imaginary = torch.as_tensor(rng.standard_normal((2, *image.shape), dtype=np.float32) * np.float32(sigma))
    return torch.sqrt((image + real).square() + imaginary.square())
