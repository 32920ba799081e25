"""The bundle as a function gives what the command writes, for every kind of image, and leaves the program as it was."""

from __future__ import annotations

import doctest
import random
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.utils import get_seed

import medsr_monai
from medsr_monai.bundle import upscaling
from medsr_monai.bundle.workflows import bundle_root, run_inference
from medsr_monai.geometry import Grid
from medsr_monai.system.errors import InputError
from medsr_monai.volumes import read_volume, volume_of, write_volume

BUNDLE = "brain_mri_super_resolution"
AFFINE = np.diag([1.0, -1.1, 0.9, 1.0])
SHAPE = (6, 7, 5)


@pytest.fixture
def voxels(rng) -> np.ndarray:
    return rng.random(SHAPE, dtype=np.float32)


@pytest.fixture
def file(voxels, tmp_path) -> Path:
    write_volume(tmp_path / "scan.nii", voxels, Grid(SHAPE, AFFINE))
    return tmp_path / "scan.nii"


@pytest.mark.usefixtures("workflow_leaves_no_trace")
def test_every_kind_of_image_gives_what_the_command_writes(file, voxels, tmp_path):
    written = tmp_path / "commanded.nii"
    paths = {"input": str(file), "output_dir": str(tmp_path), "output_file": str(written)}
    run_inference(bundle_root(BUNDLE), **paths, device="cpu", profile="gaussian", progress=False)
    expected = read_volume(written)
    images: dict[str, dict[str, Any]] = {
        "path": {"image": str(file)},
        "volume": {"image": volume_of(voxels, AFFINE)},
        "nibabel": {"image": nib.load(file)},
        "metatensor": {"image": MetaTensor(torch.from_numpy(voxels)[None], affine=AFFINE)},
        "array": {"image": voxels, "affine": AFFINE},
    }
    for name, given in images.items():
        made = medsr_monai.upscale(**given, device="cpu", profile="gaussian")
        np.testing.assert_array_equal(made.data, expected.data, err_msg=name)
        np.testing.assert_allclose(made.grid.affine, expected.grid.affine, atol=1e-6)
    target = medsr_monai.upscale(voxels, tmp_path / "named.nii", affine=AFFINE, device="cpu", profile="gaussian")
    assert target == tmp_path / "named.nii"
    np.testing.assert_array_equal(read_volume(target).data, expected.data)


def test_the_deviation_is_written_beside_the_output(file, tmp_path):
    out = tmp_path / "sr.nii"
    medsr_monai.upscale(file, out, uncertainty=True, ensemble=2, device="cpu")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["scan.nii", "sr.nii", "sr_std.nii"]


def test_the_generators_of_the_program_are_left_alone(voxels):
    random.seed(1), np.random.seed(1), torch.manual_seed(1)  # noqa: NPY002  what a user's program may do
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # noqa: NPY002
    seed = get_seed()
    medsr_monai.upscale(voxels, affine=AFFINE, device="cpu")
    assert states == (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())  # noqa: NPY002
    assert get_seed() == seed


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"bundle": "nobody"}, "bundle 'nobody': not found"),
        ({"perceptoin": 1}, "perceptoin: nothing in the configuration reads it; 'perception' is meant"),
        ({"ensemble": 0}, "ensemble '0': must be a whole number"),
        ({"consistency": "maybe"}, "consistency 'maybe'"),
        ({"output_dir": "x"}, "output_dir: upscale"),
        ({"uncertainty": True, "ensemble": 2}, "uncertainty: name an output"),
        ({"output": "scan.txt"}, "scan.txt"),
        ({"affine": AFFINE}, "affine: "),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_cannot_serve_is_refused(file, settings, said):
    with pytest.raises(InputError, match=said) as caught:
        medsr_monai.upscale(file, **{"device": "cpu", **settings})
    assert "\n" not in str(caught.value)


def test_a_folder_of_many_is_refused(file):
    write_volume(file.with_name("other.nii"), read_volume(file).data, Grid(SHAPE, AFFINE))
    with pytest.raises(InputError, match="2 volumes; upscale"):
        medsr_monai.upscale(file.parent)


def test_the_example_runs():
    assert doctest.testmod(upscaling) == (0, 6)
