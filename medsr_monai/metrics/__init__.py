"""How good an image is: fidelity to a reference, and how far its texture is from the reference's."""

from medsr_monai.metrics.edges import (
    GradientDistributionDistance,
    GradientMagnitudeDistance,
    gradient_distribution_distance,
    gradient_magnitude,
    gradient_magnitude_distance,
)
from medsr_monai.metrics.fidelity import SSIM_WINDOW, ForegroundPSNR, ForegroundSSIM, mae, mse, psnr, ssim
from medsr_monai.metrics.foreground import ForegroundMetric, foreground_mask, foreground_percentile
from medsr_monai.metrics.perceptual import perceptual_distance
from medsr_monai.metrics.spectrum import SpectrumDistance, power_spectrum, spectrum_distance

__all__ = [
    "SSIM_WINDOW",
    "ForegroundMetric",
    "ForegroundPSNR",
    "ForegroundSSIM",
    "GradientDistributionDistance",
    "GradientMagnitudeDistance",
    "SpectrumDistance",
    "foreground_mask",
    "foreground_percentile",
    "gradient_distribution_distance",
    "gradient_magnitude",
    "gradient_magnitude_distance",
    "mae",
    "mse",
    "perceptual_distance",
    "power_spectrum",
    "psnr",
    "spectrum_distance",
    "ssim",
]
