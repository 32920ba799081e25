"""Means over subjects with bootstrap intervals, paired differences to the baseline, and distances of all images."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from medsr_monai.evaluation.record.rows import Estimate, Result
from medsr_monai.metrics.bootstrap import bootstrap_interval, draw_resampling
from medsr_monai.metrics.frechet import FeatureStatistics, frechet_distance, pooled
from medsr_monai.networks import OnSlices
from medsr_monai.system.errors import InputError


def subject_means(results: Sequence[Result], measure: str) -> dict[str, float]:
    """The mean over each subject's cases, of those that have the figure."""
    values: dict[str, list[float]] = {}
    for result in results:
        value = result.value(measure)
        if value is not None:
            values.setdefault(result.subject, []).append(value)
    return {subject: float(np.mean(found)) for subject, found in sorted(values.items())}


def summarise(
    results: Sequence[Result], measures: Sequence[str], baseline: str, resamples: int, seed: int
) -> dict[tuple[str, str, str], Estimate]:
    """An estimate for each condition, method and measure, in the order of the results.

    Measures are figures, ``seconds`` and ``peak_mib``; all of them draw the same subjects.

    Returns:
        Mean over subjects with its interval, and the mean difference, method less baseline, paired by subject.
    """
    groups: dict[tuple[str, str], list[Result]] = {}
    for result in results:
        groups.setdefault((result.condition.name, result.method), []).append(result)
    resampling = cache(lambda units: draw_resampling(units, resamples, seed))
    found = {}
    for (condition, method), group in groups.items():
        for measure in measures:
            means = subject_means(group, measure)
            reference = subject_means(groups.get((condition, baseline), []), measure)
            values = np.array(list(means.values()))
            paired = np.array([means[subject] - reference[subject] for subject in means if subject in reference])
            (low, high), (difference_low, difference_high) = (
                bootstrap_interval(v, resampling(len(v))) if len(v) > 1 else (None, None) for v in (values, paired)
            )
            found[condition, method, measure] = Estimate(
                condition=group[0].condition,
                method=method,
                measure=measure,
                n_cases=sum(result.value(measure) is not None for result in group),
                n_subjects=len(means),
                mean=float(values.mean()) if len(values) else None,
                low=low,
                high=high,
                difference=float(paired.mean()) if len(paired) else None,
                difference_low=difference_low,
                difference_high=difference_high,
            )
    return found


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
    statistics = FeatureStatistics(name)
    for path in paths:
        try:
            with np.load(path, allow_pickle=False) as arrays:
                statistics.add(torch.from_numpy(arrays["features"]))
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
    found = frechet_distance(ours, theirs)
    few = ", no more samples than features: too large" if found.few_samples else ""
    return found.distance, found.n_sr, f"{name}, {found.dimensions} features{few}"
