"""MS-SSIM, HaarPSI, VIF, HFEN and EPI: what all of them must do, and each against an independent implementation."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from golden_piq import DISTORTIONS, FILE, pair
from scipy import ndimage

from medsr_monai.metrics import (
    ForegroundMetric,
    edge_preservation,
    foreground_mask,
    foreground_percentile,
    haarpsi,
    hfen,
    ms_ssim,
    ssim,
    vif,
)
from medsr_monai.system.errors import InputError

GOLDEN = json.loads(FILE.read_text())


def ms_ssim2(sr, hr, mask=None, **kwargs):
    return ms_ssim(sr, hr, mask, scales=2, **kwargs)


PERFECT = {ms_ssim2: 1.0, haarpsi: 1.0, vif: 1.0, hfen: 0.0, edge_preservation: 1.0}


@pytest.fixture(params=list(PERFECT), ids=lambda function: function.__name__)
def function(request):
    return request.param


def texture(shape: tuple[int, ...], rng: np.random.Generator) -> torch.Tensor:
    """(B, C, *spatial) of about 0.2 to 0.8, with detail of all sizes."""
    image = sum(
        s * ndimage.gaussian_filter(rng.standard_normal(shape), (0, 0, *[s] * (len(shape) - 2))) for s in (0.6, 2, 4)
    )
    return torch.from_numpy(0.5 + 0.1 * image / image.std())


def blurred(image: torch.Tensor, sigma: float) -> torch.Tensor:
    return torch.from_numpy(ndimage.gaussian_filter(image.numpy(), (0, 0, *[sigma] * (image.ndim - 2))))


@pytest.mark.parametrize("shape", [(2, 1, 60, 50), (1, 1, 44, 42, 43)], ids=["2d", "3d"])
def test_equal_images_are_perfect_and_blur_and_noise_are_not(function, shape, rng):
    hr = texture(shape, rng)
    noise = torch.from_numpy(rng.standard_normal(shape))
    assert function(hr, hr).tolist() == pytest.approx([PERFECT[function]] * shape[0], abs=1e-6)
    assert function(hr.float(), hr.float()).tolist() == pytest.approx([PERFECT[function]] * shape[0], abs=1e-5)
    for changed in (lambda s: blurred(hr, s), lambda s: hr + 0.05 * s * noise):
        values = [function(changed(s), hr).mean().item() for s in (0.4, 0.8, 1.6)]
        losses = [abs(value - PERFECT[function]) for value in values]
        assert 1e-4 < losses[0] < losses[1] < losses[2]


@pytest.mark.parametrize("shape", [(3, 2, 48, 45), (2, 1, 42, 41, 41)], ids=["2d", "3d"])
def test_every_image_of_a_batch_by_itself(function, shape, rng):
    hr = texture(shape, rng)
    sr = hr + torch.linspace(0.01, 0.1, shape[0]).reshape(-1, *[1] * (hr.ndim - 1)) * torch.randn(shape)
    mask = torch.from_numpy(rng.random(shape)) > 0.3
    alone = torch.cat([function(sr[i : i + 1], hr[i : i + 1], mask[i : i + 1]) for i in range(shape[0])])
    torch.testing.assert_close(function(sr, hr, mask), alone)
    torch.testing.assert_close(function(sr.float(), hr.float(), mask), alone.float(), atol=1e-4, rtol=1e-4)
    assert torch.equal(function(sr, hr, torch.ones_like(mask)), function(sr, hr))


def test_far_from_the_mask_nothing_counts(function, rng):
    hr = texture((1, 1, 90, 60), rng)
    sr = blurred(hr, 1.0)
    mask = torch.zeros_like(hr, dtype=torch.bool)
    mask[..., 14:30, 14:46] = True
    changed = sr.clone()
    changed[..., 85:, :] += 0.5
    # MS-SSIM and VIF take the variance about the mean of the whole image first, which costs the last digits
    assert function(changed, hr, mask).item() == pytest.approx(function(sr, hr, mask).item(), abs=1e-9)
    changed[..., 20, 30] += 0.5
    assert abs(function(changed, hr, mask).item() - function(sr, hr, mask).item()) > 1e-4


def test_refuses(function, rng):
    hr = texture((2, 1, 44, 46), rng)
    with pytest.raises(InputError, match="must be equal"):
        function(hr[..., :-1], hr)
    with pytest.raises(InputError, match="mask of image 0 of the batch is empty"):
        function(hr, hr, torch.zeros_like(hr))
    with pytest.raises(InputError, match="does not fit"):
        function(hr, hr, torch.ones(1, 1, 3, 3))
    broken, flat = hr.clone(), hr.clone()
    broken[1, 0, 3, 3] = math.nan
    with pytest.raises(InputError, match=r"sr: image 1 .* NaN"):
        function(broken, hr)
    flat[1] = 0.3
    with pytest.raises(InputError, match="hr: image 1 of the batch is flat"):
        function(hr, flat)


@pytest.mark.parametrize(("function", "shortest"), [(ms_ssim2, 21), (haarpsi, 16), (vif, 41), (edge_preservation, 3)])
def test_names_the_axis_that_is_too_short(function, shortest, rng):
    image = texture((1, 1, 44, 45, shortest), rng)
    assert function(image, image).item() == pytest.approx(1, abs=1e-6)
    with pytest.raises(InputError, match=f"axis 2: {shortest - 1} voxels, but .* needs at least {shortest}"):
        function(image[..., 1:], image[..., 1:])


def test_a_reference_that_is_flat_in_the_mask(rng):
    """What rounding leaves of it there is no detail to compare with."""
    hr = texture((1, 1, 90, 60), rng)
    hr[..., 30:, :] = 0.7
    mask = torch.zeros_like(hr, dtype=torch.bool)
    mask[..., 60:80, 20:40] = True
    for function in (haarpsi, vif, hfen):
        for kind in (torch.float32, torch.float64):
            with pytest.raises(InputError, match="hr: image 0 of the batch is flat"):
                function(hr.to(kind) + 1e-3, hr.to(kind), mask)
    with pytest.raises(InputError, match="sr: image 0 of the batch has no edge"):
        edge_preservation(hr, texture(hr.shape, rng), mask)


def test_the_metric_is_the_function_over_the_foreground(function, rng):
    hr = torch.zeros(2, 1, 60, 56)
    hr[..., 5:-5, 5:-5] = 900 * texture((2, 1, 50, 46), rng).float()
    sr = hr + 30 * torch.from_numpy(rng.standard_normal(hr.shape)).float()
    unit = foreground_percentile(hr).reshape(-1, 1, 1, 1)
    each = function(sr / unit, hr / unit, foreground_mask(hr / unit))
    metric = ForegroundMetric(function)
    metric(list(sr), list(hr))
    assert metric.aggregate().item() == pytest.approx(each.mean().item(), rel=1e-6)


@pytest.mark.parametrize("distortion", DISTORTIONS)
@pytest.mark.parametrize("size", ["even", "odd"])
def test_agrees_with_piq(size, distortion):
    sr, hr = pair(size, distortion)
    for name, function in (("haarpsi", haarpsi), ("vif", vif)):
        expected = GOLDEN[f"{name} {size} {distortion}"]
        assert function(sr, hr).item() == pytest.approx(expected, abs=1e-10)
        assert function(2000 * sr.float(), 2000 * hr.float(), data_range=2000.0).item() == pytest.approx(
            expected, abs=2e-6
        )
    if size == "even":
        assert ms_ssim(sr, hr).item() == pytest.approx(GOLDEN[f"ms_ssim {size} {distortion}"], abs=1e-10)
        assert ms_ssim(sr, hr, scales=3).item() == pytest.approx(GOLDEN[f"ms_ssim3 {size} {distortion}"], abs=1e-10)


def test_one_scale_is_ssim_and_too_many_are_refused(rng):
    hr = texture((1, 1, 20, 19, 18), rng)
    sr = hr + 0.1 * torch.from_numpy(rng.standard_normal(hr.shape))
    torch.testing.assert_close(ms_ssim(sr, hr, scales=1), ssim(sr, hr))
    with pytest.raises(InputError, match=r"axis 0: 20 voxels, but MS-SSIM on 5 scales .* needs at least 161"):
        ms_ssim(sr, hr)
    for scales in (0, 6):
        with pytest.raises(InputError, match="must be 1 to 5"):
            ms_ssim(sr, hr, scales=scales)


@pytest.mark.parametrize("function", [haarpsi, hfen, edge_preservation])
def test_in_3d_a_repeated_slice_has_the_figure_of_the_slice(function, rng):
    """HaarPSI's extension is made for it; a third derivative that is zero changes neither HFEN nor EPI."""
    hr = texture((1, 1, 40, 44), rng)
    sr = blurred(hr, 0.8)
    volumes = [image[:, :, None].expand(-1, -1, 34, -1, -1) for image in (sr, hr)]
    mask = torch.zeros_like(volumes[0], dtype=torch.bool)
    mask[:, :, 16:18] = True  # far from the zeros that HaarPSI sees outside
    assert function(*volumes, mask).item() == pytest.approx(function(sr, hr).item(), abs=2e-4)


def test_vif_rewards_contrast_and_is_not_symmetric(rng):
    hr = texture((1, 1, 60, 60), rng)
    stretched = hr + 0.5 * (hr - hr.mean())
    assert vif(stretched, hr) > 1.05
    assert abs(vif(blurred(hr, 1), hr) - vif(hr, blurred(hr, 1))) > 0.02


@pytest.mark.parametrize("shape", [(40, 37), (22, 24, 23)], ids=["2d", "3d"])
def test_hfen_and_epi_agree_with_scipy(shape, rng):
    hr = texture((1, 1, *shape), rng)
    sr = blurred(hr, 0.7) + 0.01
    # MATLAB's fspecial('log', 15, 1.5)
    steps = np.meshgrid(*[np.arange(15) - 7] * len(shape), indexing="ij")
    squares = sum(x**2 for x in steps)
    gauss = np.exp(-squares / (2 * 1.5**2))
    kernel = gauss / gauss.sum() * (squares - len(shape) * 1.5**2) / 1.5**4
    kernel -= kernel.mean()
    mask = rng.random(shape) > 0.5
    a, b = (ndimage.correlate(x[0, 0].numpy(), kernel, mode="nearest") for x in (sr, hr))
    for chosen in (mask, np.ones_like(mask)):
        expected = np.linalg.norm((a - b)[chosen]) / np.linalg.norm(b[chosen])
        assert hfen(sr, hr, torch.from_numpy(chosen)[None, None]).item() == pytest.approx(expected, rel=1e-4)
        inner = tuple([slice(1, -1)] * len(shape))
        c, d = (ndimage.laplace(x[0, 0].numpy())[inner][chosen[inner]] for x in (sr, hr))
        value = edge_preservation(sr, hr, torch.from_numpy(chosen)[None, None]).item()
        assert value == pytest.approx(np.corrcoef(c, d)[0, 1], abs=1e-10)


def test_unit_and_offset_do_not_matter_to_edges(rng):
    hr = texture((1, 1, 30, 30), rng)
    sr = blurred(hr, 1.0)
    for function in (hfen, edge_preservation):
        torch.testing.assert_close(function(700 * sr - 1000, 700 * hr - 1000), function(sr, hr))
    assert hfen(torch.full_like(hr, 3.0), hr).item() == pytest.approx(1)
    assert edge_preservation(1 - sr, hr).item() == pytest.approx(-edge_preservation(sr, hr).item())
