"""Which images belong to which subject, how they are split, and random patches that can be drawn again exactly."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import CacheDataset
from monai.transforms import Compose
from torch.utils.data import Dataset

from medsr_monai.system.errors import InputError

# BIDS names subjects sub-XX; elsewhere the part of the name before the first underscore is taken.
BIDS_SUBJECT = re.compile(r"sub-[A-Za-z0-9]+")


def subject_of(path: str | Path) -> str:
    """The subject of an image by its name: BIDS ``sub-XX`` anywhere in the path, else what precedes the first ``_``."""
    matches = BIDS_SUBJECT.findall(str(path))  # the last: a folder above the data may be named sub-something too
    return matches[-1] if matches else Path(path).name.split(".")[0].split("_")[0]


def group_by_subject(
    paths: Iterable[str | Path], subjects: Mapping[str, str | None] | None = None
) -> dict[str, list[str]]:
    """Group image files by subject.

    Args:
        paths: image files.
        subjects: subject by file name, or by the end of a path (``case1/T1.nii.gz``), for files whose name does not
            tell; the longest one counts. None leaves the file out.

    Returns:
        Files by subject, both sorted.

    Raises:
        InputError: no file is left; ``subjects`` gives a subject to a file that is not there; or files of one name lie
            in several folders, which may be the subjects: their images would be spread over the sets.
    """
    paths = list(paths)
    given = _checked_subjects(subjects)
    _refuse_same_names(paths, given)
    groups: dict[str, list[str]] = {}
    matched: set[str] = set()
    for path in sorted(map(str, paths)):
        ends = [end for end in given if _ends_with(path, end)]
        matched.update(ends)
        subject = given[max(ends, key=len)] if ends else subject_of(path)
        if subject is not None:
            groups.setdefault(subject, []).append(path)
    # A misspelt name would leave its file to the rule, and perhaps one subject in two sets. A file that is to be left
    # out and is not there harms nobody.
    missing = sorted(end for end, subject in given.items() if subject is not None and end not in matched)
    if missing:
        example = Path(min(map(str, paths), default="scan.nii.gz")).name
        raise InputError(f"subjects: no training image is called '{missing[0]}'; names look like '{example}'")
    if not groups:
        raise InputError(f"no training image among {len(paths)} files: check 'dataset_dir' and 'subjects'")
    return dict(sorted(groups.items()))


def _checked_subjects(subjects: Mapping[str, str | None] | None) -> Mapping[str, str | None]:
    subjects = {} if subjects is None else subjects
    if not isinstance(subjects, Mapping) or not all(
        value is None or isinstance(value, str) for value in subjects.values()
    ):
        raise InputError(f"subjects '{subjects}': must be the name of a subject, or null, by file name")
    return subjects


def _refuse_same_names(paths: Sequence[str | Path], given: Mapping[str, str | None]) -> None:
    untold = [
        Path(path)
        for path in map(str, paths)
        if not BIDS_SUBJECT.search(path) and not any(_ends_with(path, end) for end in given)
    ]
    name, count = max(Counter(path.name for path in untold).items(), key=lambda item: item[1], default=("", 0))
    if count > 1:
        raise InputError(
            f"{count} files are named {name}, in different folders: their names do not tell the subjects; name the "
            "folders sub-01, sub-02, ... (BIDS), or give the subject of each path in 'subjects'"
        )


def _ends_with(path: str, end: str) -> bool:
    """Whether whole parts of a path, the last ones, are these."""
    parts = Path(end).parts
    return bool(parts) and Path(path).parts[-len(parts) :] == parts


def split_by_subject(
    groups: Mapping[str, Sequence[str]],
    fractions: Sequence[float] = (0.70, 0.15, 0.15),
    seed: int = 0,
    fixed: Mapping[str, Sequence[str]] | None = None,
) -> dict[str, list[str]]:
    """Split files into training, validation and test sets, so that no subject is in two of them.

    Args:
        groups: files by subject.
        fractions: share of the subjects in each set. Sizes are rounded, but no set with a positive share stays empty.
        seed: of the shuffle.
        fixed: names of subjects by set; when given, it is the split, and what it does not name is left out.

    Returns:
        Files of ``train``, ``val`` and ``test``.

    Raises:
        InputError: too few subjects, ``fixed`` names an unknown one or one twice, or either is of another form.
    """
    names = ("train", "val", "test")
    if fixed is not None:
        if not isinstance(fixed, Mapping) or not all(isinstance(chosen, (list, tuple)) for chosen in fixed.values()):
            raise InputError(f"split '{fixed}': must be a list of subjects for each of {', '.join(names)}")
        chosen = [subject for name in names for subject in fixed.get(name, ())]
        if unknown_sets := sorted(set(fixed) - set(names)):
            raise InputError(f"split: no set is named {', '.join(unknown_sets)}; choose among {', '.join(names)}")
        if unknown := sorted(set(chosen) - set(groups)):
            raise InputError(f"split: unknown subjects {unknown}; known are {sorted(groups)}")
        if twice := sorted(subject for subject, count in Counter(chosen).items() if count > 1):
            raise InputError(f"split: subjects {twice} are named twice")
        if not fixed.get("train"):
            raise InputError("split: no subject to train on; name some under 'train'")
        return {name: [file for subject in fixed.get(name, ()) for file in groups[subject]] for name in names}
    if not _are_shares(fractions, len(names)):
        raise InputError(f"fractions {fractions}: need one share of at least 0 for each of {', '.join(names)}")
    wanted = [name for name, share in zip(names, fractions, strict=True) if share > 0]
    if len(groups) < len(wanted):
        raise InputError(
            f"{len(groups)} subject(s) {sorted(groups)}: a split into {', '.join(wanted)} needs {len(wanted)} or more; "
            "add subjects, or name the sets in 'split'; 'subjects' tells files apart whose names do not"
        )
    order = [sorted(groups)[i] for i in np.random.default_rng(seed).permutation(len(groups))]
    counts = _apportion(len(order), fractions)
    ends = np.cumsum(counts)
    parts = [order[end - count : end] for end, count in zip(ends, counts, strict=True)]
    return {name: [f for s in sorted(part) for f in groups[s]] for name, part in zip(names, parts, strict=True)}


def _are_shares(values: Any, count: int) -> bool:
    if not isinstance(values, (list, tuple)) or len(values) != count:
        return False
    numbers = all(isinstance(value, (int, float)) and math.isfinite(value) and value >= 0 for value in values)
    return numbers and sum(values) > 0


def _apportion(total: int, fractions: Sequence[float]) -> list[int]:
    """Whole numbers in proportion to the fractions that sum to ``total``; a positive fraction gets at least one."""
    shares = np.asarray(fractions, dtype=float) / np.sum(fractions) * total
    counts = np.where(shares > 0, np.maximum(1, np.floor(shares + 0.5)), 0).astype(int)
    while counts.sum() != total:
        step = 1 if counts.sum() < total else -1
        allowed = (shares > 0) & ((counts > 1) | (step > 0))
        counts[np.argmax(np.where(allowed, step * (shares - counts), -np.inf))] += step
    return counts.tolist()


class RandomPatchDataset(Dataset):
    """Random patches of a few cached images: patch ``i`` of epoch ``e`` is always the same patch.

    Every item seeds the transform's random state from (seed, epoch, index), so that neither the number of worker
    processes nor an interruption changes what the network sees.

    Args:
        data: one item per image.
        augmentation: random transforms that turn one image into one patch.
        length: patches per epoch.
        seed: of all randomness.
        transform: deterministic transforms, applied once to each image and kept in memory; None leaves the data as is.
    """

    def __init__(
        self,
        data: Sequence[Any],
        augmentation: Compose,
        length: int,
        seed: int = 0,
        transform: Callable[[Any], Any] | None = None,
    ) -> None:
        if len(data) == 0:
            raise InputError("no training image: check 'dataset_dir' and the split")
        self.data = data
        self.transform = transform
        self.images: Sequence[Any] | Dataset | None = data if transform is None else None
        self.augmentation = augmentation
        self.length = length
        self.seed = seed
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()  # persistent workers must see it change

    @property
    def epoch(self) -> int:
        return int(self._epoch)

    def prepare(self) -> None:
        """Load and transform all images once, before the first epoch; worker processes share them.

        Raises:
            InputError: an image that cannot be read or is too small, named.
        """
        if self.images is None:
            self.images = CacheDataset(self.data, self.transform, num_workers=1, copy_cache=False)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose patches are drawn; the trainer calls it before each one."""
        self._epoch.fill_(epoch)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Any:
        if not 0 <= index < self.length:
            raise IndexError(index)
        self.prepare()
        assert self.images is not None
        rng = np.random.default_rng((self.seed, self.epoch, index))
        self.augmentation.set_random_state(seed=int(rng.integers(2**31)))
        # Images take turns, so that every epoch shows all of them equally often.
        return self.augmentation(self.images[(index + self.epoch * self.length) % len(self.data)])
