"""Cubic B-spline interpolation: against scipy at explicit coordinates, and what a spline reproduces exactly."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage

from medsr_monai.geometry import METHODS, cubic_bspline, interpolate
from medsr_monai.system import optional
from medsr_monai.system.errors import InputError

SHAPES = [
    ((7, 9, 6), (14, 18, 12)),
    ((7, 9, 5), (16, 13, 12)),
    ((30, 6, 8), (47, 6, 31)),
    ((6, 1, 5), (9, 4, 11)),
    ((1, 1, 1), (3, 2, 1)),
    ((8, 9, 7), (5, 4, 1)),
    ((8, 11), (5, 21)),
]


def centres(n_in: int, n_out: int) -> np.ndarray:
    return (np.arange(n_out) + 0.5) * n_in / n_out - 0.5


@pytest.mark.parametrize(("old", "new"), SHAPES)
def test_equals_scipy_at_explicit_coordinates(old, new, rng):
    image = rng.random(old)
    grid = np.meshgrid(*map(centres, old, new), indexing="ij")
    expected = ndimage.map_coordinates(image, grid, order=3, mode="nearest")
    result = cubic_bspline(torch.from_numpy(image)[None, None], new)
    assert result.shape == (1, 1, *new)
    np.testing.assert_allclose(result[0, 0].numpy(), expected, atol=1e-12)


@pytest.mark.parametrize(("old", "new"), SHAPES)
@pytest.mark.parametrize(("method", "order"), [("nearest", 0), ("linear", 1)])
def test_low_orders_equal_scipys(method, order, old, new, rng):
    image = rng.random(old)
    grid = np.meshgrid(*map(centres, old, new), indexing="ij")
    # SciPy's rounding of centres that lie between two voxels is not one voxel's for both directions.
    grid = [g + 1e-9 for g in grid] if method == "nearest" else grid
    expected = ndimage.map_coordinates(image, grid, order=order, mode="nearest")
    result = interpolate(torch.from_numpy(image)[None, None], new, method)
    np.testing.assert_allclose(result[0, 0].numpy(), expected, atol=1e-12)


def test_lanczos_equals_pillows_away_from_the_border(rng):
    image = rng.random((20, 18)).astype(np.float32)
    expected = np.asarray(Image.fromarray(image).resize((45, 40), Image.Resampling.LANCZOS))
    result = interpolate(torch.from_numpy(image)[None, None], (40, 45), "lanczos")[0, 0].numpy()
    np.testing.assert_allclose(result[6:-6, 8:-8], expected[6:-6, 8:-8], atol=1e-5)


def test_unknown_method_is_named():
    with pytest.raises(InputError, match="method 'sinc': must be one of nearest, linear, cubic, lanczos"):
        interpolate(torch.zeros(1, 1, 4, 4), (8, 8), "sinc")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("old", "new"), SHAPES)
def test_constant_stays_constant(old, new, method):
    result = interpolate(torch.full((2, 1, *old), 3.25, dtype=torch.float64), new, method)
    torch.testing.assert_close(result, torch.full((2, 1, *new), 3.25, dtype=torch.float64))


@pytest.mark.parametrize("method", ["cubic", "wavelet"])
@pytest.mark.parametrize("new", [(60, 40, 48), (45, 34, 25), (90, 80, 60)])
def test_ramp_is_reproduced_away_from_borders(new, method):
    old = (30, 20, 24)
    slopes = (0.3, -0.7, 1.1)

    def ramp(shape: tuple[int, ...]) -> torch.Tensor:
        positions = [slope * centres(n_in, n_out) for slope, n_in, n_out in zip(slopes, old, shape, strict=True)]
        return torch.from_numpy(sum(np.meshgrid(*positions, indexing="ij")))[None, None]

    inner = tuple(slice(int(8 * n / o), -int(8 * n / o)) for n, o in zip(new, old, strict=True))
    difference = (interpolate(ramp(old), new, method) - ramp(new))[0, 0]
    # a spline forgets the border by a factor 0.27 per voxel
    assert difference[inner].abs().max() < 1e-3
    assert difference.abs().max() < 0.6


# ---- wavelet


@pytest.mark.parametrize("new", [(40, 36), (80, 72), (60, 54), (50, 47)])
def test_wavelet_does_not_shift(new):
    """The centroid of a blob lies where cubic interpolation leaves it, which is where it was."""
    old, at = (20, 18), (9.3, 7.8)
    grid = np.meshgrid(*(np.arange(n) for n in old), indexing="ij")
    blob = np.exp(-sum((axis - centre) ** 2 for axis, centre in zip(grid, at, strict=True)) / 8)

    def centroid(method: str) -> list[float]:
        image = interpolate(torch.from_numpy(blob)[None, None], new, method)[0, 0].numpy()
        places = np.meshgrid(*(centres(n, m) for n, m in zip(old, new, strict=True)), indexing="ij")
        return [float((image * place).sum() / image.sum()) for place in places]

    np.testing.assert_allclose(centroid("wavelet"), at, atol=2e-3)
    np.testing.assert_allclose(centroid("wavelet"), centroid("cubic"), atol=2e-3)


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_wavelet_keeps_the_approximation_and_has_no_details(factor, rng):
    """The defining property, by PyWavelets' own analysis; its low-pass is the mean of two voxels."""
    pywt = pytest.importorskip("pywt")
    lr = rng.random(24)
    hr = interpolate(torch.from_numpy(lr)[None, None, :, None], (24 * factor, 1), "wavelet")[0, 0, :, 0].numpy()
    np.testing.assert_allclose(hr.reshape(24, factor).mean(axis=1), lr, atol=1e-12)
    for level in range(factor.bit_length() - 1):
        size = len(hr) // 2
        bands = pywt.dwt(hr, "rbio1.5", mode="constant")
        more = (len(bands[0]) - size) // 2  # coefficients beyond the border
        hr, details = (band[more : more + size] for band in bands)
        assert np.abs(details[8:-8]).max() < 1e-12, f"level {level}"
    np.testing.assert_allclose(hr[8:-8], lr[8:-8] * factor**0.5, atol=1e-12)


def test_wavelet_is_sharper_than_linear_and_differs_from_cubic(rng):
    lr = torch.from_numpy(rng.random((1, 1, 30, 30)))
    linear, cubic, wavelet = (interpolate(lr, (60, 60), method) for method in ("linear", "cubic", "wavelet"))
    assert wavelet.std() > linear.std() and (wavelet - cubic).abs().max() > 1e-2


def test_wavelet_without_its_extra_says_so(monkeypatch):
    def absent(name: str):
        raise ModuleNotFoundError(f"No module named '{name}'", name=name)

    monkeypatch.setattr(optional, "import_module", absent)
    with pytest.raises(InputError, match=r"pywt is not installed: pip install 'medsr-monai\[evaluate\]'"):
        interpolate(torch.rand(1, 1, 5, 5), (13, 11), "wavelet")  # sizes that no test before it has used


def test_same_shape_is_the_identity_and_a_copy():
    image = torch.rand(2, 3, 5, 6, 7)
    result = cubic_bspline(image, (5, 6, 7))
    assert torch.equal(result, image)
    assert result.data_ptr() != image.data_ptr()


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [(torch.float64, 1e-13), (torch.float32, 1e-5), (torch.float16, 2e-3), (torch.bfloat16, 2e-2)],
)
def test_keeps_the_type_and_every_image_of_a_batch(dtype, tolerance, rng):
    images = torch.from_numpy(rng.random((2, 3, 6, 7, 8))).to(dtype)
    result = cubic_bspline(images, (9, 14, 11))
    assert result.dtype == dtype
    alone = cubic_bspline(images[1:, 2:].double(), (9, 14, 11))
    torch.testing.assert_close(result[1:, 2:].double(), alone, atol=tolerance, rtol=0)


def test_mirroring_the_input_mirrors_the_output(rng):
    image = torch.from_numpy(rng.random((1, 1, 9, 8)))
    torch.testing.assert_close(cubic_bspline(image.flip(2), (20, 8)), cubic_bspline(image, (20, 8)).flip(2))


@pytest.mark.parametrize(
    ("image", "shape", "words"),
    [
        (torch.rand(1, 1, 4, 4), (4, 4, 4), "3 sizes, but the image has 2"),
        (torch.rand(1, 1, 4, 4), (8, 0), "axis 1: 0 voxels"),
        (torch.rand(4, 4, 4), (8, 8), "need \\(B, C\\)"),
        (torch.ones(1, 1, 4, 4, dtype=torch.int16), (8, 8), "int16"),
        (torch.tensor([[[[1.0, float("nan")]]]]), (2, 4), "NaN"),
    ],
)
def test_refuses(image, shape, words):
    with pytest.raises(InputError, match=words):
        cubic_bspline(image, shape)
