"""Losses are computed in single precision or better, whatever precision the networks ran in."""

from __future__ import annotations

import torch
from torch import Tensor

from medsr_monai.system.errors import InputError


def full_precision(tensor: Tensor) -> Tensor:
    """The tensor in float32, or as it is where it is float64: squares of float16 overflow at 256."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def image_pair(sr: Tensor, hr: Tensor) -> tuple[Tensor, Tensor]:
    """Both images of a loss in full precision.

    Args:
        sr: (B, C, *spatial)
        hr: the same shape.

    Raises:
        InputError: the shapes differ; PyTorch would broadcast them.
    """
    if sr.shape != hr.shape:
        raise InputError(f"loss: sr of shape {tuple(sr.shape)} against hr of shape {tuple(hr.shape)}, must be the same")
    return full_precision(sr), full_precision(hr)
