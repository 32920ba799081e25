"""Group images by subject, split them, and draw random patches that are reproducible."""

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

# BIDS names subjects sub-XX; otherwise the subject is the part of the name before the first underscore.
BIDS_SUBJECT = re.compile(r"sub-[A-Za-z0-9]+")


def subject_of(path: str | Path) -> str:
    """The subject of an image: BIDS ``sub-XX`` in the path, otherwise the name's part before the first ``_``."""
    matches = BIDS_SUBJECT.findall(str(path))  # use the last one: a folder above the data may be named sub-XX too
    return matches[-1] if matches else Path(path).name.split(".")[0].split("_")[0]


def group_by_subject(
    paths: Iterable[str | Path], subjects: Mapping[str, str | None] | None = None
) -> dict[str, list[str]]:
    """Group image files by subject.

    Args:
        paths: image files.
        subjects: subject by file name, or by the end of a path (``case1/T1.nii.gz``), for files whose name does not
            contain it; the longest match counts. None leaves the file out.

    Returns:
        Files by subject, both sorted.

    Raises:
        InputError: no file is left; ``subjects`` names a file that does not exist; or several folders have files of the
            same name. In the last case, the folders may be the subjects, and the sets would share subjects.
    """
    given = {} if subjects is None else subjects
    if not isinstance(given, Mapping) or not all(isinstance(value, str | None) for value in given.values()):
        raise InputError(f"subjects '{subjects}': must map each file name to a subject or null")
    ends = {path: [end for end in given if _ends_with(path, end)] for path in sorted(map(str, paths))}
    untold = Counter(Path(path).name for path, own in ends.items() if not own and not BIDS_SUBJECT.search(path))
    for name, count in untold.most_common(1):
        if count > 1:
            raise InputError(
                f"{count} files are named {name}, in different folders: the subjects are unknown; name the folders "
                "sub-01, sub-02, ... (BIDS), or give the subject of each path in 'subjects'"
            )
    groups: dict[str, list[str]] = {}
    for path, own in ends.items():
        subject = given[max(own, key=len)] if own else subject_of(path)
        if subject is not None:
            groups.setdefault(subject, []).append(path)
    # With a misspelt name, the general rule would apply to the file, and one subject might be in two sets. A missing
    # file that is to be left out does no harm.
    missing = {end for end, subject in given.items() if subject is not None}.difference(*ends.values())
    if missing:
        example = Path(next(iter(ends), "scan.nii.gz")).name
        raise InputError(f"subjects: no training image is called '{min(missing)}'; names look like '{example}'")
    if not groups:
        raise InputError(f"no training image among {len(ends)} files; check 'dataset_dir' and 'subjects'")
    return dict(sorted(groups.items()))


def _ends_with(path: str, end: str) -> bool:
    """Whether the last parts of a path equal ``end``."""
    parts = Path(end).parts
    return bool(parts) and Path(path).parts[-len(parts) :] == parts


def split_by_subject(
    groups: Mapping[str, Sequence[str]],
    fractions: Sequence[float] = (0.70, 0.15, 0.15),
    seed: int = 0,
    fixed: Mapping[str, Sequence[str]] | None = None,
) -> dict[str, list[str]]:
    """Split files into training, validation and test sets; no subject is in two of them.

    Args:
        groups: files by subject.
        fractions: share of the subjects in each set. Sizes are rounded, but a set with a positive share is not empty.
        seed: of the shuffle.
        fixed: names of subjects by set; if given, it is the split, and other subjects are left out.

    Returns:
        Files of ``train``, ``val`` and ``test``.

    Raises:
        InputError: there are too few subjects, ``fixed`` names an unknown subject or one twice, or an argument has the
            wrong form.
    """
    names = ("train", "val", "test")
    if fixed is not None:
        if not isinstance(fixed, Mapping) or not all(isinstance(chosen, (list, tuple)) for chosen in fixed.values()):
            raise InputError(f"split '{fixed}': must be a list of subjects for each of {', '.join(names)}")
        chosen = [subject for name in names for subject in fixed.get(name, ())]
        if unknown_sets := sorted(set(fixed) - set(names)):
            raise InputError(f"split: no set is named {', '.join(unknown_sets)}; choose from {', '.join(names)}")
        if unknown := sorted(set(chosen) - set(groups)):
            raise InputError(f"split: unknown subjects {unknown}; known are {sorted(groups)}")
        if twice := sorted(subject for subject, count in Counter(chosen).items() if count > 1):
            raise InputError(f"split: subjects {twice} are named twice; name each once")
        if not fixed.get("train"):
            raise InputError("split: no subject to train on; name some under 'train'")
        return {name: [file for subject in fixed.get(name, ()) for file in groups[subject]] for name in names}
    if not _are_shares(fractions, len(names)):
        raise InputError(f"fractions {fractions}: need one share of at least 0 for each of {', '.join(names)}")
    wanted = [name for name, share in zip(names, fractions, strict=True) if share > 0]
    if len(groups) < len(wanted):
        raise InputError(
            f"{len(groups)} subject(s) {sorted(groups)}: a split into {', '.join(wanted)} needs {len(wanted)} or more; "
            "add subjects, or name the sets in 'split'; 'subjects' gives the subject of files whose names do not"
        )
    order = [sorted(groups)[i] for i in np.random.default_rng(seed).permutation(len(groups))]
    parts = np.split(order, np.cumsum(_apportion(len(order), fractions))[:-1])
    return {name: [f for s in sorted(part) for f in groups[s]] for name, part in zip(names, parts, strict=True)}


def _are_shares(values: Any, count: int) -> bool:
    is_list = isinstance(values, (list, tuple)) and len(values) == count
    return is_list and all(isinstance(v, (int, float)) and 0 <= v < math.inf for v in values) and sum(values) > 0


def _apportion(total: int, fractions: Sequence[float]) -> list[int]:
    """Whole numbers in proportion to the fractions with the sum ``total``; a positive fraction gets at least 1."""
    shares = np.asarray(fractions, dtype=float) / np.sum(fractions) * total
    counts = np.where(shares > 0, np.maximum(1, np.floor(shares + 0.5)), 0).astype(int)
    while counts.sum() != total:
        step = 1 if counts.sum() < total else -1
        allowed = (shares > 0) & ((counts > 1) | (step > 0))
        counts[np.argmax(np.where(allowed, step * (shares - counts), -np.inf))] += step
    return counts.tolist()


class RandomPatchDataset(Dataset):
    """Random patches of a few cached images; patch ``i`` of epoch ``e`` is always the same patch.

    Every item seeds the transform's random state from (seed, epoch, index). So the patches do not depend on the number
    of worker processes or on an interruption.

    Args:
        data: one item per image.
        augmentation: random transforms that turn one image into one patch.
        length: patches per epoch.
        seed: of all randomness.
        transform: deterministic transforms, applied once to each image; memory keeps the results. None applies none.

    Raises:
        InputError: there is no image.
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
            raise InputError("no training image; check 'dataset_dir' and the split")
        self.data = data
        self.transform = transform
        self.images: Any = data if transform is None else None
        self.augmentation = augmentation
        self.length = length
        self.seed = seed
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()  # so that persistent workers see its changes

    @property
    def epoch(self) -> int:
        return int(self._epoch)

    def prepare(self) -> None:
        """Load and transform all images once, before the first epoch; worker processes share them."""
        if self.images is None:
            self.images = CacheDataset(self.data, self.transform, num_workers=1, copy_cache=False)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose patches are drawn; the trainer calls it before each epoch."""
        self._epoch.fill_(epoch)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Any:
        if not 0 <= index < self.length:
            raise IndexError(index)
        self.prepare()
        rng = np.random.default_rng((self.seed, self.epoch, index))
        self.augmentation.set_random_state(seed=int(rng.integers(2**31)))
        # Images take turns, so that all of them are equally frequent in every epoch.
        return self.augmentation(self.images[(index + self.epoch * self.length) % len(self.data)])
