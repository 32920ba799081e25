"""A random acquisition: its parameters are drawn from given ranges, and can be replayed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from medsr_monai.acquisition.profiles import PROFILES, kspace_matrix, profile_matrix
from medsr_monai.system.errors import InputError


@dataclass(frozen=True)
class AcquisitionDraw:
    """The parameters of one random acquisition; replaying them gives the same operator and the same noise.

    Attributes:
        profiles: profile name of each axis.
        widths: FWHM of each axis' profile in low-resolution voxels.
        noise: standard deviation of the Rician noise, in units of the normalised intensity.
        noise_seed: seed of the noise.
    """

    profiles: tuple[str, ...]
    widths: tuple[float, ...]
    noise: float
    noise_seed: int


@dataclass
class AcquisitionRange:
    """The ranges from which the parameters of a random acquisition are drawn.

    Attributes:
        profiles: probability of each profile name.
        mixed: probability that the axes draw their profiles independently.
        box_width: width of the box in low-resolution voxels, lowest and highest, used with probability
            ``box_width_prob``.
        box_width_prob: probability of another width than the whole voxel.
        gaussian_width: FWHM of the Gaussian in low-resolution voxels, lowest and highest.
        noise: standard deviation of the Rician noise, lowest and highest.
        noise_prob: probability of any noise.

    Raises:
        InputError: a profile is unknown, or there is none.
    """

    profiles: Mapping[str, float] = field(default_factory=lambda: {"box": 0.6, "gaussian": 0.2, "kspace": 0.2})
    mixed: float = 0.2
    box_width: tuple[float, float] = (0.7, 1.3)
    box_width_prob: float = 0.15
    gaussian_width: tuple[float, float] = (0.6, 1.3)
    noise: tuple[float, float] = (0.0, 0.03)
    noise_prob: float = 0.3

    def __post_init__(self) -> None:
        unknown = set(self.profiles) - set(PROFILES)
        if unknown or not self.profiles:
            raise InputError(f"profiles {sorted(unknown)}: choose among {', '.join(PROFILES)}")

    def draw(self, rng: np.random.RandomState, axes: int) -> AcquisitionDraw:
        """Draw the parameters of one acquisition of a number of spatial axes; ``rng`` advances."""
        names = sorted(self.profiles)
        weights = np.array([self.profiles[name] for name in names], dtype=float)
        drawn = [str(name) for name in rng.choice(names, size=axes, p=weights / weights.sum())]
        if rng.random_sample() >= self.mixed:
            drawn = drawn[:1] * axes
        widths = []
        for name in drawn:
            if name == "gaussian":
                widths.append(rng.uniform(*self.gaussian_width))
            else:
                widths.append(rng.uniform(*self.box_width) if rng.random_sample() < self.box_width_prob else 1.0)
        noise = rng.uniform(*self.noise) if rng.random_sample() < self.noise_prob else 0.0
        return AcquisitionDraw(tuple(drawn), tuple(widths), float(noise), int(rng.randint(2**31 - 1)))


def patch_matrix(profile: str, n_hr: int, n_lr: int, width: float) -> np.ndarray:
    """Build the acquisition matrix of one axis for a patch.

    A patch has no periodic boundary, so its k-space is truncated as if the image were mirrored at its ends. Otherwise
    the jump between the two ends would ring through the patch. The arguments are those of :func:`profile_matrix`, but
    the width is in low-resolution voxels.
    """
    if profile == "kspace":
        mirrored = kspace_matrix(2 * n_hr, 2 * n_lr)[:n_lr]
        return mirrored[:, :n_hr] + mirrored[:, n_hr:][:, ::-1]
    return profile_matrix(profile, n_hr, n_lr, fwhm=width * n_hr / n_lr)
