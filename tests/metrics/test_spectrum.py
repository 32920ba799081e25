"""Power spectra and their distance: against numpy's full transform, known answers, and what blur and noise do."""

from __future__ import annotations

from itertools import pairwise

import nibabel as nib
import numpy as np
import pytest
import torch
from scipy import ndimage

from medsr_monai.acquisition import SeparableAcquisition
from medsr_monai.geometry import cubic_bspline
from medsr_monai.metrics import (
    ForegroundMetric,
    foreground_mask,
    foreground_percentile,
    power_spectrum,
    spectrum_distance,
)
from medsr_monai.metrics.spectrum import spectrum_middles
from medsr_monai.system.errors import InputError


def noise(shape: tuple[int, ...], rng: np.random.Generator) -> torch.Tensor:
    return torch.from_numpy(rng.standard_normal(shape))


def blurred(image: torch.Tensor, sigma: float) -> torch.Tensor:
    return torch.from_numpy(ndimage.gaussian_filter(image.numpy(), (0, 0, *[sigma] * (image.ndim - 2))))


def numpy_spectrum(image: np.ndarray, bands: int, lowest: float, highest: float) -> list[float]:
    """Of one channel, without padding, from the full complex transform, band by band."""
    window = np.ones(())
    for size in image.shape:
        window = np.multiply.outer(window, 0.5 - 0.5 * np.cos(2 * np.pi * (np.arange(size) + 0.5) / size))
    mean = (window * image).sum() / window.sum()
    power = np.abs(np.fft.fftn(window * (image - mean))) ** 2 / (window**2).sum()
    axes = np.meshgrid(*[np.fft.fftfreq(n) for n in image.shape], indexing="ij")
    radius = np.sqrt(sum(a**2 for a in axes))
    edges = np.linspace(lowest, highest, bands + 1)
    edges[-1] += 1e-9
    return [power[(radius >= a) & (radius < b)].mean() for a, b in pairwise(edges)]


# Sides that the transform is fast for and that are long enough for the bands: nothing is padded.
@pytest.mark.parametrize("shape", [(48, 45), (24, 30, 25)])
def test_agrees_with_numpy(shape, rng):
    image = blurred(noise((2, 2, *shape), rng), 0.8)
    settings = {"bands": 8, "lowest": 0.063, "highest": 0.497}
    frequencies, power = spectrum_middles(**settings), power_spectrum(image, **settings)
    expected = [
        np.mean([numpy_spectrum(channel, *settings.values()) for channel in one], axis=0) for one in image.numpy()
    ]
    np.testing.assert_allclose(power, expected, rtol=1e-10)
    np.testing.assert_allclose(frequencies, 0.063 + (np.arange(8) + 0.5) * 0.434 / 8, rtol=1e-12)
    decibel = 10 * np.log10(np.divide(*expected))
    distance = spectrum_distance(image[:1], image[1:], **settings).item()
    assert distance == pytest.approx(np.sqrt(np.mean(decibel**2)), rel=1e-9)


@pytest.mark.parametrize("shape", [(200, 211), (41, 37, 43)])
def test_white_noise_has_its_variance_in_every_band(shape, rng):
    power = power_spectrum(3 * noise((1, 1, *shape), rng), bands=5)
    np.testing.assert_allclose(power[0, 1:], 9, rtol=0.12)
    assert 4 < power[0, 0] < 18  # few frequencies


def test_a_wave_lies_in_the_band_of_its_frequency():
    wave = torch.sin(2 * torch.pi * 0.33 * torch.arange(64.0))[None, None, :, None].expand(1, 1, 64, 40)
    frequencies, power = spectrum_middles(8, 0.1, 0.5), power_spectrum(wave, None, 8, 0.1, 0.5)
    assert frequencies[power[0].argmax()].item() == pytest.approx(0.325)
    assert power[0].max() > 100 * power[0, [0, 1, 6, 7]].max()


def test_every_band_of_a_small_image_has_a_value(rng):
    power = power_spectrum(noise((1, 1, 5, 7, 3), rng), bands=16)
    assert power.shape == (1, 16) and torch.isfinite(power).all() and (power > 0).all()


def test_twice_the_power_is_three_decibel(rng):
    hr = noise((1, 1, 20, 22, 18), rng)
    assert spectrum_distance(2**0.5 * hr, hr).item() == pytest.approx(10 * np.log10(2), rel=1e-9)
    assert spectrum_distance(0.1 * hr + 5, hr).item() == pytest.approx(20, rel=1e-6)
    assert spectrum_distance(hr, hr).item() == 0
    assert spectrum_distance(torch.zeros_like(hr), hr).item() == np.inf


def test_unit_does_not_matter(rng):
    sr, hr = noise((1, 1, 20, 22, 18), rng), noise((1, 1, 20, 22, 18), rng)
    torch.testing.assert_close(spectrum_distance(700 * sr, 700 * hr), spectrum_distance(sr, hr))
    volume = hr.abs() + 1
    first, second = (
        ForegroundMetric(spectrum_distance)(unit * (volume + 0.5 * sr), unit * volume) for unit in (1, 700)
    )
    torch.testing.assert_close(first, second)


def test_grows_with_blur(rng):
    hr = noise((1, 1, 24, 24, 24), rng)
    values = [spectrum_distance(blurred(hr, sigma), hr).item() for sigma in (0.3, 0.5, 0.7, 0.9)]
    assert values[0] > 0 and values == sorted(values) and len(set(values)) == 4


def test_does_not_see_where_the_texture_lies(rng):
    """Unlike an error, which finds two unrelated textures further apart than one from nothing."""
    sr, hr = noise((1, 1, 32, 32, 32), rng), noise((1, 1, 32, 32, 32), rng)
    assert spectrum_distance(sr, hr, bands=4, lowest=0.2).item() < 1 < spectrum_distance(0.5 * sr, hr).item()
    assert (sr - hr).square().mean() > hr.square().mean()


def test_noise_is_rewarded_on_a_noisy_reference_and_only_there(rng):
    """What the documentation warns of."""
    clean = blurred(noise((1, 1, 24, 24, 24), rng), 1.0)
    noisy, other = (clean + 0.2 * clean.std() * noise(clean.shape, rng) for _ in range(2))
    assert spectrum_distance(other, noisy) < spectrum_distance(clean, noisy)
    assert spectrum_distance(other, clean) > spectrum_distance(clean, clean)


def test_only_the_box_around_the_mask_counts(rng):
    sr, hr = noise((2, 1, 20, 21, 22), rng), noise((2, 1, 20, 21, 22), rng)
    mask = torch.zeros(2, 1, 20, 21, 22, dtype=torch.bool)
    mask[0, :, 3, 4, 5] = mask[0, :, 14, 17, 12] = True
    mask[1, :, 2:18, 2:9, 1:20] = True
    boxes = [(slice(0, 1), slice(None), slice(3, 15), slice(4, 18), slice(5, 13))]
    boxes += [(slice(1, 2), slice(None), slice(2, 18), slice(2, 9), slice(1, 20))]
    expected = torch.cat([spectrum_distance(sr[box], hr[box]) for box in boxes])
    torch.testing.assert_close(spectrum_distance(sr, hr, mask), expected)
    assert not torch.allclose(spectrum_distance(sr, hr), expected)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"bands": 0}, "0 frequency bands"),
        ({"lowest": 0.3, "highest": 0.3}, r"frequencies from 0\.3 to 0\.3"),
        ({"highest": 0.6}, r"to 0\.6 cycles/voxel"),
        ({"lowest": -0.1}, r"from -0\.1"),
    ],
)
def test_bands_that_make_no_sense_are_one_line(settings, message):
    image = torch.rand(1, 1, 8, 8)
    with pytest.raises(InputError, match=message):
        spectrum_distance(image, image, **settings)


def test_bad_images_are_one_line():
    image = torch.rand(2, 1, 8, 8)
    with pytest.raises(InputError, match="image 1 of the batch has no power in band 0"):
        spectrum_distance(image, image * torch.tensor([1.0, 0.0]).reshape(2, 1, 1, 1))
    with pytest.raises(InputError, match="mask of image 0 of the batch is empty"):
        spectrum_distance(image, image, torch.zeros_like(image))
    with pytest.raises(InputError, match="NaN or infinite"):
        power_spectrum(image.log() * torch.inf)


def test_the_metric_is_the_function_over_the_foreground(rng):
    hr = torch.zeros(2, 1, 14, 16, 14)
    hr[..., 3:-3, 3:-3, 3:-3] = 300 + 100 * torch.from_numpy(rng.random((2, 1, 8, 10, 8))).float()
    sr = hr + 20 * noise(hr.shape, rng).float()
    unit = foreground_percentile(hr).reshape(-1, 1, 1, 1, 1)
    each = spectrum_distance(sr / unit, hr / unit, foreground_mask(hr / unit), bands=6, lowest=0.1, highest=0.4)
    metric = ForegroundMetric(spectrum_distance, bands=6, lowest=0.1, highest=0.4)
    metric(list(sr), list(hr))
    assert metric.aggregate().item() == pytest.approx(each.mean().item(), rel=1e-6)
    assert each[0] != each[1]


@pytest.mark.data
def test_interpolation_of_a_real_scan_lacks_high_frequencies(data_dir):
    scan = nib.load(data_dir / "mri" / "adult_3t_T1w.nii.gz")
    hr = torch.from_numpy(np.asarray(scan.dataobj[60:108, 60:108, 60:108], dtype=np.float32))[None, None]
    cubic = {n: cubic_bspline(SeparableAcquisition.from_profile((48,) * 3, (n,) * 3)(hr), (48,) * 3) for n in (24, 12)}
    ratio = power_spectrum(cubic[24]) / power_spectrum(hr)
    assert ratio[0, 0] > 0.9 and (ratio[0, 9:] < 0.2).all()
    distances = [ForegroundMetric(spectrum_distance)(image, hr).item() for image in cubic.values()]
    assert 3 < distances[0] < distances[1]
