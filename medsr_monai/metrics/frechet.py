"""Fréchet distance between two sets of images: how far apart the Gaussians of their features are.

A distance of distributions: it does not know which image belongs to which, says nothing of fidelity, and falls with the
number of samples for one and the same method. Compare figures of equal numbers and of the same feature network only;
slices of one volume are alike, so that their number flatters.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from medsr_monai.metrics.pairs import checked_pair
from medsr_monai.system.errors import InputError

Features = Callable[[Tensor], Tensor | Sequence[Tensor]]
IMAGES_AT_ONCE = 16


def frechet_of_gaussians(mean_a: Tensor, covariance_a: Tensor, mean_b: Tensor, covariance_b: Tensor) -> float:
    """``|m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2))``, the squared distance, as it is usually reported.

    The trace of the root is that of ``(C_a^(1/2) C_b C_a^(1/2))^(1/2)``, which is symmetric: its eigenvalues are real
    and, but for rounding, not negative, also where the covariances are singular.

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
    """Mean and covariance of image features, image by image in constant memory, float64.

    Args:
        features: maps (N, C, *spatial) to one feature map (N, D, ...) or a list of them, which are averaged over their
            positions and put one after the other; see ``medsr_monai.networks``.
        name: of the feature network, which is part of every result; default is that of its class or function.
        slices_along: spatial axes (0, 1, 2) along which volumes are cut into slices, each one sample, for 2D networks;
            none takes an image or volume as one sample.
    """

    def __init__(self, features: Features, name: str | None = None, slices_along: Sequence[int] = ()) -> None:
        if any(axis not in range(3) for axis in slices_along):
            raise InputError(f"slices_along {list(slices_along)}: axes are 0, 1 and 2")
        self.features = features
        self.name = str(name or getattr(features, "__name__", type(features).__name__))
        self.slices_along = tuple(slices_along)
        self.reset()

    def reset(self) -> None:
        """Forget all images."""
        self.count = 0
        self.mean = torch.zeros(0, dtype=torch.float64)
        self._scatter = torch.zeros(0, 0, dtype=torch.float64)

    @property
    def covariance(self) -> Tensor:
        """(D, D), with ``count - 1`` in the denominator."""
        if self.count < 2:
            raise InputError(f"Fréchet distance: {self.count} image(s), but a covariance needs at least two")
        return self._scatter / (self.count - 1)

    def add(self, images: Tensor) -> None:
        """Take in images (B, C, *spatial).

        Raises:
            InputError: voxels or features that are not finite, or features of another number than before.
        """
        images, _ = checked_pair(images, images)
        if self.slices_along and images.ndim != 5:
            raise InputError(f"images of shape {tuple(images.shape)}: only volumes are cut into slices")
        stacks = [images.movedim(2 + axis, 1).flatten(0, 1) for axis in self.slices_along] or [images]
        with torch.no_grad():
            for batch in (batch for stack in stacks for batch in stack.split(IMAGES_AT_ONCE)):
                self.add_features(pooled(self.features(batch)))

    def add_features(self, features: Tensor) -> None:
        """Take in features (N, D)."""
        features = features.detach().double().cpu()
        if not torch.isfinite(features).all():
            raise InputError(f"feature network {self.name}: features that are not finite")
        if self.count == 0:
            self.mean = torch.zeros(features.shape[1], dtype=torch.float64)
            self._scatter = torch.zeros(features.shape[1], features.shape[1], dtype=torch.float64)
        if features.shape[1] != len(self.mean):
            raise InputError(f"feature network {self.name}: {features.shape[1]} features, before {len(self.mean)}")
        # Sums of squares about the running mean: raw sums would cancel where features are large and alike.
        total = self.count + len(features)
        centred = features - features.mean(dim=0)
        shift = features.mean(dim=0) - self.mean
        self._scatter += centred.T @ centred + torch.outer(shift, shift) * (self.count * len(features) / total)
        self.mean = self.mean + shift * (len(features) / total)
        self.count = total


def pooled(maps: Tensor | Sequence[Tensor]) -> Tensor:
    """(N, sum of D): each feature map's mean over its positions."""
    maps = [maps] if isinstance(maps, Tensor) else maps
    return torch.cat([one.flatten(2).mean(dim=2) if one.ndim > 2 else one for one in maps], dim=1)


@dataclass(frozen=True)
class FrechetResult:
    """A Fréchet distance with what it depends on.

    Args:
        distance: the squared distance, in units of the features squared.
        features: name of the feature network.
        dimensions: how many features it has.
        n_sr: samples (images, volumes or slices) judged.
        n_hr: samples of the reference.
    """

    distance: float
    features: str
    dimensions: int
    n_sr: int
    n_hr: int

    @property
    def few_samples(self) -> bool:
        """Whether a covariance is singular because there are no more samples than features."""
        return min(self.n_sr, self.n_hr) <= self.dimensions


def frechet_distance(sr: FeatureStatistics, hr: FeatureStatistics) -> FrechetResult:
    """Fréchet distance between the Gaussians with the means and covariances of two sets' features.

    It warns where there are no more samples than features: the figure is then too large by an unknown amount.

    Args:
        sr: of the images to judge.
        hr: of the references, which need not be of the same subjects.

    Returns:
        The distance with the number of samples and the feature network's name.

    Raises:
        InputError: statistics of different feature networks, or fewer than two samples.

    Reference:
        Heusel, Ramsauer, Unterthiner, Nessler, Hochreiter: GANs trained by a two time-scale update rule converge to a
        local Nash equilibrium. arXiv:1706.08500
    """
    if sr.name != hr.name:
        raise InputError(f"Fréchet distance: features of {sr.name} and of {hr.name} do not compare")
    covariances = sr.covariance, hr.covariance
    if len(sr.mean) != len(hr.mean):
        raise InputError(f"Fréchet distance: {len(sr.mean)} features and {len(hr.mean)} do not compare")
    distance = frechet_of_gaussians(sr.mean, covariances[0], hr.mean, covariances[1])
    result = FrechetResult(distance, sr.name, len(sr.mean), sr.count, hr.count)
    if result.few_samples:
        warnings.warn(
            f"Fréchet distance: {result.n_sr} and {result.n_hr} samples for {result.dimensions} features; "
            "give more samples than features, or a network with fewer features",
            stacklevel=2,
        )
    return result


class FrechetDistance:
    """`frechet_distance` over a whole run; engines take it in a ``monai.handlers.IgniteMetricHandler``.

    ``y_pred`` and ``y`` are batches (B, C, *spatial) or lists of (C, *spatial). Use ``save_details=False`` there: there
    is no figure of one image. Not for several processes: each would judge its share.

    Args:
        features: see `FeatureStatistics`.
        name: see `FeatureStatistics`.
        slices_along: see `FeatureStatistics`.
    """

    def __init__(self, features: Features, name: str | None = None, slices_along: Sequence[int] = ()) -> None:
        self.sr = FeatureStatistics(features, name, slices_along)
        self.hr = FeatureStatistics(features, name, slices_along)

    def __call__(self, y_pred: Tensor | Sequence[Tensor], y: Tensor | Sequence[Tensor]) -> None:
        for statistics, images in ((self.sr, y_pred), (self.hr, y)):
            for batch in [images] if isinstance(images, Tensor) else [one[None] for one in images]:
                statistics.add(batch)

    def reset(self) -> None:
        """Forget all images."""
        self.sr.reset()
        self.hr.reset()

    def result(self) -> FrechetResult:
        """The distance with what it depends on."""
        return frechet_distance(self.sr, self.hr)

    def aggregate(self) -> Tensor:
        """The distance alone, a scalar, as MONAI asks for it."""
        return torch.tensor(self.result().distance, dtype=torch.float64)
