"""PSNR, SSIM and the foreground: against independent implementations, known answers, and the figure to beat."""

from __future__ import annotations

import math

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import DataLoader, Dataset, MetaTensor
from monai.engines import SupervisedEvaluator
from monai.handlers import IgniteMetricHandler, from_engine
from scipy import ndimage
from skimage.metrics import structural_similarity

from medsr_monai.acquisition import SeparableAcquisition
from medsr_monai.geometry import cubic_bspline
from medsr_monai.metrics import (
    ForegroundMetric,
    fidelity,
    foreground_mask,
    foreground_percentile,
    mae,
    mse,
    psnr,
    ssim,
)
from medsr_monai.system.errors import InputError

FUNCTIONS = [mse, mae, psnr, ssim]


def blob(shape: tuple[int, ...], rng: np.random.Generator, batch: int = 1) -> torch.Tensor:
    """A textured bright ball on zero, (batch, 1, *shape) float32."""
    axes = np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing="ij")
    ball = sum(a**2 for a in axes) < 0.6
    images = [ball * (0.5 + 0.3 * ndimage.gaussian_filter(rng.standard_normal(shape), 1.5)) for _ in range(batch)]
    return torch.from_numpy(np.stack(images)[:, None]).float()


@pytest.fixture
def pair(rng):
    hr = blob((24, 30, 26), rng)
    return hr + 0.05 * torch.from_numpy(rng.standard_normal(hr.shape)).float(), hr


@pytest.mark.parametrize("shape", [(40, 53), (26, 21, 34)])
@pytest.mark.parametrize("data_range", [1.0, 2000.0])
@pytest.mark.parametrize("gaussian", [True, False])
def test_ssim_agrees_with_skimage(shape, data_range, gaussian, rng):
    hr = data_range * (blob(shape, rng).double() - 0.3)
    sr = hr + 0.1 * data_range * torch.from_numpy(rng.standard_normal(hr.shape))
    window = {"gaussian_weights": True, "sigma": 1.5} if gaussian else {"win_size": 7}
    expected = structural_similarity(
        sr[0, 0].numpy(), hr[0, 0].numpy(), data_range=data_range, use_sample_covariance=False, **window
    )
    own = {} if gaussian else {"window": 7, "sigma": None}
    assert ssim(sr, hr, data_range=data_range, **own).item() == pytest.approx(expected, abs=1e-9)
    assert ssim(sr.float(), hr.float(), data_range=data_range, **own).item() == pytest.approx(expected, abs=1e-5)


def test_ssim_over_a_mask_averages_the_map_of_skimage(pair):
    sr, hr = pair
    mask = torch.zeros_like(hr, dtype=torch.bool)
    mask[..., 3:12, 8:20, 9:21] = True
    _, ssim_map = structural_similarity(
        sr[0, 0].numpy(),
        hr[0, 0].numpy(),
        data_range=1.0,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        full=True,
    )
    # of the mask's first axis, 3 and 4 are nearer to the border than the window's half
    expected = ssim_map[5:12, 8:20, 9:21].mean()
    assert ssim(sr, hr, mask).item() == pytest.approx(expected, abs=1e-5)
    assert torch.equal(ssim(sr, hr, torch.ones_like(mask)), ssim(sr, hr))


def test_ssim_does_not_depend_on_slabs(pair, monkeypatch):
    whole = ssim(*pair)
    monkeypatch.setattr(fidelity, "SLAB_VOXELS", 1)
    monkeypatch.setattr(fidelity, "SHORTEST_SLAB", 3)
    torch.testing.assert_close(ssim(*pair), whole, atol=1e-6, rtol=0)


def test_known_answers():
    hr = torch.zeros(2, 1, 12, 12)
    sr = torch.stack([torch.full((1, 12, 12), 0.1), torch.full((1, 12, 12), -0.01)])
    torch.testing.assert_close(mse(sr, hr), torch.tensor([1e-2, 1e-4]))
    torch.testing.assert_close(mae(sr, hr), torch.tensor([0.1, 0.01]))
    torch.testing.assert_close(psnr(sr, hr), torch.tensor([20.0, 40.0]))
    torch.testing.assert_close(psnr(sr * 100, hr, data_range=100.0), torch.tensor([20.0, 40.0]))


def test_only_the_mask_counts(pair, rng):
    sr, hr = pair
    mask = torch.from_numpy(rng.random(hr.shape)) > 0.7
    elsewhere = torch.where(mask, sr, 7.0)
    for function in (mse, mae, psnr):
        assert torch.equal(function(elsewhere, hr, mask), function(sr, hr, mask))
    expected = -10 * math.log10(np.mean((sr - hr)[mask].double().numpy() ** 2))
    assert psnr(sr, hr, mask).item() == pytest.approx(expected, abs=1e-4)
    assert psnr(elsewhere, hr).item() < expected


def test_equal_images(pair):
    _, hr = pair
    assert psnr(hr, hr).item() == math.inf
    assert ssim(hr, hr).item() == pytest.approx(1, abs=1e-6)
    assert mse(hr, hr).item() == mae(hr, hr).item() == 0


@pytest.mark.parametrize("function", [psnr, ssim])
def test_falls_as_noise_or_blur_grows(function, pair, rng):
    hr = pair[1]
    noise = torch.from_numpy(rng.standard_normal(hr.shape)).float()
    by_noise = [function(hr + sigma * noise, hr).item() for sigma in (0.01, 0.03, 0.1, 0.3)]
    blurred = [torch.from_numpy(ndimage.gaussian_filter(hr.numpy(), (0, 0, s, s, s))) for s in (0.5, 1.0, 2.0, 4.0)]
    by_blur = [function(image, hr).item() for image in blurred]
    assert by_noise == sorted(by_noise, reverse=True) and by_noise[0] > by_noise[-1]
    assert by_blur == sorted(by_blur, reverse=True) and by_blur[0] > by_blur[-1]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_every_image_of_a_batch_by_itself(function, rng):
    hr = blob((16, 17, 18), rng, batch=3)
    sr = hr + torch.tensor([0.01, 0.1, 0.3]).reshape(3, 1, 1, 1, 1) * torch.randn_like(hr)
    mask = foreground_mask(hr)
    alone = torch.cat([function(sr[i : i + 1], hr[i : i + 1], mask[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(function(sr, hr, mask), alone)
    assert function(sr, hr).shape == (3,)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_integers_do_not_wrap_around(function):
    hr, sr = torch.full((1, 1, 12, 12), 3, dtype=torch.uint8), torch.full((1, 1, 12, 12), 5, dtype=torch.uint8)
    assert torch.equal(function(sr, hr), function(sr.float(), hr.float()))


@pytest.mark.parametrize("function", FUNCTIONS)
def test_refuses(function, pair):
    sr, hr = pair
    with pytest.raises(InputError, match="must be equal"):
        function(sr[..., :-1], hr)
    with pytest.raises(InputError, match="is empty"):
        function(sr, hr, torch.zeros_like(hr))
    with pytest.raises(InputError, match="does not fit"):
        function(sr, hr, torch.ones(1, 1, 3, 3, 3))
    with pytest.raises(InputError, match="need \\(B, C\\)"):
        function(sr[0, 0], hr[0, 0])
    sr = sr.clone()
    sr[0, 0, 3, 3, 3] = math.nan
    with pytest.raises(InputError, match=r"sr: image 0 .* NaN"):
        function(sr, hr)


def test_refuses_windows_and_ranges_that_mean_nothing(pair):
    for arguments, words in [({"window": 4}, "odd"), ({"sigma": 0.0}, "sigma"), ({"data_range": 0.0}, "positive")]:
        with pytest.raises(InputError, match=words):
            ssim(*pair, **arguments)
    with pytest.raises(InputError, match="axis 1: 10 voxels"):
        ssim(torch.rand(1, 1, 20, 10), torch.rand(1, 1, 20, 10))
    with pytest.raises(InputError, match="positive"):
        psnr(*pair, data_range=-1.0)


@pytest.mark.parametrize("dilation", [0, 1, 2, 4])
def test_mask_is_what_scipy_dilates_without_zeroed_voxels(dilation, rng):
    hr = torch.from_numpy(rng.random((2, 1, 15, 14, 13)) ** 40)
    hr[..., :7] = 0
    for image, mask in zip(hr[:, 0].numpy(), foreground_mask(hr, dilation=dilation)[:, 0].numpy(), strict=True):
        expected = ndimage.binary_dilation(image > 0.05, iterations=dilation) if dilation else image > 0.05
        np.testing.assert_array_equal(mask, expected & (image != 0))


def test_percentile_leaves_zeros_out():
    image = torch.cat([torch.zeros(500), torch.arange(1.0, 1001.0)]).reshape(1, 1, 30, 50)
    expected = np.percentile(np.arange(1.0, 1001.0), 99.5)
    assert foreground_percentile(image).item() == pytest.approx(expected)
    with pytest.raises(InputError, match="image 1 of the batch"):
        foreground_percentile(torch.stack([image[0], torch.zeros(1, 30, 50)]))


@pytest.mark.parametrize("function", [psnr, ssim])
def test_metric_does_not_depend_on_the_unit(function, pair):
    sr, hr = pair
    metric = ForegroundMetric(function)
    torch.testing.assert_close(metric(sr * 900, hr * 900), metric(sr, hr), atol=1e-4, rtol=0)


@pytest.mark.parametrize("function", [psnr, ssim])
def test_metric_averages_over_images_of_different_size(function, rng):
    hr = [blob(shape, rng)[0] for shape in [(24, 30, 26), (30, 22, 25)]]
    sr = [image + sigma * torch.randn_like(image) for image, sigma in zip(hr, (0.02, 0.1), strict=True)]
    expected = []
    for one, reference in zip(sr, hr, strict=True):
        scale = foreground_percentile(reference[None])
        one, reference = one[None] / scale, reference[None] / scale
        expected.append(function(one, reference, foreground_mask(reference)).item())
    measured = ForegroundMetric(function)
    values = measured(sr, hr)
    assert [v.item() for v in values] == pytest.approx(expected, abs=1e-4)
    assert measured.aggregate().item() == pytest.approx(np.mean(expected), abs=1e-4)
    measured.reset()
    measured(sr[0][None], hr[0][None])
    assert measured.aggregate().item() == pytest.approx(expected[0], abs=1e-4)


def test_values_appear_in_an_evaluator(rng):
    cases = [
        {"image": MetaTensor(image + 0.1), "label": MetaTensor(image)} for image in blob((16, 16, 16), rng, batch=3)
    ]
    keys = from_engine(["pred", "label"])
    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(Dataset(cases), batch_size=2),
        network=torch.nn.Identity(),
        key_val_metric={"psnr": IgniteMetricHandler(ForegroundMetric(psnr, percentile=None), output_transform=keys)},
        additional_metrics={
            "ssim": IgniteMetricHandler(ForegroundMetric(ssim, percentile=None), output_transform=keys)
        },
    )
    for _ in range(2):
        evaluator.run()
        assert evaluator.state.metrics["psnr"] == pytest.approx(20, abs=1e-3)
        assert 0 < evaluator.state.metrics["ssim"] < 1
        assert evaluator.state.metric_details["psnr"].shape == (3, 1)


@pytest.mark.data
def test_the_figure_to_beat(data_dir):
    """S2, 2 x 2 x 2 averaging: cubic B-spline 23.67 dB, projected onto the measurement 24.02 dB."""
    scan = nib.as_closest_canonical(nib.load(data_dir / "mri" / "adult_3t_T1w.nii.gz"))
    voxels = np.asarray(scan.dataobj, dtype=np.float32)
    voxels = voxels[tuple(slice(0, n // 2 * 2) for n in voxels.shape)]
    assert voxels.shape == (168, 192, 168)
    hr = torch.from_numpy(voxels)[None, None]
    acquisition = SeparableAcquisition.from_profile(hr.shape[2:], [n // 2 for n in hr.shape[2:]])
    lr = acquisition(hr)
    cubic = cubic_bspline(lr, hr.shape[2:])
    metric = ForegroundMetric(psnr)
    assert metric(cubic, hr).item() == pytest.approx(23.67, abs=0.006)
    assert metric(acquisition.project(cubic, lr), hr).item() == pytest.approx(24.02, abs=0.006)
