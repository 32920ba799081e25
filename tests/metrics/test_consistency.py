"""Residuals of the measurement and the bias of the mean: known answers, and what is refused."""

from __future__ import annotations

import pytest
import torch

from medsr_monai.acquisition import SeparableAcquisition
from medsr_monai.metrics import ForegroundMetric, intensity_bias, measurement_residual
from medsr_monai.system.errors import InputError


@pytest.mark.parametrize("shape", [(6, 8), (6, 8, 4)])
def test_residual_of_a_projected_image_and_of_one_wrong_voxel(shape, rng):
    acquisition = SeparableAcquisition.from_profile(shape, [n // 2 for n in shape])
    sr = torch.from_numpy(rng.random((2, 1, *shape)))
    lr = acquisition(sr)
    largest, rms = measurement_residual(sr, lr, acquisition)
    assert largest.shape == rms.shape == (2,) and largest.max() < 1e-12 and rms.max() < 1e-12
    sr[1].view(-1)[0] += 2 ** len(shape)  # a voxel among so many that are averaged
    largest, rms = measurement_residual(sr, lr, acquisition)
    assert largest.tolist() == pytest.approx([0, 1], abs=1e-12)
    assert rms.tolist() == pytest.approx([0, lr[0].numel() ** -0.5], abs=1e-12)


def test_bias_is_signed_and_over_the_mask():
    hr = torch.zeros(2, 1, 4, 4)
    sr = torch.stack([torch.full((1, 4, 4), -3.0), torch.full((1, 4, 4), 5.0)])
    assert intensity_bias(sr, hr).tolist() == [-3, 5]
    mask = torch.zeros_like(hr)
    mask[..., 0, :2] = 1
    sr[1, 0, 0, 0] = 1
    assert intensity_bias(sr, hr, mask).tolist() == [-3, 3]


def test_bias_in_hu_leaves_air_out():
    hr = torch.full((1, 1, 12, 12), -1000.0)
    hr[..., 4:8, 4:8] = 40.0
    sr = torch.where(hr > 0, hr + 7, hr + 500)
    metric = ForegroundMetric(intensity_bias, percentile=None, threshold=-500, dilation=0)
    metric(sr, hr)
    assert metric.aggregate().item() == pytest.approx(7)


def test_bad_input_is_one_line():
    image, lr = torch.rand(1, 1, 8, 8), torch.rand(1, 1, 4, 4)
    acquisition = SeparableAcquisition.from_profile((8, 8), (4, 4))
    with pytest.raises(InputError, match=r"measured as \(1, 1, 4, 4\), but lr has \(1, 1, 4, 3\)"):
        measurement_residual(image, lr[..., 1:], acquisition)
    with pytest.raises(InputError, match="NaN"):
        measurement_residual(image * torch.nan, lr, acquisition)
    with pytest.raises(InputError, match="NaN"):
        measurement_residual(image, lr * torch.nan, acquisition)
    with pytest.raises(InputError, match="mask of image 0 of the batch is empty"):
        intensity_bias(image, image, torch.zeros_like(image))
    with pytest.raises(InputError, match="must be equal"):
        intensity_bias(image, lr)
