"""Image quality: fidelity to a reference, and distances between the texture of an image and the reference's."""

from medsr_monai.metrics.bootstrap import bootstrap_interval, draw_resampling
from medsr_monai.metrics.consistency import (
    intensity_bias,
    measurement_residual,
)
from medsr_monai.metrics.edges import (
    gradient_distribution_distance,
    gradient_magnitude,
    gradient_magnitude_distance,
)
from medsr_monai.metrics.fidelity import SSIM_WINDOW, mae, mse, psnr, ssim
from medsr_monai.metrics.foreground import ForegroundMetric, foreground_mask, foreground_percentile
from medsr_monai.metrics.frechet import FeatureStatistics, FrechetResult, frechet_distance, frechet_of_gaussians
from medsr_monai.metrics.haarpsi import haarpsi
from medsr_monai.metrics.laplacian import (
    edge_preservation,
    hfen,
    laplacian_of_gaussian,
)
from medsr_monai.metrics.multiscale import ms_ssim
from medsr_monai.metrics.niqe import NIQEModel
from medsr_monai.metrics.perceptual import perceptual_distance
from medsr_monai.metrics.spectrum import power_spectrum, spectrum_distance
from medsr_monai.metrics.vif import vif

__all__ = [
    "SSIM_WINDOW",
    "FeatureStatistics",
    "ForegroundMetric",
    "FrechetResult",
    "NIQEModel",
    "bootstrap_interval",
    "draw_resampling",
    "edge_preservation",
    "foreground_mask",
    "foreground_percentile",
    "frechet_distance",
    "frechet_of_gaussians",
    "gradient_distribution_distance",
    "gradient_magnitude",
    "gradient_magnitude_distance",
    "haarpsi",
    "hfen",
    "intensity_bias",
    "laplacian_of_gaussian",
    "mae",
    "measurement_residual",
    "ms_ssim",
    "mse",
    "perceptual_distance",
    "power_spectrum",
    "psnr",
    "spectrum_distance",
    "ssim",
    "vif",
]
