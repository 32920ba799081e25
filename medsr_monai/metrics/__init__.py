"""How good an image is: fidelity to a reference, and how far its texture is from the reference's."""

from medsr_monai.metrics.edges import GradientMagnitudeDistance, gradient_magnitude, gradient_magnitude_distance
from medsr_monai.metrics.fidelity import SSIM_WINDOW, ForegroundPSNR, ForegroundSSIM, mae, mse, psnr, ssim
from medsr_monai.metrics.foreground import ForegroundMetric, foreground_mask, foreground_percentile
from medsr_monai.metrics.spectrum import SpectrumDistance, power_spectrum, spectrum_distance

__all__ = [
    "SSIM_WINDOW",
    "ForegroundMetric",
    "ForegroundPSNR",
    "ForegroundSSIM",
    "GradientMagnitudeDistance",
    "SpectrumDistance",
    "foreground_mask",
    "foreground_percentile",
    "gradient_magnitude",
    "gradient_magnitude_distance",
    "mae",
    "mse",
    "power_spectrum",
    "psnr",
    "spectrum_distance",
    "ssim",
]
