"""Fréchet distance between two sets of images: the distance between the Gaussians of their features.

It compares distributions, not pairs of images, so it says nothing about fidelity. For the same method, it falls with
the number of samples. Compare only figures with equal numbers of samples and the same feature network. Slices of one
volume are similar, so a large number of slices suggests more data than there is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from medsr_monai.system.errors import InputError


def frechet_of_gaussians(mean_a: Tensor, covariance_a: Tensor, mean_b: Tensor, covariance_b: Tensor) -> float:
    """Compute the squared distance ``|m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2))``, as it is usually reported.

    The root has the trace of ``(C_a^(1/2) C_b C_a^(1/2))^(1/2)``, which is symmetric. The eigenvalues of that matrix
    are real and, up to rounding, not negative, even if the covariances are singular.

    Args:
        mean_a: (D,).
        covariance_a: (D, D), symmetric and positive semidefinite.
        mean_b: (D,).
        covariance_b: (D, D).

    Returns:
        The distance, at least 0.

    Reference:
        Dowson, Landau: The Fréchet distance between multivariate normal distributions.
        doi:10.1016/0047-259X(82)90077-X
    """
    mean_a, covariance_a, mean_b, covariance_b = (x.double() for x in (mean_a, covariance_a, mean_b, covariance_b))
    values, vectors = torch.linalg.eigh(covariance_a)
    root = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    product = root @ covariance_b @ root
    cross = torch.linalg.eigvalsh((product + product.T) / 2).clamp(min=0).sqrt().sum()
    distance = (mean_a - mean_b).square().sum() + covariance_a.trace() + covariance_b.trace() - 2 * cross
    return max(0.0, float(distance))


class FeatureStatistics:
    """Mean and covariance of image features in float64, updated sample by sample in constant memory.

    Args:
        name: name of the feature network, part of every result.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.count = 0
        self.mean = torch.zeros(0, dtype=torch.float64)
        self._scatter = torch.zeros(0, 0, dtype=torch.float64)

    @property
    def covariance(self) -> Tensor:
        """(D, D), with ``count - 1`` in the denominator."""
        if self.count < 2:
            raise InputError(f"Fréchet distance: {self.count} image(s), but a covariance needs at least two")
        return self._scatter / (self.count - 1)

    def add(self, features: Tensor) -> None:
        """Add features (N, D), for instance `pooled` ones.

        Raises:
            InputError: a feature is not finite, or the number of features differs from before.
        """
        features = features.detach().double().cpu()
        if not torch.isfinite(features).all():
            raise InputError(f"feature network {self.name}: some features are not finite")
        if self.count == 0:
            self.mean = torch.zeros(features.shape[1], dtype=torch.float64)
            self._scatter = torch.zeros(features.shape[1], features.shape[1], dtype=torch.float64)
        if features.shape[1] != len(self.mean):
            raise InputError(f"feature network {self.name}: {features.shape[1]} features, but before {len(self.mean)}")
        # Sums of squares about the running mean, because raw sums cancel if features are large and similar.
        total = self.count + len(features)
        centred = features - features.mean(dim=0)
        shift = features.mean(dim=0) - self.mean
        self._scatter += centred.T @ centred + torch.outer(shift, shift) * (self.count * len(features) / total)
        self.mean = self.mean + shift * (len(features) / total)
        self.count = total


def pooled(maps: Tensor | Sequence[Tensor]) -> Tensor:
    """Average each feature map over its positions and concatenate the means, (N, sum of D)."""
    maps = [maps] if isinstance(maps, Tensor) else maps
    return torch.cat([one.flatten(2).mean(dim=2) if one.ndim > 2 else one for one in maps], dim=1)


@dataclass(frozen=True)
class FrechetResult:
    """A Fréchet distance with the numbers that it depends on.

    Args:
        distance: the squared distance, in units of the features squared.
        features: name of the feature network.
        dimensions: number of features.
        n_sr: number of judged samples (images, volumes or slices).
        n_hr: number of reference samples.
    """

    distance: float
    features: str
    dimensions: int
    n_sr: int
    n_hr: int

    @property
    def few_samples(self) -> bool:
        """Whether a covariance is singular because the number of samples does not exceed that of features."""
        return min(self.n_sr, self.n_hr) <= self.dimensions


def frechet_distance(sr: FeatureStatistics, hr: FeatureStatistics) -> FrechetResult:
    """Compute the Fréchet distance between the Gaussians with the means and covariances of two sets of features.

    With ``few_samples``, the figure is too large by an unknown amount.

    Args:
        sr: statistics of the images to judge.
        hr: statistics of the references, which may be other subjects.

    Returns:
        The distance with the number of samples and the feature network's name.

    Raises:
        InputError: the feature networks differ, or there are fewer than two samples.

    Reference:
        Heusel, Ramsauer, Unterthiner, Nessler, Hochreiter: GANs trained by a two time-scale update rule converge to a
        local Nash equilibrium. arXiv:1706.08500
    """
    if sr.name != hr.name:
        raise InputError(f"Fréchet distance: features of {sr.name} and of {hr.name}; need the same network for both")
    covariances = sr.covariance, hr.covariance
    if len(sr.mean) != len(hr.mean):
        raise InputError(f"Fréchet distance: {len(sr.mean)} features and {len(hr.mean)}; need the same number for both")
    distance = frechet_of_gaussians(sr.mean, covariances[0], hr.mean, covariances[1])
    return FrechetResult(distance, sr.name, len(sr.mean), sr.count, hr.count)
