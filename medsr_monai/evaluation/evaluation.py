"""Every method on every case under every condition, as one table that others can check."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import torch
from monai.inferers import Inferer
from torch import nn
from tqdm import tqdm

from medsr_monai.acquisition import PROFILES
from medsr_monai.evaluation.cases import Load, check_cases, find_cases, noise_seed, parse_conditions
from medsr_monai.evaluation.methods import Upscaler, check_models, parse_method
from medsr_monai.evaluation.plan import HR, Plan
from medsr_monai.evaluation.processes import cores, spread
from medsr_monai.evaluation.record.folder import ResultFolder, digest_of
from medsr_monai.evaluation.record.manifest import ManifestWriter
from medsr_monai.evaluation.record.rows import COSTS, Result, SetDistance
from medsr_monai.evaluation.record.tables import CaseTable, Spectra, Summary
from medsr_monai.evaluation.record.text import conventions, markdown, notes
from medsr_monai.evaluation.record.views import shown_methods
from medsr_monai.evaluation.scoring import Scorer, Task
from medsr_monai.evaluation.summary import describe, frechet_of_files, state_digest, summarise
from medsr_monai.metrics import SSIM_WINDOW, NIQEModel
from medsr_monai.metrics.bootstrap import CONFIDENCE
from medsr_monai.metrics.catalogue import catalogue, fitting_scales
from medsr_monai.system.errors import InputError
from medsr_monai.system.json_files import write_text
from medsr_monai.system.provenance import file_digest
from medsr_monai.system.version import __version__
from medsr_monai.upscaling.consistent import consistency_regularisation, refuse_identity

Key = tuple[str, str, str]
"""Names of a case, a condition and a method."""


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
        scale: factor per axis of the network.
        axes: which axes of an image those are, ``image`` or ``slice``; see :func:`medsr_monai.network_orientation`.
        methods: ``NAME[@DIAL][+exact|+none]``.
        models: learned baselines by name: ``network``, ``weights`` and, if they are to be projected, ``consistency``.
        degradations: simulated acquisitions, each with every noise.
        noises: standard deviations of Rician noise as shares of the intensity window.
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
    scale: Sequence[float]
    axes: str = "image"
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
        check_models(self.models)
        self.folder = Path(self.output_dir)
        self.files = ResultFolder(self.folder)
        self.device = torch.device(self.device)
        self.parse = partial(parse_method, models=self.models, perception=self.perception, consistency=self.consistency)
        if isinstance(self.methods, str) or not isinstance(self.methods, Sequence) or not self.methods:
            raise InputError(f"methods '{self.methods}': must be a list of at least one, e.g. cubic,sr")
        self.parsed = list({method.name: method for method in map(self.parse, self.methods)}.values())
        self.conditions = parse_conditions(self.degradations, self.noises)
        names = [method.name for method in self.parsed]
        default = "cubic" if "cubic" in names else names[0]
        self.baseline_name = default if self.baseline is None else self.parse(self.baseline).name
        if self.baseline_name not in names:
            raise InputError(f"baseline '{self.baseline}': is not among the methods {', '.join(names)}; add it to them")
        refuse_identity(self.scale, consistency_regularisation(self.consistency))
        if self.assumed_profile is not None and self.assumed_profile not in PROFILES:
            raise InputError(f"assumed_profile '{self.assumed_profile}': choose among {', '.join(PROFILES)}, or null")
        if self.workers is not None and self.workers > 1 and self.device.type == "cuda":
            raise InputError(f"workers {self.workers}: one process uses a GPU; leave 'workers' out")
        self.found = find_cases(self.cases, self.subjects, self.masks)

    def check(self) -> None:
        """Look at everything that can be looked at before anything is written.

        Raises:
            InputError: a file that is missing or does not serve, or a folder that holds another evaluation.
        """
        self.plan = self._plan()
        niqe = None if self.niqe_model is None else NIQEModel.load(self.niqe_model)
        self.measures = catalogue(self.plan.ms_ssim_scales, True, self.perceptual_features, niqe)
        self.upscaler = Upscaler(
            self.network,
            self.weights,
            self.weights_gan,
            self.models,
            self.normalise,
            self.restore,
            self.inferer,
            torch.device(self.device),
        )
        for method in self.parsed:
            self.upscaler.check(method)
        self.identity = self._identity()
        self.manifest = ManifestWriter(self.folder, self.identity, self.resume)
        self.manifest.check()

    def _plan(self) -> Plan:
        features = self.perceptual_features
        device = torch.device(self.device)
        wanted = self.workers or (1 if device.type == "cuda" else cores())
        return Plan(
            cases=tuple(self.found),
            conditions=tuple(self.conditions),
            methods=tuple(self.parsed),
            baseline=self.baseline_name,
            scale=tuple(self.scale),
            seed=self.seed,
            assumed_profile=self.assumed_profile,
            ms_ssim_scales=min(map(fitting_scales, check_cases(self.found, self.scale, self.axes, SSIM_WINDOW))),
            features=None if features is None else describe(features),
            pictures=self.pictures,
            resamples=self.resamples,
            device=str(device),
            workers=max(1, min(wanted, len(self.found) * len(self.conditions))),
        )

    def _identity(self) -> dict[str, Any]:
        """What every figure depends on, whichever cases, conditions and methods there are."""
        network = self.perceptual_features
        features = None if network is None else f"{describe(network)}, weights {state_digest(network)}"
        learned = [method for method in self.parsed if method.kind == "network"]
        return {
            "medsr_monai": __version__,
            "scale": list(self.scale),
            "axes": self.axes,
            "intensity": str(getattr(self.normalise, "intensity", None)),
            "seed": self.seed,
            "assumed_profile": self.assumed_profile,
            "consistency": self.consistency,
            "perception": self.perception,
            "network": str(self.network),
            "models": {name: str(entry["network"]) for name, entry in self.models.items()},
            "weights": {m.name: {file.name: file_digest(file) for file in self.upscaler.files(m)} for m in learned},
            "masks": None if self.masks is None else Path(self.masks).name,
            "perceptual_features": features,
            "niqe_model": None if self.niqe_model is None else file_digest(Path(self.niqe_model)),
        }

    def run(self) -> str:
        """Compute what is missing, write all tables, print the summary.

        Returns:
            The summary as Markdown.

        Raises:
            InputError: see `check`; a case, or a method on it, that does not serve.
        """
        self.check()
        self.manifest.begin({**self.plan.settings(), **self.identity}, self.plan.device, self.bundle_root)
        with self.manifest.ending():
            text = self._write(self._all_results())
        print(text, flush=True)
        return text

    def _all_results(self) -> list[Result]:
        """Those that are there, and those that are missing, computed, in the order of the table."""
        self.files.sweep()
        digests = self._digests()
        known = {key: self._known(key, digest) for key, digest in digests.items()} if self.resume else {}
        results = {key: result for key, result in known.items() if result is not None}
        tasks = self._tasks({key: digest for key, digest in digests.items() if key not in results})
        scorer = Scorer(self.plan, self.folder, self.upscaler, self.load, self.perceptual_features, self.niqe_model)
        workers = min(self.plan.workers, max(1, len(tasks)))
        try:
            with closing(spread(scorer, tasks, workers)) as parts:  # Ctrl-C anywhere ends the processes
                bar = tqdm(parts, "evaluating", len(tasks), unit="case and condition", disable=not self.progress)
                results |= {result.key: result for part in bar for result in part}
        finally:
            self.files.sweep()
        self.files.keep_views({self.files.views_path(case, condition) for case, condition, _ in digests})
        return [results[key] for key in digests]

    def _known(self, key: Key, digest: str) -> Result | None:
        """A result that is there, with the features that a distance of distributions needs."""
        needed = [] if self.perceptual_features is None else [key, (*key[:2], HR)]
        complete = all(self.files.features_path(*each).is_file() for each in needed)
        result = self.files.read(*key, digest) if complete else None
        return result if result is not None and result.figures.keys() == self.measures.keys() else None

    def _digests(self) -> dict[Key, str]:
        """Of every result, in the order of the table."""
        definitions = {measure.name: measure.definition for measure in self.measures.values()}
        digests = {}
        for case in self.plan.cases:
            inputs = [case.subject, *(file_digest(file) for file in (case.file, case.mask) if file is not None)]
            for condition in self.plan.conditions:
                for method in self.plan.methods:
                    content: list[Any] = [self.identity, definitions, inputs, asdict(condition), asdict(method)]
                    if condition.noise:
                        content.append(noise_seed(self.seed, case.name))
                    digests[case.name, condition.name, method.name] = digest_of(content)
        return digests

    def _tasks(self, missing: Mapping[Key, str]) -> list[Task]:
        """What is left to do, given the digests of what is missing; pictures are kept under the first condition."""
        tasks, names = [], self.plan.names
        for number, (case, condition) in enumerate(product(self.plan.cases, self.plan.conditions)):
            part = (case.name, condition.name)
            digests = {name: missing[key] for name in names if (key := (*part, name)) in missing}
            pictured = number < self.pictures * len(self.conditions) and condition == self.conditions[0]
            if pictured and not digests:
                pictured = shown_methods(self.files.views_path(*part)) != set(names)
            if digests or pictured:
                tasks.append(Task(case, condition, digests, pictured))
        return tasks

    def _write(self, results: Sequence[Result]) -> str:
        plan = self.plan
        table = CaseTable(
            baseline=plan.baseline,
            scale=plan.scale,
            conventions=tuple(conventions(plan, results)),
            methods={method.name: method for method in plan.methods},
            conditions={condition.name: condition for condition in plan.conditions},
            measures=self.measures,
            results=tuple(results),
        )
        estimates = summarise(results, [*self.measures, *COSTS], plan.baseline, plan.resamples, plan.seed)
        sets = tuple(self._distances(plan.features)) if plan.features is not None else ()
        summary = Summary(plan.baseline, CONFIDENCE, plan.resamples, plan.seed, estimates, sets)
        for part in (table, summary, Spectra.of(results)):
            part.write(self.folder)
        text = markdown(estimates, sets, self.measures, [*notes(plan, results), f"files: {self.folder}"])
        write_text(text, self.folder / "summary.md")
        return text

    def _distances(self, features: str) -> Iterator[SetDistance]:
        """Fréchet distances between the features of all results and of all references."""
        for condition in self.plan.conditions:
            for method in self.plan.names:
                sr, hr = (
                    [self.files.features_path(case.name, condition.name, image) for case in self.plan.cases]
                    for image in (method, HR)
                )
                found = frechet_of_files(sr, hr, features)
                yield SetDistance(condition, method, "frechet_distance", *found)
