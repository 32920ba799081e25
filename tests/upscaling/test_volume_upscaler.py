"""Volumes are upscaled one by one; one bad scan does not hold up the rest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import Dataset

from medsr_monai.geometry import Grid
from medsr_monai.networks import RRDBNet
from medsr_monai.system.errors import InputError
from medsr_monai.upscaling import (
    ConsistentInferer,
    OutputNames,
    StreamingInferer,
    UpscalingSettings,
    VolumeUpscaler,
)
from medsr_monai.volumes import read_volume, write_volume
from tests.training.samples import network


def write_scans(folder: Path, names: list[str], rng: np.random.Generator) -> list[str]:
    files = []
    for name in names:
        path = folder / f"{name}.nii.gz"
        write_volume(path, rng.random((5, 6, 4)).astype(np.float32), Grid((5, 6, 4), np.diag([1.0, 2.0, 3.0, 1.0])))
        files.append(str(path))
    return files


def upscaler_of(files: list[str], output_dir: Path, **kwargs: Any) -> VolumeUpscaler:
    given = {"network": network(), "inferer": ConsistentInferer(), "progress": False, **kwargs}
    return VolumeUpscaler(dataset=Dataset([{"image": f} for f in files]), outputs=OutputNames(output_dir), **given)


def test_volumes_are_upscaled_one_by_one(tmp_path, rng):
    files = write_scans(tmp_path, ["a", "b"], rng)
    upscaler_of(files, tmp_path / "out").run()
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["a_sr.nii.gz", "b_sr.nii.gz"]
    for name in ("a", "b"):
        lr, sr = read_volume(tmp_path / f"{name}.nii.gz"), read_volume(tmp_path / "out" / f"{name}_sr.nii.gz")
        assert sr.shape == (10, 12, 8)
        again = sr.data.reshape(5, 2, 6, 2, 4, 2).mean(axis=(1, 3, 5))
        np.testing.assert_allclose(again, lr.data, atol=1e-5)


@pytest.mark.parametrize("position", [0, 1, 2])
def test_one_bad_file_does_not_hold_up_the_others(position, tmp_path, rng, capsys):
    names = ["one", "two", "three"]
    files = write_scans(tmp_path, names, rng)
    bad = tmp_path / f"{names[position]}.nii.gz"
    bad.write_bytes(b"no volume")
    with pytest.raises(InputError) as caught:
        upscaler_of(files, tmp_path / "out").run()
    assert str(bad) in str(caught.value) and "\n" not in str(caught.value)
    good = [name for name in names if name != names[position]]
    assert not any(name in str(caught.value).replace(str(tmp_path), "") for name in good)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == sorted(f"{name}_sr.nii.gz" for name in good)
    assert "Traceback" not in "".join(capsys.readouterr())


def test_every_bad_file_is_named(tmp_path, rng):
    files = [*write_scans(tmp_path, ["good"], rng), str(tmp_path / "missing.nii"), str(tmp_path / "gone.nii.gz")]
    with pytest.raises(InputError, match=r"missing\.nii: no such file; .*gone\.nii\.gz: no such file"):
        upscaler_of(files, tmp_path / "out").run()


def test_result_that_cannot_be_written_is_bad_input(tmp_path, rng):
    files = write_scans(tmp_path, ["a"], rng)
    (tmp_path / "out").write_text("a file where the folder should be")
    with pytest.raises(InputError, match="out"):
        upscaler_of(files, tmp_path / "out").run()


def test_a_bug_is_not_taken_for_bad_input(tmp_path, rng):
    class Broken(RRDBNet):
        def forward(self, image):
            raise ZeroDivisionError("a bug")

    files = write_scans(tmp_path, ["a", "b"], rng)
    with pytest.raises(ZeroDivisionError, match="a bug"):
        upscaler_of(files, tmp_path / "out", network=Broken(3, features=4, growth=4, dense_blocks=1)).run()


def test_a_volume_that_fails_while_it_is_written_does_not_hold_up_the_next(tmp_path, rng):
    files = write_scans(tmp_path, ["a", "b", "c"], rng)
    (tmp_path / "out" / "a_sr.nii.gz").mkdir(parents=True)
    with pytest.raises(InputError, match="a_sr"):
        upscaler_of(files, tmp_path / "out").run()
    written = sorted(p.name for p in (tmp_path / "out").iterdir() if p.is_file())
    assert written == ["b_sr.nii.gz", "c_sr.nii.gz"]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (UpscalingSettings(stream="always"), "InstanceNorm3d at 1"),
        (UpscalingSettings(stream="never"), "consistency 'exact'"),
    ],
)
def test_what_is_wrong_with_the_network_is_said_once(settings, said, tmp_path, rng):
    exact = settings.stream == "never"
    normed = torch.nn.Sequential(torch.nn.Conv3d(1, 1, 1), torch.nn.InstanceNorm3d(1))
    inferer = ConsistentInferer(StreamingInferer(), regularisation=0.0 if exact else None)
    files = write_scans(tmp_path, ["a", "b"], rng)
    with pytest.raises(InputError) as caught:
        upscaler_of(files, tmp_path / "out", network=normed, inferer=inferer, settings=settings).run()
    assert str(caught.value).count(said) == 1
