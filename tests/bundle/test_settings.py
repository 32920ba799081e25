"""Settings that cannot serve are refused by name, before anything is computed."""

from __future__ import annotations

import numpy as np
import pytest

from medsr_monai.bundle.settings import (
    SETTINGS,
    check_judged_patch,
    check_output_file,
    check_patch,
    check_settings,
    check_uncertainty,
    check_validation_volumes,
)
from medsr_monai.geometry import Grid
from medsr_monai.networks import VGGDiscriminator
from medsr_monai.system.errors import InputError
from medsr_monai.volumes import write_volume

# The least that makes sense of each whole number.
WHOLE_NUMBERS = {
    **dict.fromkeys(("decay", "denoise_steps", "num_workers", "pictures", "seed", "warmup"), 0),
    **dict.fromkeys(("batch_size", "discriminator_steps", "ensemble", "epoch_length", "margin_size", "max_epochs"), 1),
    **dict.fromkeys(("patch_size", "resamples", "slab", "val_interval", "workers"), 1),
}
POSITIVE_NUMBERS = ("discriminator_learning_rate", "learning_rate", "memory_gb")
SHARES = ("affine_prob", "intensity_prob", "perception")
SWITCHES = ("progress", "resume", "uncertainty")
OPTIONAL = {"autocast", "memory_gb", "slab", "workers"}
GOOD = {
    **WHOLE_NUMBERS,
    **dict.fromkeys(POSITIVE_NUMBERS, 1e-4),
    **dict.fromkeys(SHARES, 0.5),
    **dict.fromkeys(SWITCHES, True),
    **dict.fromkeys(OPTIONAL),
    "device": "cpu",
    "output_dtype": "same",
    "output_suffix": ".mha",
    "output_postfix": "",
    "stream": "auto",
    "axes": "slice",
    "profile": ["box", "kspace", "gaussian"],
}


def test_good_settings_pass():
    assert GOOD.keys() == SETTINGS.keys()
    check_settings(**GOOD)
    check_settings(output_postfix=4, profile="box", seed=12345, workers=2)
    check_settings(memory_gb=1.5, slab=3, autocast="bfloat16", stream="never")


@pytest.mark.parametrize("name", WHOLE_NUMBERS)
def test_whole_numbers(name):
    for bad in (WHOLE_NUMBERS[name] - 1, "foo", 1.5, True, [2], *([] if name in OPTIONAL else [None])):
        with pytest.raises(InputError, match=f"{name} '.*': must be a whole number, {WHOLE_NUMBERS[name]} or more"):
            check_settings(**{name: bad})


@pytest.mark.parametrize("name", POSITIVE_NUMBERS)
def test_positive_numbers(name):
    for bad in (0, -1e-4, "fast", float("nan"), float("inf"), True, *([] if name in OPTIONAL else [None])):
        with pytest.raises(InputError, match=f"{name} '.*': must be a number above 0"):
            check_settings(**{name: bad})


@pytest.mark.parametrize("name", SHARES)
def test_shares(name):
    for good in (0, 1, 0.0, 0.3, 1.0):
        check_settings(**{name: good})
    for bad in (-0.1, 1.5, "x", "0.5", True, float("nan"), None):
        with pytest.raises(InputError, match=f"{name} '.*': must be a number from 0 to 1"):
            check_settings(**{name: bad})


@pytest.mark.parametrize("name", SWITCHES)
def test_switches(name):
    for bad in ("no", "False", 0, None):
        with pytest.raises(InputError, match=f"{name} '.*': must be True or False"):
            check_settings(**{name: bad})


@pytest.mark.parametrize(
    ("name", "bad"),
    [
        ("output_dtype", "foo"),
        ("output_suffix", ".txt"),
        ("output_suffix", ".mhd"),
        ("output_postfix", "../.."),
        ("output_postfix", "a/b"),
        ("output_postfix", None),
        ("profile", "foo"),
        ("profile", ["box", "foo", "box"]),
        ("profile", None),
        ("stream", "sometimes"),
        ("axes", "x"),
        ("autocast", "int8"),
        ("device", "abacus"),
    ],
)
def test_choices(name, bad):
    with pytest.raises(InputError, match=f"^{name} '") as caught:
        check_settings(**{**GOOD, name: bad})
    assert "\n" not in str(caught.value)


def test_a_name_that_no_check_knows_is_a_bug_and_not_ignored():
    with pytest.raises(KeyError, match="batch_sise"):
        check_settings(batch_sise=1)


def test_a_deviation_needs_an_ensemble():
    check_uncertainty(True, 2, ".nii")
    check_uncertainty(False, 1, ".nii")
    with pytest.raises(InputError, match="uncertainty: needs an ensemble"):
        check_uncertainty(True, 1, ".nii")
    with pytest.raises(InputError, match="a DICOM series holds the image alone"):
        check_uncertainty(True, 2, ".dcm")


def test_one_output_file_needs_a_known_suffix_unless_it_is_the_folder_of_a_series():
    for good in (None, "a/b.nrrd", "x.ome.zarr", "B.NII.GZ"):
        check_output_file(good, ".nii.gz")
    check_output_file("folder", ".dcm")
    with pytest.raises(InputError, match=r"output_file 'x.txt': must end in one of .nii"):
        check_output_file("x.txt", ".nii.gz")


def test_a_patch_fits_its_margin_and_the_scale():
    check_patch(12, 12, (2, 3, 1))
    with pytest.raises(InputError, match="patch_size 14: must not exceed margin_size, which is 12"):
        check_patch(14, 12, (2, 2, 2))
    with pytest.raises(InputError, match="patch_size 9: must be a multiple of the scale, 2 along axis 1"):
        check_patch(9, 12, (3, 2, 1))


def test_a_patch_is_large_enough_for_the_discriminator():
    judge = VGGDiscriminator(3, features=2, stages=2)
    check_judged_patch(judge.min_size, judge)
    check_judged_patch(1, object())
    with pytest.raises(InputError, match=f"patch_size {judge.min_size - 1}: VGGDiscriminator needs at least 8"):
        check_judged_patch(judge.min_size - 1, judge)


def test_validation_volumes_hold_the_window_of_ssim(tmp_path):
    for name, shape in (("good", (12, 13, 14)), ("small", (12, 11, 14)), ("one", (12, 12, 9))):
        data = np.random.default_rng(0).random(shape, dtype=np.float32)
        write_volume(tmp_path / f"{name}.nii", data, Grid(shape, np.eye(4)))
    good, small, one = (tmp_path / f"{name}.nii" for name in ("good", "small", "one"))
    check_validation_volumes([good], (2, 2, 2))
    check_validation_volumes([good, str(small)], (2, 1, 2))
    check_validation_volumes([one], (2, 2), "image")  # slices of 12 by 12; their third axis does not count
    with pytest.raises(InputError, match=r"one\.nii: axis 0 has 9 voxels"):
        check_validation_volumes([one], (4, 1, 1), "slice")
    with pytest.raises(InputError, match=r"small\.nii: axis 1 has 11 voxels, but validation \(SSIM\) needs 11"):
        check_validation_volumes([good, small], (2, 2, 2))
    with pytest.raises(InputError, match=r"one\.nii: axis 2 has 9 voxels"):
        check_validation_volumes([one], (1, 1, 1))
    with pytest.raises(InputError, match="no such file"):
        check_validation_volumes([tmp_path / "none.nii"], (1, 1, 1))
