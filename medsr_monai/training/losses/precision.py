"""Single precision or better for losses, for any precision of the networks."""

from __future__ import annotations

import torch
from torch import Tensor

from medsr_monai.system.errors import InputError


def full_precision(tensor: Tensor) -> Tensor:
    """Convert to float32, but keep float64: squares of float16 overflow at 256."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def image_pair(sr: Tensor, hr: Tensor) -> tuple[Tensor, Tensor]:
    """Check both images of a loss and convert them to full precision.

    Args:
        sr: (B, C, *spatial).
        hr: the same shape.

    Returns:
        Both images.

    Raises:
        InputError: the shapes differ; PyTorch would broadcast them.
    """
    if sr.shape != hr.shape:
        raise InputError(f"loss: sr has shape {tuple(sr.shape)} and hr {tuple(hr.shape)}, but they must be the same")
    return full_precision(sr), full_precision(hr)
