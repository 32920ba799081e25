"""One case under one condition: measured, upscaled by every method, compared with the reference, written down."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from medsr_monai.evaluation.cases import Case, Condition, Load, LoadedCase, load_case
from medsr_monai.evaluation.distributions import sample_features
from medsr_monai.evaluation.methods import Measurement, Method, Networks, Upscaler
from medsr_monai.evaluation.record.results import HR, Result, ResultFolder, write_arrays
from medsr_monai.evaluation.record.views import Picture, draw_views, voxels_of
from medsr_monai.evaluation.resources import measured_cost
from medsr_monai.geometry import Grid
from medsr_monai.metrics.catalogue import Measure, Pair, catalogue, score
from medsr_monai.metrics.niqe import NIQEModel
from medsr_monai.system.errors import InputError


@dataclass(frozen=True)
class Task:
    """What is left to do for one case under one condition.

    Args:
        case: which.
        condition: how it is measured.
        digests: of the results that are missing, by method.
        pictured: methods to show, whether their figures are missing or not.
    """

    case: Case
    condition: Condition
    digests: Mapping[str, str]
    pictured: tuple[str, ...] = ()


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

    Args:
        folder: of the evaluation.
        networks: that methods may name.
        methods: all of the evaluation.
        load: see `load_case`.
        scale: integer factor per axis.
        seed: of the noise.
        assumed_profile: how networks believe that the image was measured; None for how it was.
        scales: of MS-SSIM.
        device: to compute on.
        features: a feature network, or None.
        niqe_model: the file of a fitted one, or None.
    """

    folder: Path
    networks: Networks
    methods: Sequence[Method]
    load: Load
    scale: Sequence[int]
    seed: int
    assumed_profile: str | None
    scales: int
    device: torch.device
    features: nn.Module | None = None
    niqe_model: Path | None = None
    after_each: Callable[[], None] | None = None

    @cached_property
    def measures(self) -> dict[str, Measure]:
        features = None if self.features is None else self.features.to(self.device)
        model = None if self.niqe_model is None else NIQEModel.load(self.niqe_model)
        return catalogue(self.scales, True, features, model)

    @cached_property
    def upscaler(self) -> Upscaler:
        return Upscaler(self.networks, self.device)

    @cached_property
    def _latest(self) -> dict[str, LoadedCase]:
        """The case that was loaded last: conditions of one case come one after the other."""
        return {}

    def _case(self, case: Case) -> LoadedCase:
        if case.name not in self._latest:
            self._latest.clear()
            self._latest[case.name] = load_case(case, self.load, self.device)
        return self._latest[case.name]

    def __call__(self, task: Task) -> list[Result]:
        """Compute and write what is missing.

        Raises:
            InputError: a case, or a method on it, that does not serve, named.
        """
        files = ResultFolder(self.folder)
        with one_thread():
            loaded = self._case(task.case)
            intensity = getattr(self.networks.normalise, "intensity", None)
            measured, grid = loaded.measured(
                task.condition, self.scale, self.seed, self.assumed_profile, self.device, intensity
            )
            if self.features is not None and task.digests:
                self._write_features(files, task, HR, loaded.reference.hr)
        results, shown = [], {}
        for method in self.methods:
            if method.name not in task.digests and method.name not in task.pictured:
                continue
            sr, result = self._result(files, task, loaded, measured, method)
            if result is not None:
                results.append(result)
            if method.name in task.pictured:
                shown[method.name] = voxels_of(sr / loaded.reference.unit)
            if self.after_each is not None:
                self.after_each()
        if shown:
            self._write_views(files, task, loaded, measured, grid, shown)
        return results

    def _result(
        self, files: ResultFolder, task: Task, loaded: LoadedCase, measured: Measurement, method: Method
    ) -> tuple[Tensor, Result | None]:
        self.upscaler.prepare(method)
        try:
            with measured_cost(self.device) as cost:
                if method.kind == "network":
                    sr = self.upscaler(method, measured)
                else:
                    with one_thread():
                        sr = self.upscaler(method, measured)
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
            digest=task.digests[method.name],
            case=task.case.name,
            subject=task.case.subject,
            degradation=task.condition.degradation,
            noise=task.condition.noise,
            condition=task.condition.name,
            method=method.name,
            figures=figures,
            reasons=reasons,
            seconds=round(cost.seconds, 4),
            peak_mib=None if cost.peak_mib is None else round(cost.peak_mib, 2),
            power_db=_finite(pair.power_db),
            hr_power_db=_finite(loaded.reference.power_db),
        )
        files.write(result)
        return sr, result

    def _write_features(self, files: ResultFolder, task: Task, name: str, image: Tensor) -> None:
        assert self.features is not None
        path = files.features_path(task.case.name, task.condition.name, name)
        write_arrays(path, {"features": sample_features(image, self.features.to(self.device))})

    def _write_views(
        self,
        files: ResultFolder,
        task: Task,
        loaded: LoadedCase,
        measured: Measurement,
        grid: Grid,
        shown: dict[str, np.ndarray],
    ) -> None:
        spacing = Grid(tuple(loaded.hr.shape[1:]), np.asarray(loaded.hr.affine)).spacing_mm
        arrays = draw_views(
            task.case.name,
            task.condition.name,
            Picture(voxels_of(measured.lr / loaded.reference.unit), grid.spacing_mm),
            Picture(voxels_of(loaded.reference.hr), spacing),
            loaded.reference.mask[0, 0].cpu().numpy(),
            shown,
        )
        write_arrays(files.views_path(task.case.name, task.condition.name), arrays)


def _finite(values: Sequence[float]) -> list[Any]:
    """The same with None for what JSON cannot hold."""
    return [value if np.isfinite(value) else None for value in values]
