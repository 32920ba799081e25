"""How good an image is: fidelity to a reference."""

from medsr_monai.metrics.fidelity import (
    ForegroundPSNR,
    ForegroundSSIM,
    foreground_mask,
    foreground_percentile,
    mae,
    mse,
    psnr,
    ssim,
)

__all__ = [
    "ForegroundPSNR",
    "ForegroundSSIM",
    "foreground_mask",
    "foreground_percentile",
    "mae",
    "mse",
    "psnr",
    "ssim",
]
