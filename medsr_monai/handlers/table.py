"""A table of results, one row per case."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ignite.distributed as idist
from ignite.engine import Engine, Events
from torch import Tensor, nn

from medsr_monai.acquisition import SeparableAcquisition
from medsr_monai.atomic import replacing
from medsr_monai.errors import InputError
from medsr_monai.interpolation import cubic_bspline
from medsr_monai.metrics import (
    foreground_mask,
    foreground_percentile,
    gradient_distribution_distance,
    gradient_magnitude_distance,
    perceptual_distance,
    psnr,
    spectrum_distance,
    ssim,
)


class CaseTable:
    """Fidelity per case, beside cubic B-spline interpolation of the same measurement, as a CSV file.

    Columns: ``case``, ``profile`` and ``noise`` of the simulated acquisition; of both, over the foreground
    (conventions: :mod:`medsr_monai.metrics`), PSNR in dB, SSIM, the distances of gradient magnitudes and of their
    distributions (no unit) and of spectra (dB), and with a feature network its perceptual distance, all of which are 0
    for equal texture; ``consistency_max``, the largest ``|A(sr) - lr|`` as a share of the
    reference's range. The last row is the mean.

    Args:
        path: the CSV file; written when the evaluation is complete.
        profile: the simulated acquisition.
        noise: its noise.
        features: a feature network for the perceptual distance; none by default.
    """

    MEASURES: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
        "psnr": psnr,
        "ssim": ssim,
        "gradient_distance": gradient_magnitude_distance,
        "gradient_distribution": gradient_distribution_distance,
        "spectrum_distance": spectrum_distance,
    }

    def __init__(
        self, path: str | Path, profile: str = "box", noise: float = 0.0, features: nn.Module | None = None
    ) -> None:
        self.path = Path(path)
        self.profile = profile
        self.noise = noise
        self.measures = dict(self.MEASURES)
        if features is not None:
            self.measures["perceptual_distance"] = lambda sr, hr, mask: perceptual_distance(sr, hr, features, mask)
        self.scores = [*(f"{name}_{image}" for name in self.measures for image in ("cubic", "sr")), "consistency_max"]
        self.rows: list[dict[str, Any]] = []

    def attach(self, evaluator: Engine) -> None:
        """Add a row after every iteration, and write at the end.

        Raises:
            InputError: in one of several processes, which would see only its share of the cases.
        """
        if idist.get_world_size() > 1:
            raise InputError(f"{self.path}: the table needs every case in one process; evaluate without torchrun")
        evaluator.add_event_handler(Events.STARTED, lambda engine: self.rows.clear())
        evaluator.add_event_handler(Events.ITERATION_COMPLETED, self.add)
        evaluator.add_event_handler(Events.COMPLETED, self.write)

    def add(self, evaluator: Engine) -> None:
        """Measure the cases of one iteration, decollated: ``image`` (the measurement), ``pred`` and ``label``."""
        state: Any = evaluator.state
        for item, output in zip(state.batch, state.output, strict=True):
            lr, sr, hr = (output[key][None].as_subclass(Tensor) for key in ("image", "pred", "label"))
            row = {"case": item["case"], "profile": self.profile, "noise": self.noise, **self.score(lr, sr, hr)}
            self.rows.append(row)
            print("  ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{v}" for k, v in row.items()), flush=True)

    def score(self, lr: Tensor, sr: Tensor, hr: Tensor) -> dict[str, float]:
        """The scores of one case.

        Args:
            lr: (1, 1, *lr_shape).
            sr: (1, 1, *hr_shape).
            hr: (1, 1, *hr_shape).
        """
        unit = foreground_percentile(hr).reshape(-1, *[1] * (hr.ndim - 1))
        reference = hr / unit
        mask = foreground_mask(reference)
        cubic = cubic_bspline(lr, hr.shape[2:])
        acquisition = SeparableAcquisition.from_profile(hr.shape[2:], lr.shape[2:], self.profile)
        residual = (acquisition.forward(sr) - lr).abs().max() / (hr.max() - hr.min())
        values = [measure(image / unit, reference, mask) for measure in self.measures.values() for image in (cubic, sr)]
        return {name: float(value) for name, value in zip(self.scores, [*values, residual], strict=True)}

    def write(self, evaluator: Engine) -> None:
        """Write the table under a temporary name beside, then rename."""
        mean = {name: sum(row[name] for row in self.rows) / len(self.rows) for name in self.scores}
        try:
            with replacing(self.path) as temporary, open(temporary, "w", newline="") as file:
                writer = csv.DictWriter(file, ["case", "profile", "noise", *self.scores])
                writer.writeheader()
                writer.writerows([*self.rows, {"case": "mean", "profile": self.profile, "noise": self.noise, **mean}])
        except OSError as error:
            raise InputError(f"{self.path}: cannot write: {error.strerror or error}") from error
