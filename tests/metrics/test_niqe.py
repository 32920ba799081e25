"""NIQE: fits that recover what was drawn, piq's fits, and figures that grow with blur and noise."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pytest
import torch
from golden_piq import FILE, samples
from scipy import ndimage, stats

from medsr_monai.bundle.commands import cli
from medsr_monai.metrics import NIQEModel
from medsr_monai.metrics.generalised_gaussian import fit_aggd, fit_ggd
from medsr_monai.metrics.niqe import _slices as slices_of
from medsr_monai.metrics.scene_statistics import normalised, patch_features, scene_statistics
from medsr_monai.system.errors import InputError

GOLDEN = json.loads(FILE.read_text())
PATCH = 16


def scan(rng: np.random.Generator, *shape: int) -> torch.Tensor:
    """(1, 1, *shape) with edges and texture of several sizes, 0 to about 900."""
    image = sum(s * ndimage.gaussian_filter(rng.standard_normal(shape), s) for s in (0.7, 1.5, 3.0))
    image = image / image.std() + 2.0 * (ndimage.gaussian_filter(rng.standard_normal(shape), 4) > 0)
    return torch.from_numpy(np.clip(400 + 100 * image, 1, None)).float()[None, None]


@pytest.fixture(scope="module")
def model() -> NIQEModel:
    rng = np.random.default_rng(5)
    return NIQEModel.fit((scan(rng, 48, 48, 48) for _ in range(2)), PATCH, slices_per_axis=12)


def test_fits_recover_what_was_drawn(rng):
    for shape in (0.6, 1.0, 2.0, 3.5):
        values = stats.gennorm.rvs(shape, scale=2.0, size=(3, 60_000), random_state=rng)
        found, deviation = fit_ggd(torch.from_numpy(values))
        assert found.tolist() == pytest.approx([shape] * 3, rel=0.04)
        assert deviation.tolist() == pytest.approx([stats.gennorm.std(shape, scale=2.0)] * 3, rel=0.03)
        left_scale, right_scale = 1.0, 2.5
        is_left = rng.random(values.shape) < left_scale / (left_scale + right_scale)
        skewed = np.abs(values) / 2 * np.where(is_left, -left_scale, right_scale)
        found, left, right = fit_aggd(torch.from_numpy(skewed))
        assert found.tolist() == pytest.approx([shape] * 3, rel=0.04)
        unit = stats.gennorm.std(shape)
        assert left.tolist() == pytest.approx([left_scale * unit] * 3, rel=0.05)
        assert right.tolist() == pytest.approx([right_scale * unit] * 3, rel=0.05)


def test_fits_agree_with_piq():
    """Its table has steps of 0.001."""
    for kind, fit in (("ggd", fit_ggd), ("aggd", fit_aggd)):
        found = torch.stack(fit(samples(kind).flatten(1)), dim=1).numpy()
        np.testing.assert_allclose(found[:, 0], np.array(GOLDEN[kind])[:, 0], atol=2e-3)
        np.testing.assert_allclose(found[:, 1:], np.array(GOLDEN[kind])[:, 1:], rtol=1e-10)


def test_features_are_those_of_one_patch_by_hand(rng):
    patch = rng.standard_normal((10, 10))
    found = patch_features(torch.from_numpy(patch)[None])[0].numpy()
    pairs = [
        patch[:, :-1] * patch[:, 1:],
        patch[:-1] * patch[1:],
        patch[:-1, :-1] * patch[1:, 1:],
        patch[:-1, 1:] * patch[1:, :-1],
    ]
    assert found[1] == pytest.approx(np.sqrt((patch**2).mean()))
    for number, pair in enumerate(pairs):
        assert found[4 + 4 * number] == pytest.approx(np.sqrt((pair[pair < 0] ** 2).mean()))
        assert found[5 + 4 * number] == pytest.approx(np.sqrt((pair[pair > 0] ** 2).mean()))
    wide = np.abs(rng.standard_normal((1, 64, 64))) + 3  # all products positive
    assert not np.isfinite(patch_features(torch.from_numpy(wide)).numpy()).all()


def test_normalised_as_scipy_does(rng):
    image = 255 * rng.random((20, 23))
    window = {"sigma": 7 / 6, "radius": 3, "mode": "nearest"}
    mean = ndimage.gaussian_filter(image, **window)
    deviation = np.sqrt(ndimage.gaussian_filter(image**2, **window) - mean**2)
    found = normalised(torch.from_numpy(image)[None, None])
    np.testing.assert_allclose(found[1][0, 0], deviation, atol=1e-9)
    np.testing.assert_allclose(found[0][0, 0], (image - mean) / (deviation + 1), atol=1e-10)


def test_only_kept_and_sharp_patches_count(rng):
    slices = torch.from_numpy(255 * rng.random((2, 1, 48, 48)))
    slices[:, :, :16] = 100 + (slices[:, :, :16] - 100) * 0.1
    kept = torch.ones(2, 3, 3, dtype=torch.bool)
    kept[1, 2] = False
    assert scene_statistics(slices, kept, 16).shape == (15, 36)
    assert len(scene_statistics(slices, kept, 16, sharpness=0.75)) == 9


def test_grows_with_blur_and_noise(model, rng):
    hr = scan(rng, 48, 48, 48)
    noise = torch.from_numpy(rng.standard_normal(hr.shape)).float()
    blur = [torch.from_numpy(ndimage.gaussian_filter(hr.numpy(), (0, 0, s, s, s))) for s in (0.5, 0.8, 1.2)]
    by_blur = [model.score(image).item() for image in (hr, *blur)]
    by_noise = [model.score((hr + s * noise).clamp(min=1)).item() for s in (0, 20, 50, 120)]
    assert by_blur == sorted(by_blur) and by_blur[3] > 1.5 * by_blur[0]
    assert by_noise == sorted(by_noise) and by_noise[3] > 1.5 * by_noise[0]


def test_unit_does_not_matter_and_images_are_judged_alone(model, rng):
    images = torch.cat([scan(rng, 40, 36, 34) for _ in range(2)])
    scores = model.score(images)
    assert scores.shape == (2,) and scores[0] != scores[1]
    np.testing.assert_allclose(model.score(0.001 * images[1:]), scores[1:], rtol=1e-3)


def test_slices_in_2d_and_thin_volumes(rng):
    flat = scan(rng, 64, 64)
    with pytest.warns(UserWarning, match="sharp patches for 36 features"):
        model = NIQEModel.fit([flat], PATCH)
    assert 2 <= model.n_patches <= 16
    assert model.score(flat).item() >= 0
    thin = scan(rng, 40, 40, 5)
    with pytest.warns(UserWarning, match="sharp patches for 36 features"):
        assert 5 <= NIQEModel.fit([thin], PATCH).n_patches <= 5 * 4


def test_a_volume_is_its_slices_along_three_axes(rng):
    volume = scan(rng, 24, 20, 18)
    found = [(image, inside) for image, inside in slices_of(volume, volume > 500, PATCH, 6)]
    for axis, (image, inside) in enumerate(found):
        positions = [int((n + 0.5) * volume.shape[axis + 2] / 6) for n in range(6)]
        assert image.shape == (6, 1, *[n for other, n in enumerate((24, 20, 18)) if other != axis])
        for number, position in enumerate(positions):
            assert torch.equal(image[number, 0], volume[0, 0].select(axis, position))
            assert torch.equal(inside[number, 0], volume[0, 0].select(axis, position) > 500)
    assert len(found) == 3


def test_saved_and_loaded(model, rng, tmp_path):
    model.save(tmp_path / "new" / "model.npz")
    image = scan(rng, 36, 36, 36)
    loaded = NIQEModel.load(tmp_path / "new" / "model.npz")
    assert torch.equal(loaded.score(image), model.score(image)) and loaded.n_patches == model.n_patches
    with pytest.raises(InputError, match="no such file"):
        NIQEModel.load(tmp_path / "none.npz")
    with pytest.raises(InputError, match=r"written as \.npz"):
        model.save(tmp_path / "model.pt")
    (tmp_path / "text.npz").write_text("nothing")
    np.savez(tmp_path / "objects.npz", format=np.array("medsr-niqe-1"), mean=np.array([{}], dtype=object))
    np.savez(tmp_path / "short.npz", format=np.array("medsr-niqe-1"), mean=np.zeros(3), covariance=np.eye(3))
    for name in ("text", "objects", "short"):
        with pytest.raises(InputError, match="not a NIQE model"):
            NIQEModel.load(tmp_path / f"{name}.npz")


def test_bad_input_is_one_line(model, rng):
    image = scan(rng, 36, 36, 36)
    for broken, words in (
        (torch.full_like(image, 3.0), "is flat"),
        (image * torch.nan, "NaN"),
        (image.expand(-1, 2, -1, -1, -1), "2 channels"),
        (image[..., :15, :15], "two axes of at least 16"),
    ):
        with pytest.raises(InputError, match=words):
            model.score(broken)
        with pytest.raises(InputError, match=words):
            NIQEModel.fit([broken], PATCH)
    with pytest.raises(InputError, match="0 sharp patches in 0 images"):
        NIQEModel.fit([])
    with pytest.raises(InputError, match="even number"):
        NIQEModel.fit([image], 17)
    with pytest.raises(InputError, match="1 foreground patches"):
        model.score(image[..., 0, :20, :20])


def test_fitted_from_the_command_line(rng, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "pristine"
    folder.mkdir()
    for number in range(2):
        nib.save(nib.Nifti1Image(scan(rng, 40, 38, 36)[0, 0].numpy(), np.eye(4)), folder / f"{number}.nii.gz")
    monkeypatch.setattr("sys.argv", ["medsr", "fit-niqe", str(folder), str(tmp_path / "m.npz"), "--patch", "16"])
    cli.main()
    assert "from 2 file(s)" in capsys.readouterr().out
    assert NIQEModel.load(tmp_path / "m.npz").patch == 16
    monkeypatch.setattr("sys.argv", ["medsr", "fit-niqe", str(folder), str(tmp_path / "m.npz"), "--patch", "17"])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 2
