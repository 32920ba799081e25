"""Losses: between voxels, frequencies and features, and the adversarial objectives."""

from medsr_monai.losses.adversarial import (
    AdversarialLoss,
    Hinge,
    LeastSquares,
    NonSaturating,
    RelativisticAverage,
    WassersteinGradientPenalty,
)
from medsr_monai.losses.feature_matching import FeatureMatchingLoss
from medsr_monai.losses.frequency import FrequencyLoss
from medsr_monai.losses.perceptual import PerceptualLoss
from medsr_monai.losses.pixel import CharbonnierLoss, GradientLoss
from medsr_monai.losses.weighted import WeightedSum

__all__ = [
    "AdversarialLoss",
    "CharbonnierLoss",
    "FeatureMatchingLoss",
    "FrequencyLoss",
    "GradientLoss",
    "Hinge",
    "LeastSquares",
    "NonSaturating",
    "PerceptualLoss",
    "RelativisticAverage",
    "WassersteinGradientPenalty",
    "WeightedSum",
]
