"""Every voxel of a result lies where it belongs in the patient, and every patch where it should be in the image."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data import MetaTensor
from scipy.spatial.transform import Rotation

from medsr_monai.geometry import Grid
from medsr_monai.system.errors import InputError
from medsr_monai.transforms import (
    CropToMultipled,
    ForegroundIndexd,
    MiddleSliced,
    RandAxisPermuted,
    RandForegroundCropd,
    ReorientToNetworkd,
    RequireSized,
)

SHAPE = (3, 4, 5)
SPACING_MM = (0.9, 1.1, 2.5)


def labelled(shape: tuple[int, ...], channels: int = 1) -> torch.Tensor:
    """Every voxel another number, (channels, *shape)."""
    return torch.arange(channels * math.prod(shape), dtype=torch.float32).reshape(channels, *shape)


def as_loaded(affine: np.ndarray, shape: tuple[int, ...] = SHAPE, channels: int = 1) -> MetaTensor:
    """What LoadVolumed makes of a file with this affine."""
    affine = torch.tensor(affine)
    meta = {"original_affine": affine.clone(), "filename_or_obj": "scan.nii.gz"}
    return MetaTensor(labelled(shape, channels), affine=affine, meta=meta)


def oblique_affine(codes: str, degrees: float = 11.0) -> np.ndarray:
    """An affine whose closest orientation is the given one, turned a little about a skew axis."""
    affine = np.eye(4)
    for axis, code in enumerate(codes):
        world = next(w for w, label in enumerate(("LR", "PA", "IS")) if code in label)
        affine[:3, axis] = 0
        affine[world, axis] = SPACING_MM[axis] * (1 if code in "RAS" else -1)
    affine[:3, :3] = (
        Rotation.from_rotvec(np.deg2rad(degrees) * np.array([2, -1, 3]) / 14**0.5).as_matrix() @ affine[:3, :3]
    )
    affine[:3, 3] = (-17.0, 23.5, 4.0)
    return affine


def check_place_of_every_voxel(sr: MetaTensor, source: MetaTensor) -> None:
    """Every voxel of ``sr`` has the value of the voxel of ``source`` in which its centre lies, in world coordinates."""
    indices = np.stack(np.meshgrid(*map(np.arange, sr.shape[1:]), indexing="ij"), axis=-1).reshape(-1, 3)
    world = indices @ sr.affine.numpy()[:3, :3].T + sr.affine.numpy()[:3, 3]
    inverse = np.linalg.inv(source.affine.numpy())
    nearest = np.rint(world @ inverse[:3, :3].T + inverse[:3, 3]).astype(int)
    assert (nearest >= 0).all() and (nearest < source.shape[1:]).all()
    expected = source.numpy()[(slice(None), *nearest.T)]
    assert np.array_equal(sr.numpy().reshape(len(expected), -1), expected)


@pytest.mark.parametrize("codes", ["RAS", "LPS", "SAR", "PIR"])
def test_canonical_image_is_closest_to_ras(codes):
    image = as_loaded(oblique_affine(codes))
    canonical = ReorientToNetworkd("image")({"image": image})["image"]
    assert Grid(tuple(canonical.shape[1:]), canonical.affine.numpy()).axcodes == ("R", "A", "S")
    assert canonical.meta["filename_or_obj"] == "scan.nii.gz"
    np.testing.assert_array_equal(canonical.meta["original_affine"], image.affine)
    check_place_of_every_voxel(canonical, image)


@pytest.mark.parametrize("codes", ["RAS", "LPS", "SAR", "PIR", "ASL"])
@pytest.mark.parametrize(
    "axes, scale, thick", [("image", (1, 1, 4), 2), ("slice", (1, 1, 4), 2), ("slice", (4, 1, 1), 0)]
)
def test_the_slices_of_any_stack_lie_along_the_network_s_odd_axis(codes, axes, scale, thick):
    image = as_loaded(oblique_affine(codes))  # 2.5 mm along its third axis
    turned = ReorientToNetworkd("image", scale, axes)({"image": image})["image"]
    assert Grid(tuple(turned.shape[1:]), turned.affine.numpy()).spacing_mm[thick] == pytest.approx(2.5)
    check_place_of_every_voxel(turned, image)


# ---- cropping to a multiple


@settings(derandomize=True, deadline=None, max_examples=40)
@given(
    shape=st.tuples(*[st.integers(4, 11)] * 3),
    scale=st.tuples(*[st.integers(1, 4)] * 3),
)
def test_crop_is_the_largest_multiple_and_voxels_stay(shape, scale):
    image = as_loaded(oblique_affine("LPS"), shape, channels=2)
    cropped = CropToMultipled("image", scale)({"image": image})["image"]
    assert all(n % s == 0 and 0 <= m - n < s for n, m, s in zip(cropped.shape[1:], shape, scale, strict=True))
    assert torch.equal(cropped.affine, image.affine)
    check_place_of_every_voxel(cropped, image)


def test_crop_of_too_few_voxels_is_refused():
    with pytest.raises(InputError, match=r"image: \(3, 4, 5\) voxels are too few"):
        CropToMultipled("image", (2, 2, 6))({"image": as_loaded(np.eye(4))})


# ---- patches around foreground


def foreground_crop(image: torch.Tensor, size: tuple[int, ...], seed: int, threshold: float) -> torch.Tensor:
    data = ForegroundIndexd("hr", threshold)({"hr": image})
    return RandForegroundCropd("hr", size).set_random_state(seed)(data)["hr"]


@settings(derandomize=True, deadline=None, max_examples=80)
@given(
    shape=st.tuples(*[st.integers(4, 9)] * 3),
    size=st.tuples(*[st.integers(1, 4)] * 3),
    seed=st.integers(0, 2**31),
)
def test_patch_lies_inside_the_image_around_foreground(shape, size, seed):
    labels = labelled(shape)
    foreground = tuple(int(n) for n in np.random.default_rng(seed).integers(0, shape))
    weights = torch.zeros(1, *shape)
    weights[(0, *foreground)] = 1
    patch = foreground_crop(torch.cat([weights, labels]), size, seed, 0.5)
    assert patch.shape == (2, *size)
    assert float(patch[0].sum()) == 1, "the patch must hold the only foreground voxel"
    start = np.unravel_index(int(patch[1].min()), shape)
    window = tuple(slice(a, a + n) for a, n in zip(start, size, strict=True))
    assert torch.equal(patch[1], labels[0][window])
    for axis, (a, n, side, voxel) in enumerate(zip(start, shape, size, foreground, strict=True)):
        assert a == min(max(0, voxel - side // 2), n - side), f"axis {axis}: centred as far as the image allows"


def test_every_foreground_voxel_gets_its_turn():
    image = torch.zeros(1, 6, 6, 6)
    image[0, 1, 2, 3] = image[0, 4, 4, 4] = image[0, 2, 5, 1] = 1
    data = ForegroundIndexd("hr", 0.5)({"hr": image * labelled((6, 6, 6))})
    crop = RandForegroundCropd("hr", (1, 1, 1)).set_random_state(0)
    seen = {float(crop(dict(data))["hr"]) for _ in range(60)}
    assert seen == {float(labelled((6, 6, 6))[0][at]) for at in ((1, 2, 3), (4, 4, 4), (2, 5, 1))}


def test_patch_is_replayed_and_is_a_copy():
    image = labelled((6, 7, 8))
    first, again = (foreground_crop(image, (3, 3, 3), 5, 10) for _ in range(2))
    assert torch.equal(first, again)
    first += 1e6
    assert torch.equal(image, labelled((6, 7, 8))), "the cached image must not change"


def test_patch_larger_than_the_image_is_refused():
    with pytest.raises(InputError, match="hr: axis 1 has 4 voxels, but a patch needs 5"):
        foreground_crop(labelled(SHAPE), (3, 5, 5), 0, 0.5)


def test_image_without_foreground_is_refused():
    with pytest.raises(InputError, match="hr: nothing is brighter"):
        ForegroundIndexd("hr")({"hr": torch.zeros(1, *SHAPE)})


# ---- permuted axes


def test_all_permutations_are_drawn_and_are_permutations():
    image = labelled((4, 4, 4))
    permuted = RandAxisPermuted("hr").set_random_state(0)
    seen = {tuple(permuted({"hr": image})["hr"].flatten().tolist()) for _ in range(80)}
    expected = {tuple(image.permute(0, *order).flatten().tolist()) for order in itertools.permutations((1, 2, 3))}
    assert seen == expected


@pytest.mark.parametrize(
    ("scale", "orders"),
    [((1, 1, 4), {(0, 1, 2), (1, 0, 2)}), ((2, 1, 2), {(0, 1, 2), (2, 1, 0)}), ((1, 2, 3), {(0, 1, 2)})],
)
def test_only_axes_of_one_scale_are_exchanged(scale, orders):
    image = labelled((4, 4, 4))
    permuted = RandAxisPermuted("hr", scale=scale).set_random_state(0)
    seen = {tuple(permuted({"hr": image})["hr"].flatten().tolist()) for _ in range(40)}
    assert seen == {tuple(image[0].permute(order).flatten().tolist()) for order in orders}


def test_all_keys_are_permuted_alike_and_replayed():
    image = labelled((3, 3, 3), 2)
    for seed in range(8):
        one = RandAxisPermuted(["a", "b"]).set_random_state(seed)({"a": image, "b": image + 1})
        two = RandAxisPermuted(["a", "b"]).set_random_state(seed)({"a": image, "b": image + 1})
        assert torch.equal(one["a"] + 1, one["b"]) and torch.equal(one["a"], two["a"])


def test_probability_of_permuting():
    image = labelled((3, 3, 3))
    never = RandAxisPermuted("hr", prob=0.0).set_random_state(0)
    assert all(torch.equal(never({"hr": image})["hr"], image) for _ in range(20))


@pytest.mark.parametrize("shape, axis", [((7, 9, 9), 0), ((9, 7, 9), 1), ((8, 8, 1), 2)])
def test_an_image_smaller_than_a_patch_is_named(shape, axis):
    image = MetaTensor(torch.zeros(1, *shape), meta={"filename_or_obj": "folder/sub-07_T1w.nii.gz"})
    with pytest.raises(InputError, match=rf"sub-07_T1w\.nii\.gz: axis {axis} has {shape[axis]} voxels .* patch has 8"):
        RequireSized("hr", 8)({"hr": image})


@pytest.mark.parametrize("depth", [1, 4, 5])
def test_the_middle_slice_keeps_its_place(depth):
    affine = torch.tensor([[0, -2.0, 0, 5], [1, 0, 0, -3], [0, 0, 4, 7], [0, 0, 0, 1]], dtype=torch.float64)
    image = MetaTensor(labelled((4, 3, depth), 2), affine=affine, meta={"filename_or_obj": "a.nii"})
    middle = MiddleSliced("hr")({"hr": image})["hr"]
    assert torch.equal(middle.as_tensor(), image[..., depth // 2].as_tensor()) and middle.shape == (2, 4, 3)
    first, wanted = (
        m @ torch.tensor([0, 0, z, 1.0], dtype=torch.float64) for m, z in ((middle.affine, 0), (affine, depth // 2))
    )
    torch.testing.assert_close(first, wanted)
    torch.testing.assert_close(middle.affine[:, :3], affine[:, :3])
    assert middle.meta["filename_or_obj"] == "a.nii"


def test_a_patch_of_one_slice_asks_for_no_more_than_one():
    image = MetaTensor(torch.zeros(1, 8, 8, 1))
    RequireSized("hr", (8, 8, 1))({"hr": image})
    with pytest.raises(InputError, match=r"axis 1 has 8 voxels .* patch has 9"):
        RequireSized("hr", (8, 9, 1))({"hr": image})


@pytest.mark.parametrize("shape", [(8, 8, 8), (30, 8, 9)])
def test_an_image_that_holds_a_patch_passes(shape):
    data = {"hr": MetaTensor(torch.zeros(1, *shape)), "case": "x"}
    result = RequireSized("hr", 8)(data)
    assert list(result) == ["hr", "case"] and result["hr"] is data["hr"]
