"""Subjects stay in one set, and a patch is the same patch wherever and whenever it is drawn."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.transforms import Compose, MapTransform, RandFlipd, RandGaussianNoised, RandSpatialCropd
from torch.utils.data import DataLoader

from medsr_monai.system.errors import InputError
from medsr_monai.training.data import RandomPatchDataset, group_by_subject, split_by_subject, subject_of

# ---- subjects


@pytest.mark.parametrize(
    "path, subject",
    [
        ("sub-01_T1w.nii.gz", "sub-01"),
        ("study/sub-A7/ses-2/anat/sub-A7_ses-2_T1w.nii.gz", "sub-A7"),
        ("study/sub-03/anat/image.nii.gz", "sub-03"),
        ("IXI002_Guys_T1.nii.gz", "IXI002"),
        ("S2.nii.gz", "S2"),
        ("folder_a/case7_t2.mha", "case7"),
        ("sub-millimetre/sub-04/anat/sub-04_T1w.nii.gz", "sub-04"),
    ],
)
def test_subject_is_told_by_the_name(path, subject):
    assert subject_of(path) == subject


def test_files_are_grouped_by_subject_whatever_their_order():
    files = ["b/sub-02_T1w.nii", "a/sub-01_T2w.nii", "a/sub-01_T1w.nii"]
    groups = group_by_subject(files)
    assert groups == {"sub-01": ["a/sub-01_T1w.nii", "a/sub-01_T2w.nii"], "sub-02": ["b/sub-02_T1w.nii"]}
    assert list(group_by_subject(reversed(files)).items()) == list(groups.items())


def test_subjects_that_no_name_tells_are_given_by_hand():
    groups = group_by_subject(
        ["x/s2.nii", "x/s2-again.nii", "x/template.nii"], {"s2-again.nii": "s2", "template.nii": None}
    )
    assert groups == {"s2": ["x/s2-again.nii", "x/s2.nii"]}


@pytest.mark.parametrize("name", ["y/scan1.nii.gz", "scan1", "scan7.nii.gz"], ids=["folder", "no-ending", "no-file"])
def test_a_subject_for_no_file_is_an_error_that_shows_how_names_look(name):
    with pytest.raises(InputError, match=f"subjects: no training image is called '{name}'.*'scan1.nii.gz'"):
        group_by_subject(["x/scan1.nii.gz", "x/scan2.nii.gz"], {"scan2.nii.gz": "S2", name: "S1"})


def test_files_of_one_name_are_told_apart_by_their_folders():
    files = ["data/p1/T1.nii", "data/p2/T1.nii", "data/p3/T1.nii", "data/xp1/T1.nii"]
    groups = group_by_subject(files, {"p1/T1.nii": "one", "p2/T1.nii": "two", "T1.nii": "rest", "data/p3/T1.nii": None})
    assert groups == {"one": files[:1], "rest": files[3:], "two": files[1:2]}


def test_a_file_to_leave_out_need_not_be_there():
    assert group_by_subject(["x/scan1.nii.gz"], {"old.nii.gz": None}) == {"scan1": ["x/scan1.nii.gz"]}


@pytest.mark.parametrize("paths, subjects", [([], None), (["a.nii"], {"a.nii": None})], ids=["no-file", "none-left"])
def test_no_image_is_an_error_that_says_where_to_look(paths, subjects):
    with pytest.raises(InputError, match=f"no training image among {len(paths)} files.*dataset_dir"):
        group_by_subject(paths, subjects)


PER_FOLDER = ["d/p1/T1.nii", "d/p1/T2.nii", "d/p2/T1.nii", "d/p2/T2.nii"]


def test_files_of_one_name_in_several_folders_do_not_tell_their_subjects():
    """A folder per subject: the names alone would put T1 into one set, and T2 of the same people into another."""
    with pytest.raises(InputError, match=r"2 files are named T1\.nii, in different folders: .*'subjects'"):
        group_by_subject(PER_FOLDER)
    groups = group_by_subject(PER_FOLDER, {path: path.split("/")[1] for path in PER_FOLDER})
    assert groups == {"p1": PER_FOLDER[:2], "p2": PER_FOLDER[2:]}
    assert len(group_by_subject(["d/sub-01/T1.nii", "d/sub-02/T1.nii"])) == 2


@pytest.mark.parametrize("subjects", [["a.nii"], "a.nii", {"a.nii": 3}, {"b.nii": "b"}])
def test_subjects_of_no_file_or_of_another_form_are_refused(subjects):
    with pytest.raises(InputError, match=r"^subjects"):
        group_by_subject(["x/a.nii"], subjects)


@pytest.mark.parametrize("fractions", [0.5, "abc", ["a", 1, 1], [math.nan, 1, 1], [math.inf, 1, 1]])
def test_shares_that_are_no_numbers_are_refused(fractions):
    with pytest.raises(InputError, match=r"fractions .*need one share"):
        split_by_subject({"a": ["a"], "b": ["b"], "c": ["c"]}, fractions)


@pytest.mark.parametrize("fixed", [["a"], "a", {"train": "a"}, {"train": None, "val": ["a"]}])
def test_a_split_of_another_form_is_refused(fixed):
    with pytest.raises(InputError, match="must be a list of subjects"):
        split_by_subject({"a": ["a"], "b": ["b"]}, fixed=fixed)


# ---- the split


def cohort(subjects: int, images: int = 2) -> dict[str, list[str]]:
    return {f"sub-{i:03d}": [f"sub-{i:03d}_{j}.nii" for j in range(images)] for i in range(subjects)}


def subjects_of(files: list[str]) -> set[str]:
    return {subject_of(file) for file in files}


@settings(derandomize=True, deadline=None, max_examples=60)
@given(st.integers(3, 200), st.integers(1, 3), st.integers(0, 2**31))
def test_no_subject_is_in_two_sets_and_none_is_lost(subjects, images, seed):
    groups = cohort(subjects, images)
    split = split_by_subject(groups, seed=seed)
    assert list(split) == ["train", "val", "test"]
    files = [file for part in split.values() for file in part]
    assert sorted(files) == sorted(file for group in groups.values() for file in group)
    parts = [subjects_of(split[name]) for name in split]
    assert all(parts) and sum(map(len, parts)) == subjects and len(set.union(*parts)) == subjects
    assert len(parts[0]) >= max(map(len, parts))
    if subjects >= 7:
        assert [len(part) / subjects for part in parts] == pytest.approx([0.70, 0.15, 0.15], abs=1 / subjects)


@pytest.mark.parametrize("subjects, sizes", [(100, [70, 15, 15]), (20, [14, 3, 3]), (40, [28, 6, 6]), (3, [1, 1, 1])])
def test_sizes_are_70_15_15_percent_of_the_subjects(subjects, sizes):
    split = split_by_subject(cohort(subjects))
    assert [len(subjects_of(split[name])) for name in ("train", "val", "test")] == sizes


def test_seed_decides_the_split():
    groups = cohort(30)
    assert split_by_subject(groups, seed=4) == split_by_subject(dict(reversed(groups.items())), seed=4)
    assert len({tuple(split_by_subject(groups, seed=seed)["test"]) for seed in range(20)}) > 10


def test_fractions_of_zero_leave_a_set_empty():
    split = split_by_subject(cohort(10), fractions=(0.8, 0.2, 0.0))
    assert [len(subjects_of(split[name])) for name in split] == [8, 2, 0]
    assert len(split_by_subject(cohort(1), fractions=(1, 0, 0))["train"]) == 2


def test_split_by_name_is_taken_as_it_is():
    split = split_by_subject(cohort(5, 1), fixed={"train": ["sub-004", "sub-000"], "test": ["sub-002"]})
    assert split == {"train": ["sub-004_0.nii", "sub-000_0.nii"], "val": [], "test": ["sub-002_0.nii"]}


@pytest.mark.parametrize("subjects", [1, 2])
def test_too_few_subjects_are_named_with_the_way_out(subjects):
    message = rf"{subjects} subject\(s\) .*sub-000.*train, val, test needs 3 or more; add subjects, or .*'subjects'"
    with pytest.raises(InputError, match=message):
        split_by_subject(cohort(subjects))


@pytest.mark.parametrize(
    "fixed, message",
    [
        ({"train": ["sub-000", "sub-9"]}, "sub-9"),
        ({"train": ["sub-000"], "test": ["sub-000"]}, "sub-000"),
        ({"train": ["sub-000", "sub-000"]}, "sub-000"),
        ({"training": ["sub-000"], "val": ["sub-001"]}, "training"),
    ],
    ids=["unknown-subject", "subject-in-two-sets", "subject-twice", "unknown-set"],
)
def test_split_by_name_that_makes_no_sense_is_refused(fixed, message):
    with pytest.raises(InputError, match=message):
        split_by_subject(cohort(4), fixed=fixed)


def test_only_the_subject_in_two_sets_is_blamed():
    with pytest.raises(InputError) as caught:
        split_by_subject(cohort(4), fixed={"train": ["sub-000", "sub-001"], "val": ["sub-001"]})
    assert "sub-001" in str(caught.value).partition("known")[0]
    assert "sub-000" not in str(caught.value).partition("known")[0]


@pytest.mark.parametrize("fractions", [(0.7, 0.3), (0, 0, 0), (1.2, -0.1, -0.1)], ids=["two", "zeros", "negative"])
def test_fractions_that_make_no_sense_are_refused(fractions):
    with pytest.raises(InputError, match="fractions"):
        split_by_subject(cohort(10), fractions=fractions)


# ---- random patches

SEED, LENGTH = 7, 12


class Drawn(MapTransform):
    """Note which image a patch came from."""

    def __call__(self, data):
        return {**data, "source": int(data["image"].max() // 10_000)}


def random_transform() -> Compose:
    return Compose(
        [
            Drawn("image"),
            RandSpatialCropd("image", roi_size=(4, 4), random_size=False),
            RandFlipd("image", prob=0.5, spatial_axis=0),
            RandGaussianNoised("image", prob=0.5, std=0.1),
        ]
    )


def patches(seed: int = SEED, length: int = LENGTH, images: int = 3) -> RandomPatchDataset:
    pixels = torch.arange(40.0 * 40).reshape(1, 40, 40)
    return RandomPatchDataset([{"image": pixels + 10_000 * i} for i in range(images)], random_transform(), length, seed)


def first_epochs(dataset: RandomPatchDataset, epochs: int = 2, **loader) -> list[torch.Tensor]:
    """All patches of the first epochs, in the order of their index."""
    loaded = DataLoader(dataset, batch_size=4, **loader)
    result = []
    for epoch in range(epochs):
        dataset.set_epoch(epoch)
        result.append(torch.cat([torch.as_tensor(batch["image"]) for batch in loaded]))
    return result


def test_a_patch_depends_on_seed_epoch_and_index_only():
    dataset = patches()
    for epoch in (0, 3):
        dataset.set_epoch(epoch)
        forwards = [dataset[i]["image"] for i in range(LENGTH)]
        other = patches()
        other.set_epoch(epoch)
        np.random.seed(epoch)  # noqa: NPY002  the patches must not depend on it
        torch.manual_seed(epoch)
        for i in reversed(range(LENGTH)):
            assert torch.equal(other[i]["image"], forwards[i])


def test_another_seed_epoch_or_index_is_another_patch():
    dataset = patches(images=1)
    seen = []
    for seed in (0, 1):
        for epoch in (0, 1):
            dataset = patches(seed, images=1)
            dataset.set_epoch(epoch)
            seen += [tuple(dataset[i]["image"].flatten().tolist()) for i in range(LENGTH)]
    assert len(set(seen)) > 0.9 * len(seen)


@pytest.mark.parametrize(
    "loader",
    [
        {"num_workers": 1},
        {"num_workers": 2},
        {"num_workers": 2, "persistent_workers": True},
    ],
    ids=["one-worker", "two-workers", "persistent-workers"],
)
def test_worker_processes_draw_the_same_patches(loader):
    """Persistent workers hold a copy of the data set from before the first epoch: they must learn of the next one."""
    for here, there in zip(first_epochs(patches()), first_epochs(patches(), **loader), strict=True):
        assert torch.equal(here, there)


def test_global_random_state_is_left_alone():
    before = np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
    patches()[3]
    assert np.array_equal(np.random.get_state()[1], before[0])  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), before[1])


def test_training_resumes_with_the_epoch_it_stopped_at():
    resumed = patches()
    resumed.set_epoch(1)
    assert torch.equal(torch.stack([resumed[i]["image"] for i in range(LENGTH)]), first_epochs(patches())[1])


@pytest.mark.parametrize("images, length", [(3, 12), (5, 12), (4, 3)])
def test_images_take_turns(images, length):
    dataset = patches(length=length, images=images)
    counts = Counter()
    for epoch in range(4):
        dataset.set_epoch(epoch)
        shown = Counter(dataset[i]["source"] for i in range(length))
        assert max(shown.values()) <= -(-length // images)
        counts += shown
    assert len(counts) == images and max(counts.values()) - min(counts.values()) <= 1


def test_length_and_bounds():
    dataset = patches()
    assert len(dataset) == LENGTH
    for index in (-1, LENGTH):
        with pytest.raises(IndexError):
            dataset[index]


def test_no_image_is_an_error():
    with pytest.raises(InputError, match="no training image"):
        RandomPatchDataset([], random_transform(), 4)
