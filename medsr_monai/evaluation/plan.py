"""The plan of an evaluation: every method on every case under every condition."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

LR, HR = "lr", "hr"
"""The names of the measurement and of the reference, beside those of the methods."""


@dataclass(frozen=True)
class Case:
    """An image to hide detail of and to find it again.

    Args:
        name: in tables and of folders.
        subject: whose it is; images of one subject count as one in intervals.
        file: the image.
        mask: which voxels count, a file; None for the foreground.
    """

    name: str
    subject: str
    file: Path
    mask: Path | None = None


@dataclass(frozen=True)
class Condition:
    """A simulated acquisition.

    Args:
        degradation: profile of the acquisition.
        noise: standard deviation of Rician noise as a share of the intensity window.
    """

    degradation: str
    noise: float

    @property
    def name(self) -> str:
        return f"{self.degradation}_noise{self.noise:g}"

    @property
    def label(self) -> str:
        """The name for people."""
        return f"{self.degradation}, noise {self.noise:g}"


@dataclass(frozen=True)
class Method:
    """A way to upscale.

    Args:
        name: as written, ``NAME[@DIAL][+exact|+none]``.
        label: the name for people.
        kind: ``classic`` or ``network``.
        perception: the dial of the bundle's network, None for other methods.
        consistency: of the projection onto the measurement: ``none``, ``exact`` or a damping.
    """

    name: str
    label: str
    kind: str
    perception: float | None
    consistency: str | float

    @property
    def family(self) -> str:
        """The name without the dial and the projection."""
        return re.split(r"[@+]", self.name)[0]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is compared, and what the figures depend on: the settings of `Evaluation`, checked and with their defaults.

    Args:
        ms_ssim_scales: as many as the smallest image holds.
        features: the feature network in words, or None.
    """

    cases: tuple[Case, ...]
    conditions: tuple[Condition, ...]
    methods: tuple[Method, ...]
    baseline: str
    scale: tuple[float, ...]
    seed: int
    assumed_profile: str | None
    ms_ssim_scales: int
    features: str | None
    pictures: int
    resamples: int
    device: str
    workers: int

    @property
    def names(self) -> list[str]:
        """Of the methods."""
        return [method.name for method in self.methods]

    def settings(self) -> dict[str, Any]:
        """What the manifest says of it, as JSON."""
        return {
            "methods": [asdict(method) for method in self.methods],
            "conditions": [asdict(condition) for condition in self.conditions],
            "cases": [{"case": case.name, "subject": case.subject, "file": case.file.name} for case in self.cases],
            "baseline": self.baseline,
            "pictures": self.pictures,
            "resamples": self.resamples,
            "workers": self.workers,
        }
