"""The Fréchet distance: against SciPy's matrix root, Gaussians whose distance is known, and few samples."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage
from scipy.linalg import sqrtm

from medsr_monai.metrics import FeatureStatistics, frechet_distance, frechet_of_gaussians
from medsr_monai.metrics.frechet import pooled
from medsr_monai.networks import ConvolutionalFeatures
from medsr_monai.system.errors import InputError

FEATURES = ConvolutionalFeatures(2, widths=(4, 4))


def covariance(rng: np.random.Generator, size: int, rank: int | None = None) -> torch.Tensor:
    root = rng.standard_normal((size, rank or size))
    return torch.from_numpy(root @ root.T)


def statistics(features: torch.Tensor) -> FeatureStatistics:
    result = FeatureStatistics("random")
    for batch in features.split(7):
        result.add(batch)
    return result


@pytest.mark.parametrize("scale", [1.0, 1e-3, 1e4])
def test_agrees_with_scipy(scale, rng):
    a, b = scale * covariance(rng, 12), scale * covariance(rng, 12)
    m, n = (torch.from_numpy(rng.standard_normal(12)) for _ in range(2))
    root = np.trace(sqrtm(a.numpy() @ b.numpy())).real
    expected = (m - n).square().sum() + a.trace() + b.trace() - 2 * root
    assert frechet_of_gaussians(m, a, n, b) == pytest.approx(expected.item(), rel=1e-8)
    assert frechet_of_gaussians(n, b, m, a) == pytest.approx(expected.item(), rel=1e-8)


def test_known_answers(rng):
    """Variances that commute: the sum of squared differences of means and of deviations, singular or not."""
    m, n = torch.tensor([1.0, 2.0, 0.0]), torch.tensor([1.0, 0.0, 0.0])
    a, b = torch.diag(torch.tensor([4.0, 1.0, 0.0])), torch.diag(torch.tensor([1.0, 9.0, 0.25]))
    assert frechet_of_gaussians(m, a, n, b) == pytest.approx(4 + 1 + 4 + 0.25)
    singular = covariance(rng, 20, rank=3)
    zero = torch.zeros(20)
    assert frechet_of_gaussians(zero, singular, zero, singular) == pytest.approx(0, abs=1e-6)
    assert frechet_of_gaussians(zero, 4 * singular, zero, singular) == pytest.approx(singular.trace().item(), rel=1e-6)


def test_streams_to_the_covariance_of_numpy(rng):
    """Also where features are large and alike, of which raw sums of squares would leave nothing."""
    features = torch.from_numpy(rng.standard_normal((50, 6))) + 1e7
    result = statistics(features)
    assert result.count == 50
    np.testing.assert_allclose(result.mean, features.numpy().mean(0), rtol=1e-14)
    np.testing.assert_allclose(result.covariance, np.cov(features.numpy().T), rtol=1e-6, atol=1e-8)


def test_gaussians_with_enough_samples(rng):
    a, b = torch.from_numpy(rng.standard_normal((4000, 3))), torch.from_numpy(rng.standard_normal((4000, 3)))
    result = frechet_distance(statistics(a), statistics(2 * b + 1))
    assert result.distance == pytest.approx(3 + 3, rel=0.05)
    assert (result.n_sr, result.n_hr, result.dimensions, result.few_samples) == (4000, 4000, 3, False)
    assert result.features == "random"


def test_few_samples_pretend_a_distance(rng):
    a, b = torch.from_numpy(rng.standard_normal((400, 8))), torch.from_numpy(rng.standard_normal((400, 8)))
    few = frechet_distance(statistics(a[:8]), statistics(b))
    assert few.few_samples and few.distance > 5 * frechet_distance(statistics(a), statistics(b)).distance


def test_grows_with_blur(rng):
    hr = torch.from_numpy(rng.random((20, 1, 16, 16))).float()
    distances = []
    for sigma in (0.0, 0.4, 0.8, 1.6):
        blurred = ndimage.gaussian_filter(hr.numpy(), (0, 0, sigma, sigma))
        ours, theirs = (statistics(pooled(FEATURES(images))) for images in (torch.from_numpy(blurred), hr))
        distances.append(frechet_distance(ours, theirs).distance)
    assert distances[0] == pytest.approx(0, abs=1e-9)
    assert distances == sorted(distances) and len(set(distances)) == 4


def test_bad_input_is_one_line():
    sr, hr = FeatureStatistics("random"), FeatureStatistics("other")
    with pytest.raises(InputError, match="0 image"):
        frechet_distance(sr, FeatureStatistics("random"))
    sr.add(torch.rand(3, 8))
    with pytest.raises(InputError, match="of random and of other"):
        frechet_distance(sr, hr)
    with pytest.raises(InputError, match="3 features, but before 8"):
        sr.add(torch.rand(4, 3))
    with pytest.raises(InputError, match="not finite"):
        sr.add(torch.full((4, 8), torch.nan))
