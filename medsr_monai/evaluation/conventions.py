"""What the figures of an evaluation mean, in the words that go with them into every file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from medsr_monai.evaluation.plan import Plan
from medsr_monai.evaluation.record.rows import Result


def conventions(plan: Plan, results: Sequence[Result]) -> list[str]:
    """The lines of the header of cases.csv and cases.json."""
    masked = any(case.mask is not None for case in plan.cases)
    foreground = "foreground of hr: brighter than 0.05 P99.5, dilated twice, without voxels that are exactly 0"
    return [
        "P99.5 is the 99.5th percentile of the nonzero voxels of hr; all images are divided by it, data range 1, no "
        "clipping",
        f"mask: {'the given mask files, above 0' if masked else foreground}",
        f"degradation: simulated acquisition at 1/{' x 1/'.join(map(str, plan.scale))} of the resolution, then "
        f"Rician noise, standard deviation as a share of the intensity window, drawn for each case by "
        f"its name and seed {plan.seed}",
        f"projections and back-projection assume: {plan.assumed_profile or 'the simulated one'}; consistency is "
        "measured with the simulated one, noise included",
        f"ms_ssim: {plan.ms_ssim_scales} scales, as many as the smallest image holds",
        "seconds: wall clock of the method alone, images in memory, interpolations in one thread; "
        f"{plan.device} and {plan.workers} processes at once",
        "peak_mib: growth of resident memory while the method ran (on a GPU: of PyTorch's), MiB, without the weights",
        "no feature network was given: no perceptual and no Fréchet distance"
        if plan.features is None
        else f"perceptual and Fréchet distance: features of {plan.features}; figures of other networks do not compare",
        *_reasons(results),
    ]


def _reasons(results: Sequence[Result]) -> list[str]:
    counts = Counter((name, reason) for result in results for name, reason in result.reasons.items())
    return [f"{name}: empty for {count} result(s): {reason}" for (name, reason), count in counts.items()]


def notes(plan: Plan, results: Sequence[Result]) -> list[str]:
    """What stands below the printed table."""
    subjects = len({result.subject for result in results})
    if subjects < 2:
        between = "one subject: no intervals, which would need two or more"
    else:
        drawn = f"{plan.resamples} resamples of subjects"
        between = f"means over {subjects} subjects with 95 % bootstrap intervals ({drawn})"
    return [
        f"{between}; gains are paired differences to {plan.baseline}",
        f"MS-SSIM on {plan.ms_ssim_scales} scales"
        if plan.ms_ssim_scales > 1
        else "MS-SSIM: images too small for two scales",
        "low |A(SR) - LR| is necessary, not sufficient: what was not measured may be invented",
        *_reasons(results),
    ]
