"""Fréchet distances over all cases, from features that were taken case by case."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from medsr_monai.metrics.frechet import FeatureStatistics, frechet_distance, pooled
from medsr_monai.networks import OnSlices
from medsr_monai.system.errors import InputError


def describe(features: nn.Module) -> str:
    """A feature network in a few words, which belong to every figure made with it."""
    inner = features.network if isinstance(features, OnSlices) else features
    slices = f" on {features.slices_per_axis or 'all'} slices along each axis" if isinstance(features, OnSlices) else ""
    return f"{type(inner).__name__}{slices}"


def state_digest(network: nn.Module) -> str:
    """SHA-256 of a network's weights."""
    digest = hashlib.sha256()
    for name, values in network.state_dict().items():
        digest.update(name.encode())
        digest.update(values.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def sample_features(image: Tensor, features: nn.Module) -> np.ndarray:
    """Features of an image, averaged over positions: one sample a slice for 2D networks, one a volume for 3D ones.

    Returns:
        (N, D) float32, of an image (1, C, *spatial).
    """
    with torch.no_grad():
        if isinstance(features, OnSlices):
            maps = [pooled(features.network(stack)) for stack in features.slices(image)]
        else:
            maps = [pooled(features(image))]
    return torch.cat(maps).float().cpu().numpy()


def _statistics(paths: Sequence[Path], name: str) -> FeatureStatistics:
    statistics = FeatureStatistics(lambda image: image, name)
    for path in paths:
        try:
            with np.load(path, allow_pickle=False) as arrays:
                statistics.add_features(torch.from_numpy(arrays["features"]))
        except Exception as error:  # zipfile and numpy raise what they like for a damaged file
            raise InputError(f"{path}: cannot read; remove the file and run the evaluation again") from error
    return statistics


def frechet_of_files(sr: Sequence[Path], hr: Sequence[Path], name: str) -> tuple[float | None, int, str]:
    """The Fréchet distance between the features in two sets of files.

    Returns:
        The distance (None where there are too few samples), how many samples there are, and the features in words.
    """
    ours, theirs = _statistics(sr, name), _statistics(hr, name)
    if min(ours.count, theirs.count) < 2:
        return None, ours.count, f"{name}: one sample has no covariance"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # said in the result
        found = frechet_distance(ours, theirs)
    few = ", no more samples than features: too large" if found.few_samples else ""
    return found.distance, found.n_sr, f"{name}, {found.dimensions} features{few}"
