"""One case under one condition: measured, upscaled by every method, compared with the reference, written down."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from medsr_monai.evaluation.cases import Load, LoadedCase, load_case
from medsr_monai.evaluation.methods import Measurement, Upscaler
from medsr_monai.evaluation.plan import HR, Case, Condition, Method, Plan
from medsr_monai.evaluation.processes import measured_cost
from medsr_monai.evaluation.record.folder import ResultFolder, write_arrays
from medsr_monai.evaluation.record.rows import Result
from medsr_monai.evaluation.record.views import draw_view
from medsr_monai.evaluation.summary import sample_features
from medsr_monai.geometry.planes import Picture
from medsr_monai.metrics.catalogue import ImageMeasure, Pair, catalogue, score
from medsr_monai.metrics.niqe import NIQEModel
from medsr_monai.system.errors import InputError


@dataclass(frozen=True)
class Task:
    """What is left to do for one case under one condition.

    Digests are of the results that are missing, by method. Pictures show all methods, also those that are not missing.
    """

    case: Case
    condition: Condition
    digests: Mapping[str, str]
    pictured: bool = False

    @property
    def part(self) -> tuple[str, str]:
        """Names of the case and of the condition."""
        return self.case.name, self.condition.name


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute in one thread: sums then have one order, whatever the number of threads and of workers."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@dataclass
class Scorer:
    """Do tasks; can be pickled until it did the first.

    The fields are those of `Evaluation`; `load` is that of `load_case`.
    """

    plan: Plan
    folder: Path
    upscaler: Upscaler
    load: Load
    features: nn.Module | None = None
    niqe_model: str | Path | None = None
    _latest: LoadedCase | None = None

    @cached_property
    def measures(self) -> dict[str, ImageMeasure]:
        features = None if self.features is None else self.features.to(self.upscaler.device)
        model = None if self.niqe_model is None else NIQEModel.load(self.niqe_model)
        return catalogue(self.plan.ms_ssim_scales, True, features, model)

    def __call__(self, task: Task) -> list[Result]:
        """Compute and write what is missing.

        Raises:
            InputError: a case, or a method on it, that does not serve, named.
        """
        files = ResultFolder(self.folder)
        with one_thread():
            if self._latest is None or self._latest.case != task.case:  # conditions of one case follow each other
                self._latest = None
                self._latest = load_case(task.case, self.load, self.upscaler.device)
            loaded = self._latest
            intensity = getattr(self.upscaler.normalise, "intensity", None)
            measured, lr_spacing_mm = loaded.measured(task.condition, self.plan, intensity)
            if self.features is not None and task.digests:
                self._write_features(files, task, HR, loaded.reference.hr)
        results, shown = [], {}
        for method in self.plan.methods:
            if method.name in task.digests or task.pictured:
                sr, result = self._result(files, task, loaded, measured, method)
                results += [] if result is None else [result]
                if task.pictured:
                    shown[method.name] = loaded.in_ras(sr / loaded.reference.unit)
        if task.pictured:
            lr = Picture(loaded.in_ras(measured.lr / loaded.reference.unit), lr_spacing_mm)
            hr = Picture(loaded.in_ras(loaded.reference.hr), loaded.ras_spacing_mm(loaded.hr))
            view = draw_view(*task.part, lr, hr, loaded.in_ras(loaded.reference.mask), shown)
            view.write(files.views_path(*task.part))
        return results

    def _result(
        self, files: ResultFolder, task: Task, loaded: LoadedCase, measured: Measurement, method: Method
    ) -> tuple[Tensor, Result | None]:
        self.upscaler.prepare(method)
        try:
            with nullcontext() if method.kind == "network" else one_thread():
                work = partial(self.upscaler, method, measured)
                sr, seconds, peak_mib = measured_cost(work, self.upscaler.device)
        except InputError as error:
            raise InputError(f"{task.case.file}: {error}") from error
        if method.name not in task.digests:
            return sr, None
        with one_thread():
            pair = Pair(sr, loaded.reference, measured.lr, measured.acquisition)
            figures, reasons = score(pair, self.measures)
            if self.features is not None:
                self._write_features(files, task, method.name, torch.where(pair.mask, pair.sr, pair.hr))
        result = Result(
            case=task.case.name,
            subject=task.case.subject,
            condition=task.condition,
            method=method.name,
            figures=figures,
            seconds=round(seconds, 4),
            peak_mib=None if peak_mib is None else round(peak_mib, 2),
            reasons=reasons,
            power_db=_finite(pair.power_db.tolist()),
            hr_power_db=_finite(loaded.reference.power_db.tolist()),
            digest=task.digests[method.name],
        )
        files.write(result)
        return sr, result

    def _write_features(self, files: ResultFolder, task: Task, name: str, image: Tensor) -> None:
        assert self.features is not None
        path = files.features_path(*task.part, name)
        write_arrays(path, {"features": sample_features(image, self.features.to(self.upscaler.device))})


def _finite(values: Sequence[float]) -> tuple[float | None, ...]:
    """The same with None for what JSON cannot hold."""
    return tuple(value if np.isfinite(value) else None for value in values)
