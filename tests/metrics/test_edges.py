"""The distance of gradient magnitudes: against numpy, known answers, and what blur and noise do to it."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
import torch
from scipy import ndimage, stats

from medsr_monai.acquisition import SeparableAcquisition
from medsr_monai.geometry import cubic_bspline
from medsr_monai.metrics import (
    ForegroundMetric,
    foreground_mask,
    foreground_percentile,
    gradient_distribution_distance,
    gradient_magnitude,
    gradient_magnitude_distance,
)
from medsr_monai.system.errors import InputError


@pytest.fixture(params=[gradient_magnitude_distance, gradient_distribution_distance], ids=["magnitude", "distribution"])
def distance(request):
    return request.param


@pytest.fixture
def metric(distance):
    return ForegroundMetric(distance)


def noise(shape: tuple[int, ...], rng: np.random.Generator) -> torch.Tensor:
    return torch.from_numpy(rng.standard_normal(shape))


def blurred(image: torch.Tensor, sigma: float) -> torch.Tensor:
    return torch.from_numpy(ndimage.gaussian_filter(image.numpy(), (0, 0, *[sigma] * (image.ndim - 2))))


def numpy_magnitude(image: torch.Tensor) -> np.ndarray:
    return np.sqrt(sum(g**2 for g in np.gradient(image.numpy(), axis=tuple(range(2, image.ndim)))))


@pytest.mark.parametrize("shape", [(2, 2, 9, 12), (2, 1, 7, 9, 6)])
def test_agrees_with_numpy(shape, rng):
    sr, hr, mask = noise(shape, rng), noise(shape, rng), noise(shape, rng) > 0
    np.testing.assert_allclose(gradient_magnitude(sr), numpy_magnitude(sr), atol=1e-12)
    difference, reference = np.abs(numpy_magnitude(sr) - numpy_magnitude(hr)), numpy_magnitude(hr)
    expected = [difference[i][mask[i].numpy()].sum() / reference[i][mask[i].numpy()].sum() for i in range(2)]
    np.testing.assert_allclose(gradient_magnitude_distance(sr, hr, mask), expected, rtol=1e-10)
    whole = difference.reshape(2, -1).mean(1) / reference.reshape(2, -1).mean(1)
    np.testing.assert_allclose(gradient_magnitude_distance(sr, hr), whole, rtol=1e-10)


def test_distributions_differ_by_the_sorted_magnitudes(rng):
    """In any order of places: SciPy's Wasserstein distance of the magnitudes inside the mask."""
    sr, hr, mask = noise((2, 1, 7, 9, 6), rng), noise((2, 1, 7, 9, 6), rng), noise((2, 1, 7, 9, 6), rng) > 0
    values = gradient_distribution_distance(sr, hr, mask)
    for index, value in enumerate(values.tolist()):
        kept = mask[index].numpy()
        ours, theirs = numpy_magnitude(sr)[index][kept], numpy_magnitude(hr)[index][kept]
        assert value == pytest.approx(stats.wasserstein_distance(ours, theirs) / theirs.mean(), rel=1e-10)
    assert (values < gradient_magnitude_distance(sr, hr, mask)).all()
    mirrored = hr.flip(2)  # the same gradients at other places
    assert gradient_distribution_distance(mirrored, hr).max() < 1e-6 < gradient_magnitude_distance(mirrored, hr).min()


def test_known_answers(distance):
    """On a ramp of slope (3, 4) the magnitude is 5; twice the slope is one whole magnitude away."""
    rows, columns = torch.meshgrid(torch.arange(6.0), torch.arange(7.0), indexing="ij")
    ramp = (3 * rows + 4 * columns)[None, None]
    torch.testing.assert_close(gradient_magnitude(ramp), torch.full_like(ramp, 5.0))
    assert distance(2 * ramp, ramp).item() == pytest.approx(1.0)
    assert distance(torch.zeros_like(ramp), ramp).item() == pytest.approx(1.0)
    assert distance(-ramp + 7, ramp).item() == pytest.approx(0.0, abs=1e-6)


def test_unit_and_offset_do_not_matter(distance, metric, rng):
    sr, hr = noise((1, 1, 8, 9, 10), rng), noise((1, 1, 8, 9, 10), rng)
    expected = distance(sr, hr)
    torch.testing.assert_close(distance(700 * sr + 30, 700 * hr + 30), expected)
    volume = hr.abs() + 1
    scaled = metric(700 * (volume + 0.1 * sr), 700 * volume)
    torch.testing.assert_close(scaled, metric(volume + 0.1 * sr, volume))


def test_grows_with_blur_and_is_zero_for_equal_images(distance, rng):
    hr = blurred(noise((1, 1, 20, 20, 20), rng), 0.7)
    values = [distance(blurred(hr, sigma), hr).item() for sigma in (0.3, 0.6, 1.0, 2.0, 4.0)]
    assert values[0] > 0 and values == sorted(values) and len(set(values)) == 5 and values[-1] < 1
    assert distance(hr, hr).item() == 0


def test_noise_is_rewarded_on_a_noisy_reference_and_only_there(distance, rng):
    """What the documentation warns of."""
    clean = blurred(noise((1, 1, 20, 20, 20), rng), 2.0)
    grain = clean.std() * torch.stack([noise((1, 20, 20, 20), rng) for _ in range(2)])
    noisy, other = clean + grain[:1], clean + grain[1:]
    assert distance(other, noisy) < distance(clean, noisy)
    assert distance(other, clean) > distance(clean, clean)


def test_only_the_mask_and_its_neighbours_count(distance, rng):
    sr, hr = noise((1, 1, 12, 12), rng), noise((1, 1, 12, 12), rng)
    mask = torch.zeros_like(hr, dtype=torch.bool)
    mask[..., 4:7, 4:7] = True
    changed = sr.clone()
    changed[..., 9:, 9:] = 50
    assert distance(changed, hr, mask) == distance(sr, hr, mask)
    changed[..., 7, 5] = 50
    assert distance(changed, hr, mask) != distance(sr, hr, mask)


def test_bad_input_is_one_line(distance):
    image = torch.rand(1, 1, 6, 6)
    with pytest.raises(InputError, match="image 0 of the batch is flat"):
        distance(image, torch.ones_like(image))
    with pytest.raises(InputError, match="axis 1: one voxel"):
        distance(image[..., :1], image[..., :1])
    with pytest.raises(InputError, match="mask of image 0 of the batch is empty"):
        distance(image, image, torch.zeros_like(image))
    with pytest.raises(InputError, match="must be equal"):
        distance(image, image[..., 1:])


def test_the_metric_is_the_function_over_the_foreground(distance, metric, rng):
    hr = torch.zeros(2, 1, 14, 14, 14)
    hr[..., 3:-3, 3:-3, 3:-3] = 300 + 100 * torch.from_numpy(rng.random((2, 1, 8, 8, 8))).float()
    sr = hr + 20 * noise(hr.shape, rng).float()
    unit = foreground_percentile(hr).reshape(-1, 1, 1, 1, 1)
    each = distance(sr / unit, hr / unit, foreground_mask(hr / unit))
    metric(list(sr), list(hr))
    assert metric.aggregate().item() == pytest.approx(each.mean().item(), rel=1e-6)
    assert each[0] != each[1]


@pytest.mark.data
def test_interpolation_of_a_real_scan_lacks_edges(metric, data_dir):
    scan = nib.load(data_dir / "mri" / "adult_3t_T1w.nii.gz")
    voxels = np.asarray(scan.dataobj[60:108, 60:108, 60:108], dtype=np.float32)
    hr = torch.from_numpy(voxels)[None, None]
    values = []
    for factor in (2, 4):
        cubic = cubic_bspline(SeparableAcquisition.from_profile((48,) * 3, (48 // factor,) * 3)(hr), (48,) * 3)
        values.append(metric(cubic, hr).item())
    assert 0.1 < values[0] < values[1] < 1
