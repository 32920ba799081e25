"""What the figures of an evaluation mean, in the words that go with them into every file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from medsr_monai.evaluation.distributions import describe
from medsr_monai.evaluation.record.results import Result

if TYPE_CHECKING:
    from medsr_monai.evaluation.evaluation import Evaluation


def conventions(evaluation: Evaluation, results: Sequence[Result]) -> list[str]:
    """The lines of the header of cases.csv and cases.json."""
    mask = (
        "foreground of hr: brighter than 0.05 P99.5, dilated twice, without voxels that are exactly 0"
        if evaluation.masks is None
        else "the given mask files, above 0"
    )
    assumed = evaluation.assumed_profile or "the simulated one"
    lines = [
        "P99.5 is the 99.5th percentile of the nonzero voxels of hr; all images are divided by it, data range 1, no "
        "clipping",
        f"mask: {mask}",
        f"degradation: simulated acquisition at 1/{' x 1/'.join(map(str, evaluation.scale))} of the resolution, then "
        f"Rician noise, standard deviation as a share of the robust intensity range, drawn for each case by "
        f"its name and seed {evaluation.seed}",
        f"projections and back-projection assume: {assumed}; consistency is measured with the simulated one, noise "
        "included",
        f"ms_ssim: {evaluation.scales} scales, as many as the smallest image holds",
        "seconds: wall clock of the method alone, images in memory, interpolations in one thread; "
        f"{evaluation.device} and {evaluation.processes()} processes at once",
        "peak_mib: growth of resident memory while the method ran (on a GPU: of PyTorch's), MiB, without the weights",
        *_features(evaluation),
        *_reasons(results),
    ]
    return lines


def _features(evaluation: Evaluation) -> list[str]:
    if evaluation.perceptual_features is None:
        return ["no feature network was given: no perceptual and no Fréchet distance"]
    name = describe(evaluation.perceptual_features)
    return [f"perceptual and Fréchet distance: features of {name}; figures of other networks do not compare"]


def _reasons(results: Sequence[Result]) -> list[str]:
    counts = Counter((name, reason) for result in results for name, reason in result.reasons.items())
    return [f"{name}: empty for {count} result(s): {reason}" for (name, reason), count in counts.items()]


def notes(evaluation: Evaluation, results: Sequence[Result]) -> list[str]:
    """What stands below the printed table."""
    subjects = len({result.subject for result in results})
    if subjects < 2:
        between = "one subject: no intervals, which would need two or more"
    else:
        drawn = f"{evaluation.resamples} resamples of subjects"
        between = f"means over {subjects} subjects with 95 % bootstrap intervals ({drawn})"
    return [
        f"{between}; gains are paired differences to {evaluation.baseline_name}",
        f"MS-SSIM on {evaluation.scales} scales"
        if evaluation.scales > 1
        else "MS-SSIM: images too small for two scales",
        "low |A(SR) - LR| is necessary, not sufficient: what was not measured may be invented",
        *_reasons(results),
        f"files: {evaluation.folder}",
    ]
