"""Fréchet distances over all cases, from features that were taken case by case."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from medsr_monai.evaluation.record.results import read_arrays
from medsr_monai.metrics.frechet import FeatureStatistics, frechet_distance, pooled
from medsr_monai.networks import OnSlices
from medsr_monai.system.errors import InputError


def describe(features: nn.Module) -> str:
    """A feature network in a few words, which belong to every figure made with it."""
    inner = features.network if isinstance(features, OnSlices) else features
    slices = f" on {features.slices_per_axis or 'all'} slices along each axis" if isinstance(features, OnSlices) else ""
    return f"{type(inner).__name__}{slices}"


def sample_features(image: Tensor, features: nn.Module) -> np.ndarray:
    """Features of an image, averaged over positions: one sample a slice for 2D networks, one a volume for 3D ones.

    Args:
        image: (1, C, *spatial).
        features: a feature network.

    Returns:
        (N, D) float32.
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
        arrays = read_arrays(path)
        if arrays is None or "features" not in arrays:
            raise InputError(f"{path}: cannot read; remove the file and run the evaluation again")
        statistics.add_features(torch.from_numpy(arrays["features"]))
    return statistics


def frechet_of_files(sr: Sequence[Path], hr: Sequence[Path], name: str) -> dict[str, Any]:
    """The Fréchet distance between the features in two sets of files.

    Args:
        sr: of the images to judge.
        hr: of the references.
        name: of the feature network.

    Returns:
        ``value`` (None where there are too few samples), ``n`` and ``features``, which says so.
    """
    ours, theirs = _statistics(sr, name), _statistics(hr, name)
    if min(ours.count, theirs.count) < 2:
        return {"value": None, "n": ours.count, "features": f"{name}: one sample has no covariance"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # said in the result
        found = frechet_distance(ours, theirs)
    few = ", no more samples than features: too large" if found.few_samples else ""
    return {"value": found.distance, "n": found.n_sr, "features": f"{name}, {found.dimensions} features{few}"}
