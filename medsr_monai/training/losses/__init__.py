"""Losses of voxels, frequencies and features, and the adversarial objectives."""

from medsr_monai.training.losses.adversarial import (
    AdversarialLoss,
    Hinge,
    LeastSquares,
    NonSaturating,
    RelativisticAverage,
    WassersteinGradientPenalty,
)
from medsr_monai.training.losses.feature_matching import FeatureMatchingLoss
from medsr_monai.training.losses.frequency import FrequencyLoss
from medsr_monai.training.losses.perceptual import PerceptualLoss
from medsr_monai.training.losses.pixel import CharbonnierLoss, GradientLoss
from medsr_monai.training.losses.weighted import WeightedSum

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
