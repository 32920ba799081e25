"""How good an image is: fidelity to a reference."""

from medsr_monai.metrics.fidelity import (
    SSIM_WINDOW,
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
    "SSIM_WINDOW",
    "ForegroundPSNR",
    "ForegroundSSIM",
    "foreground_mask",
    "foreground_percentile",
    "mae",
    "mse",
    "psnr",
    "ssim",
]
