"""The methods to compare: their names, and how each makes an image of a measurement."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from monai.inferers import Inferer
from torch import Tensor, nn

from medsr_monai.acquisition import SeparableAcquisition, back_project
from medsr_monai.evaluation.plan import HR, LR, Method
from medsr_monai.geometry import interpolate
from medsr_monai.networks import load_interpolated_weights, load_weights
from medsr_monai.system.errors import InputError
from medsr_monai.system.optional import require
from medsr_monai.upscaling import ConsistentInferer, StreamOrWholeInferer, consistency_regularisation

CLASSIC = {
    "nearest": "nearest neighbour",
    "linear": "linear interpolation",
    "cubic": "cubic B-spline",
    "lanczos": "Lanczos-3",
    "wavelet": "wavelet zero-padding",
    "back_projection": "iterative back-projection",
}
SYNONYMS = {"bicubic": "cubic"}
OURS = "sr"
BACK_PROJECTIONS = 20
SLAB = 16  # input slices per step of a streamed network
FAMILY = re.compile(r"[A-Za-z][\w-]*")
GRAMMAR = re.compile(rf"({FAMILY.pattern})(?:@([^@+]+))?(?:\+(exact|none))?")


def parse_method(
    text: str, models: Mapping[str, Any] = {}, perception: float = 0.0, consistency: str | float = "exact"
) -> Method:
    """Read ``NAME[@DIAL][+exact|+none]``.

    The text ``bicubic`` is taken as ``cubic``. Perception and consistency are those of ``sr`` where none are written.

    Raises:
        InputError: an unknown name, with those known; a dial that is none, or of a method that has none.
    """
    found = GRAMMAR.fullmatch(str(text).strip())
    family = SYNONYMS.get(found[1], found[1]) if found else ""
    if not found or family not in (*CLASSIC, OURS, *models):
        known = ", ".join((*CLASSIC, OURS, *models))
        raise InputError(f"method '{text}': known are {known}; sr takes a dial as sr@0.5, all take +exact or +none")
    dial, ending = found[2], found[3]
    default = consistency if family == OURS else models.get(family, {}).get("consistency", "none")
    chosen, named = (perception, "bundle's network") if family == OURS else (None, CLASSIC.get(family, family))
    if dial is not None:
        if family != OURS:
            raise InputError(f"method '{text}': only {OURS} has a dial")
        chosen = None
        with suppress(ValueError):
            chosen = float(dial)
        if chosen is None or not 0 <= chosen <= 1:
            raise InputError(f"method '{text}': the dial must be a number from 0 to 1")
    name = family + (f"@{dial}" if dial is not None else "") + (f"+{ending}" if ending else "")
    label = named + (f", perception {chosen:g}" if chosen else "")
    label += {"exact": ", projected", "none": ", not projected", None: ""}[ending]
    return Method(name, label, "classic" if family in CLASSIC else "network", chosen, ending or default)


def check_models(models: Any) -> None:
    """Refuse learned baselines that `Upscaler` cannot use.

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


@dataclass(frozen=True)
class Measurement:
    """What a method has to work with.

    Args:
        lr: (1, 1, *lr), in the unit of the image.
        hr_shape: spatial shape of the result.
        acquisition: how it was measured.
        assumed_profile: how a method believes it was measured.
    """

    lr: Tensor
    hr_shape: tuple[int, ...]
    acquisition: SeparableAcquisition
    assumed_profile: str

    @property
    def assumed(self) -> SeparableAcquisition:
        return SeparableAcquisition.from_profile(self.hr_shape, tuple(self.lr.shape[2:]), self.assumed_profile)


@dataclass
class Upscaler:
    """Make images of measurements by any of the methods; networks are read when one first needs them, and stay loaded.

    The fields are those of `Evaluation`. What can be streamed is streamed by default, the same way whatever memory is
    free, so that the bits are the same.
    """

    network: nn.Module
    weights: str | Path
    weights_gan: str | Path
    models: Mapping[str, Mapping[str, Any]]
    normalise: Callable[[dict], dict]
    restore: Callable[[dict], dict]
    inferer: Inferer | None
    device: torch.device
    _loaded: dict[tuple[str, float | None], nn.Module] = field(default_factory=dict, repr=False)

    def files(self, method: Method) -> list[Path]:
        """The files of weights that a method reads; none for an interpolation."""
        if method.family == OURS:
            return [Path(self.weights), *([Path(self.weights_gan)] if method.perception else [])]
        return [Path(self.models[method.family]["weights"])] if method.family in self.models else []

    def check(self, method: Method) -> None:
        """Find out now what would not work after an hour.

        Raises:
            InputError: weights that are missing or for another network, or a package that is not installed.
        """
        if method.kind == "network":
            self._load(method, "cpu")
        elif method.family == "wavelet":
            require("pywt", "evaluate")

    def _load(self, method: Method, device: str | torch.device) -> nn.Module:
        if method.family == OURS:
            network, dial = copy.deepcopy(self.network), method.perception or 0.0
            return load_interpolated_weights(network, self.weights, self.weights_gan, dial, device).eval()
        entry = self.models[method.family]
        return load_weights(copy.deepcopy(entry["network"]), entry["weights"], device).eval()

    def prepare(self, method: Method) -> None:
        """Load what a method needs, so that its time is that of the image alone."""
        key = (method.family, method.perception)
        if method.kind == "network" and key not in self._loaded:
            self._loaded[key] = self._load(method, self.device)

    @torch.no_grad()
    def __call__(self, method: Method, measured: Measurement) -> Tensor:
        """Upscale.

        Returns:
            (1, 1, *hr_shape), in the unit of the measurement.

        Raises:
            InputError: a result of another shape, or with voxels that are not finite.
        """
        self.prepare(method)
        sr = self._network(method, measured) if method.kind == "network" else self._classic(method, measured)
        if tuple(sr.shape[2:]) != measured.hr_shape:
            raise InputError(
                f"method '{method.name}': gives {tuple(sr.shape[2:])} voxels where {measured.hr_shape} are due; "
                "is the network for another scale?"
            )
        if not torch.isfinite(sr).all():
            raise InputError(
                f"method '{method.name}': gives NaN or infinite voxels; are its weights of a training gone wrong?"
            )
        return sr

    def _classic(self, method: Method, measured: Measurement) -> Tensor:
        if method.family == "back_projection":
            sr = back_project(measured.lr, measured.assumed, iterations=BACK_PROJECTIONS)
        else:
            sr = interpolate(measured.lr, measured.hr_shape, method.family)
        damping = consistency_regularisation(method.consistency)
        return sr if damping is None else measured.assumed.project(sr, measured.lr, damping)

    def _network(self, method: Method, measured: Measurement) -> Tensor:
        inferer = self.inferer or StreamOrWholeInferer(axis=0, slab=SLAB)
        damping = consistency_regularisation(method.consistency)
        data = self.normalise({"lr": measured.lr[0].cpu()})
        lr = torch.as_tensor(data["lr"])[None].to(self.device)
        network = self._loaded[method.family, method.perception]
        data["pred"] = ConsistentInferer(inferer, measured.assumed_profile, damping)(lr, network)[0]
        return torch.as_tensor(self.restore(data)["pred"])[None]
