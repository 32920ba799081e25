"""The perceptual distance: its zero, what grows it, what the mask leaves out, and LPIPS's own code to compare with."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from medsr_monai.metrics import perceptual_distance
from medsr_monai.networks import ConvolutionalFeatures, EfficientNetLiteFeatures, OnSlices
from medsr_monai.system.errors import InputError

VOLUME = ConvolutionalFeatures(3, widths=(4, 8))
SLICES = OnSlices(EfficientNetLiteFeatures(None, levels=2), slices_per_axis=None)


@pytest.fixture(params=[VOLUME, SLICES], ids=["3d", "2.5d"])
def features(request):
    return request.param


def image(rng: np.random.Generator, *shape: int) -> torch.Tensor:
    return torch.from_numpy(ndimage.gaussian_filter(rng.random(shape), (0, 0, *[1] * (len(shape) - 2)))).float()


def test_zero_for_equal_images_and_grows_with_blur(features, rng):
    hr = image(rng, 1, 1, 18, 17, 16)
    blurred = [torch.from_numpy(ndimage.gaussian_filter(hr.numpy(), (0, 0, *[s] * 3))) for s in (0.4, 0.8, 1.6)]
    values = [perceptual_distance(sr, hr, features).item() for sr in (hr, *blurred)]
    assert values[0] == 0 and values == sorted(values) and len(set(values)) == 4 and values[-1] < 4


def test_each_image_is_judged_alone(features, rng):
    sr, hr = image(rng, 2, 1, 12, 11, 10), image(rng, 2, 1, 12, 11, 10)
    each = [perceptual_distance(a, b, features) for a, b in zip(sr.split(1), hr.split(1), strict=True)]
    torch.testing.assert_close(perceptual_distance(sr, hr, features), torch.cat(each))


def test_outside_the_mask_nothing_counts(features, rng):
    sr, hr = image(rng, 1, 1, 12, 12, 12), image(rng, 1, 1, 12, 12, 12)
    mask = torch.zeros_like(hr, dtype=torch.bool)
    mask[..., 3:9, 3:9, 3:9] = True
    changed = torch.where(mask, sr, 7.0)
    masked = perceptual_distance(sr, hr, features, mask)
    assert masked == perceptual_distance(changed, hr, features, mask) and masked > 0
    filled = torch.where(mask, sr, hr)
    torch.testing.assert_close(masked, perceptual_distance(filled, hr, features) / mask.float().mean())


def test_agrees_with_lpips(rng):
    lpips = pytest.importorskip("lpips", reason="the extra perceptual is not installed")
    a, b = (torch.from_numpy(rng.standard_normal((2, 5, 6, 7))) for _ in range(2))
    expected = (lpips.normalize_tensor(a) - lpips.normalize_tensor(b)).square().sum(1).mean((1, 2))
    torch.testing.assert_close(perceptual_distance(a, b, lambda maps: maps), expected, rtol=1e-6, atol=0)


def test_bad_input_is_one_line(features):
    volume = torch.rand(1, 1, 8, 8, 8)
    with pytest.raises(InputError, match="must be equal"):
        perceptual_distance(volume, volume[..., 1:], features)
    with pytest.raises(InputError, match="mask of image 0 of the batch is empty"):
        perceptual_distance(volume, volume, features, torch.zeros_like(volume))
