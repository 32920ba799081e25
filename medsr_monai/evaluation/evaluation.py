"""Every method on every case under every condition, as one table that others can check."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from monai.inferers import Inferer
from torch import nn
from tqdm import tqdm

from medsr_monai.acquisition import PROFILES
from medsr_monai.evaluation.cases import (
    Case,
    Condition,
    Load,
    check_cases,
    find_cases,
    noise_seed,
    parse_conditions,
)
from medsr_monai.evaluation.conventions import conventions, notes
from medsr_monai.evaluation.distributions import describe, frechet_of_files
from medsr_monai.evaluation.methods import (
    CLASSIC,
    FAMILY,
    OURS,
    SYNONYMS,
    Networks,
    parse_method,
    parse_methods,
)
from medsr_monai.evaluation.processes import cores, spread
from medsr_monai.evaluation.record.manifest import EvaluationRecord, identity_of
from medsr_monai.evaluation.record.results import HR, Result, ResultFolder, digest_of, read_arrays
from medsr_monai.evaluation.record.views import LR, shown_methods
from medsr_monai.evaluation.record.writing import (
    COSTS,
    markdown,
    write_cases,
    write_spectra,
    write_summary,
    write_text,
)
from medsr_monai.evaluation.scoring import Scorer, Task
from medsr_monai.evaluation.summary import CONFIDENCE, summarise
from medsr_monai.metrics import SSIM_WINDOW, NIQEModel
from medsr_monai.metrics.catalogue import Measure, catalogue, fitting_scales
from medsr_monai.system.errors import InputError
from medsr_monai.system.provenance import file_digest
from medsr_monai.upscaling import consistency_regularisation


@dataclass(kw_only=True)
class Evaluation:
    """Compare methods on cases whose detail is hidden by a simulated acquisition.

    Args:
        output_dir: the folder to write: see docs/evaluation.md.
        cases: image files.
        network: the bundle's, any weights.
        weights: of its fidelity stage.
        weights_gan: of its adversarial stage.
        load: turns a file name under ``hr`` into an image (1, X, Y, Z), cropped to a multiple of the scale.
        normalise: of ``lr``, as networks expect it.
        restore: undoes it for ``pred``.
        scale: integer factor per axis.
        methods: ``NAME[@DIAL][+exact|+none]``.
        models: learned baselines by name: ``network``, ``weights`` and, if they are to be projected, ``consistency``.
        degradations: simulated acquisitions, each with every noise.
        noises: standard deviations of Rician noise as shares of the robust intensity range.
        baseline: method that differences are taken to; None for cubic, or the first one where it is not asked for.
        assumed_profile: acquisition that projections assume; None for the simulated one.
        consistency: of ``sr``: ``exact``, ``none`` or a damping.
        perception: dial of ``sr``.
        subjects: subject by file name, for files whose name does not tell.
        masks: a folder of masks with the names of the images, or one for one image; None for the foreground.
        perceptual_features: a feature network for the perceptual and the Fréchet distance.
        niqe_model: a file that ``medsr fit-niqe`` wrote.
        inferer: runs a network; None to stream those that can be, and run others on the whole image.
        workers: processes; None for one a core, or one on a GPU.
        pictures: cases to keep pictures of.
        resamples: of the bootstrap.
        seed: of noise and bootstrap.
        resume: use results that are there.
        device: to compute on.
        bundle_root: of which name and version are written down.
        progress: show a bar.

    Raises:
        InputError: a setting that cannot serve.
    """

    output_dir: str | Path
    cases: Sequence[str | Path]
    network: nn.Module
    weights: str | Path
    weights_gan: str | Path
    load: Load
    normalise: Callable[[dict], dict]
    restore: Callable[[dict], dict]
    scale: Sequence[int]
    methods: Sequence[str] = ("cubic", "sr")
    models: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    degradations: Sequence[str] = ("box",)
    noises: Sequence[float] = (0.0,)
    baseline: str | None = None
    assumed_profile: str | None = None
    consistency: str | float = "exact"
    perception: float = 0.0
    subjects: Mapping[str, str | None] | None = None
    masks: str | Path | None = None
    perceptual_features: nn.Module | None = None
    niqe_model: str | Path | None = None
    inferer: Inferer | None = None
    workers: int | None = None
    pictures: int = 10
    resamples: int = 2000
    seed: int = 0
    resume: bool = True
    device: str | torch.device = "cpu"
    bundle_root: str | Path | None = None
    progress: bool = True

    def __post_init__(self) -> None:
        self.folder = Path(self.output_dir)
        self.device = torch.device(self.device)
        self.parsed = parse_methods(
            self.methods, _checked_models(self.models), perception=self.perception, consistency=self.consistency
        )
        self.conditions = parse_conditions(self.degradations, self.noises)
        self.baseline_name = self._baseline()
        consistency_regularisation(self.consistency)
        if self.assumed_profile is not None and self.assumed_profile not in PROFILES:
            raise InputError(f"assumed_profile '{self.assumed_profile}': choose among {', '.join(PROFILES)}, or null")
        if self.workers is not None and self.workers > 1 and self.device.type == "cuda":
            raise InputError(f"workers {self.workers}: one process uses a GPU; leave 'workers' out")
        self.found = find_cases(self.cases, self.subjects, self.masks)
        self.files = ResultFolder(self.folder)

    def _baseline(self) -> str:
        names = [method.name for method in self.parsed]
        if self.baseline is None:
            return "cubic" if "cubic" in names else names[0]
        name = parse_method(self.baseline, self.models, self.perception, self.consistency).name
        if name not in names:
            raise InputError(f"baseline '{self.baseline}': is not among the methods {', '.join(names)}; add it to them")
        return name

    def check(self) -> None:
        """Look at everything that can be looked at before anything is written.

        Raises:
            InputError: a file that is missing or does not serve, or a folder that holds another evaluation.
        """
        self.scales = min(fitting_scales(shape) for shape in check_cases(self.found, self.scale, SSIM_WINDOW))
        self.niqe = None if self.niqe_model is None else NIQEModel.load(self.niqe_model)
        networks = self._networks()
        weights = {}
        for method in self.parsed:
            networks.check(method)
            if method.kind == "network":
                weights[method.name] = {file.name: file_digest(file) for file in networks.files(method)}
        self.identity = identity_of(self, weights)
        self.record = EvaluationRecord(self.folder, self.identity, self.resume)
        self.record.check()

    def run(self) -> str:
        """Compute what is missing, write all tables, print the summary.

        Returns:
            The summary as Markdown.

        Raises:
            InputError: see `check`; a case, or a method on it, that does not serve.
        """
        self.check()
        self.record.begin(self._settings(), str(self.device), self.bundle_root)
        with self.record.ending():
            text = self._write(self._all_results())
        print(text, flush=True)
        return text

    def _all_results(self) -> list[Result]:
        """Those that are there, and those that are missing, computed, in the order of the table."""
        self.files.sweep()
        digests = self._digests()
        known = {key: self._known(key, digest) for key, digest in digests.items()} if self.resume else {}
        tasks = self._tasks(digests, {key for key, result in known.items() if result is not None})
        try:
            fresh = {(r.case, r.condition, r.method): r for r in self._compute(tasks)}
        finally:
            self.files.sweep()
        self.files.keep_views({self.files.views_path(case, condition) for case, condition, _ in digests})
        results = [fresh.get(key) or known[key] for key in digests]
        return [result for result in results if result is not None]

    def _known(self, key: tuple[str, str, str], digest: str) -> Result | None:
        """A result that is there, with the features that a distance of distributions needs."""
        needed = [] if self.perceptual_features is None else [key, (*key[:2], HR)]
        complete = all(self.files.features_path(*each).is_file() for each in needed)
        result = self.files.read(*key, digest) if complete else None
        return result if result is not None and result.figures.keys() == self._measures().keys() else None

    def _networks(self) -> Networks:
        return Networks(
            self.network, self.weights, self.weights_gan, self.models, self.normalise, self.restore, self.inferer
        )

    def _measures(self) -> dict[str, Measure]:
        return catalogue(self.scales, True, self.perceptual_features, self.niqe)

    def _settings(self) -> dict[str, Any]:
        return {
            "methods": [asdict(method) for method in self.parsed],
            "conditions": [asdict(condition) for condition in self.conditions],
            "cases": [{"case": c.name, "subject": c.subject, "file": c.file.name} for c in self.found],
            "baseline": self.baseline_name,
            "pictures": self.pictures,
            "resamples": self.resamples,
            "workers": self.processes(),
            **self.identity,
        }

    def _digests(self) -> dict[tuple[str, str, str], str]:
        """Of every result, by case, condition and method, in the order of the table."""
        measures = {m.name: m.definition for m in self._measures().values()}
        digests = {}
        for case in self.found:
            inputs = [case.subject, *(file_digest(file) for file in (case.file, case.mask) if file is not None)]
            for condition in self.conditions:
                for method in self.parsed:
                    content: list[Any] = [self.identity, measures, inputs, asdict(condition), asdict(method)]
                    if condition.noise:
                        content.append(noise_seed(self.seed, case.name))
                    digests[case.name, condition.name, method.name] = digest_of(content)
        return digests

    def _tasks(self, digests: Mapping[tuple[str, str, str], str], done: set[tuple[str, str, str]]) -> list[Task]:
        tasks = []
        for number, case in enumerate(self.found):
            for condition in self.conditions:
                keys = {m.name: (case.name, condition.name, m.name) for m in self.parsed}
                missing = {name: digests[key] for name, key in keys.items() if key not in done}
                wanted = number < self.pictures and condition == self.conditions[0]
                task = Task(case, condition, missing, self._pictured(case, condition, missing) if wanted else ())
                if task.digests or task.pictured:
                    tasks.append(task)
        return tasks

    def _pictured(self, case: Case, condition: Condition, missing: Mapping[str, str]) -> tuple[str, ...]:
        names = [method.name for method in self.parsed]
        shown = shown_methods(read_arrays(self.files.views_path(case.name, condition.name)))
        return () if shown == set(names) and not missing else tuple(names)

    def processes(self) -> int:
        device = torch.device(self.device)
        wanted = self.workers or (1 if device.type == "cuda" else cores())
        return max(1, min(wanted, len(self.found) * len(self.conditions)))

    def _compute(self, tasks: Sequence[Task]) -> list[Result]:
        scorer = Scorer(
            self.folder,
            self._networks(),
            self.parsed,
            self.load,
            self.scale,
            self.seed,
            self.assumed_profile,
            self.scales,
            torch.device(self.device),
            self.perceptual_features,
            None if self.niqe_model is None else Path(self.niqe_model),
        )
        paths = [self.files.path(t.case.name, t.condition.name, name) for t in tasks for name in t.digests]
        began = time.time_ns()
        results: list[Result] = []
        with tqdm(total=len(paths), desc="evaluating", unit="result", disable=not self.progress) as bar:

            def look() -> None:
                bar.update(sum(_is_newer(path, began) for path in paths) - bar.n)

            workers = min(self.processes(), max(1, len(tasks)))
            scorer.after_each = look if workers == 1 else None
            with closing(spread(scorer, tasks, workers, look)) as parts:  # Ctrl-C anywhere ends the processes
                for part in parts:
                    results += part
            look()
        return results

    def _write(self, results: Sequence[Result]) -> str:
        measures = self._measures()
        head = {
            "baseline": self.baseline_name,
            "scale": list(self.scale),
            "conventions": conventions(self, results),
            "methods": {
                m.name: {"label": m.label, "kind": m.kind, "perception": m.perception, "consistency": m.consistency}
                for m in self.parsed
            },
            "conditions": [{"name": c.name, **asdict(c)} for c in self.conditions],
        }
        write_cases(self.folder, head, measures, results)
        rows = summarise(results, [*measures, *COSTS], self.baseline_name, self.resamples, self.seed)
        sets = [] if self.perceptual_features is None else self._distances(self.perceptual_features)
        statistics: dict[str, Any] = {
            "baseline": self.baseline_name,
            "confidence": CONFIDENCE,
            "resamples": self.resamples,
            "seed": self.seed,
        }
        write_summary(self.folder, statistics, rows, sets)
        write_spectra(self.folder, results)
        text = markdown(rows, sets, measures, notes(self, results))
        write_text(text, self.folder / "summary.md")
        return text

    def _distances(self, features: nn.Module) -> list[dict[str, Any]]:
        sets = []
        for condition in self.conditions:
            hr = [self.files.features_path(case.name, condition.name, HR) for case in self.found]
            for method in self.parsed:
                sr = [self.files.features_path(case.name, condition.name, method.name) for case in self.found]
                head = {"condition": condition.name, "method": method.name, "measure": "frechet_distance"}
                sets.append({**head, **frechet_of_files(sr, hr, describe(features))})
        return sets


def _is_newer(path: Path, time_ns: int) -> bool:
    try:
        return path.stat().st_mtime_ns >= time_ns
    except OSError:
        return False


def _checked_models(models: Any) -> Mapping[str, Mapping[str, Any]]:
    """Learned baselines as `Networks` needs them.

    Raises:
        InputError: another form.
    """
    if not isinstance(models, Mapping):
        raise InputError(f"models '{models}': must be 'network' and 'weights' by name")
    taken = (*CLASSIC, *SYNONYMS, OURS, LR, HR)
    for name, entry in models.items():
        if name in taken or not isinstance(name, str) or not FAMILY.fullmatch(name):
            raise InputError(
                f"models '{name}': choose a name of letters, digits, _ and -, other than {', '.join(taken)}"
            )
        if not isinstance(entry, Mapping) or not isinstance(entry.get("network"), nn.Module) or "weights" not in entry:
            raise InputError(f"models '{name}': needs a 'network' (with _target_) and its 'weights', a file")
        consistency_regularisation(entry.get("consistency", "none"))
    return models
