"""Measuring a high-resolution image at low resolution, in a given way or a random one."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform, Randomizable
from torch import Tensor

from medsr_monai.acquisition import PROFILES, SeparableAcquisition, kspace_matrix, profile_matrix
from medsr_monai.errors import InputError
from medsr_monai.geometry import Grid
from medsr_monai.transforms.intensity import intensity_window


class Acquired(MapTransform):
    """Measure a high-resolution volume at low resolution with a given acquisition; the grid follows.

    Args:
        keys: one key, the high-resolution image (C, *spatial) with an affine.
        lr_key: where to write the measurement, a MetaTensor with the low-resolution affine.
        scale: factor, or one per axis, not necessarily an integer.
        profile: ``box``, ``gaussian`` or ``kspace``.
        noise: standard deviation of Rician noise as a share of the robust intensity range.
        seed: of the noise.
        fwhm_mm: width of the slice profile; default is the low-resolution spacing.
        gap_mm: gap between slices.
    """

    def __init__(
        self,
        keys: KeysCollection,
        lr_key: str = "lr",
        scale: float | Sequence[float] = 2,
        profile: str = "box",
        noise: float = 0.0,
        seed: int = 0,
        fwhm_mm: float | None = None,
        gap_mm: float = 0.0,
    ) -> None:
        super().__init__(keys)
        if not 0 <= noise < float("inf"):
            raise InputError(f"noise {noise}: must be a share of the intensity range, 0 or more")
        self.lr_key = lr_key
        self.scale = scale
        self.profile = profile
        self.noise = noise
        self.seed = seed
        self.fwhm_mm = fwhm_mm
        self.gap_mm = gap_mm

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        hr = result[self.keys[0]]
        grid = Grid(tuple(hr.shape[1:]), np.asarray(hr.affine))
        lr_grid = grid.downscaled(self.scale)
        acquisition = SeparableAcquisition.from_profile(
            grid.shape, lr_grid.shape, self.profile, grid.spacing_mm, self.fwhm_mm, self.gap_mm
        )
        lr = acquisition.forward(hr.as_tensor()[None])[0]
        if self.noise:
            low, high = intensity_window(hr.as_tensor())
            lr = add_rician_noise(lr - low, self.noise * (high - low), self.seed) + low
        meta = {key: value for key, value in hr.meta.items() if key != "affine"}
        result[self.lr_key] = MetaTensor(lr, affine=torch.tensor(lr_grid.affine), meta=meta)
        return result


@dataclass(frozen=True)
class AcquisitionDraw:
    """One random acquisition: replaying it gives the same operator and the same kind of noise.

    Attributes:
        profiles: name of each axis' profile.
        widths: FWHM of each axis' profile in low-resolution voxels.
        noise: standard deviation of the Rician noise, in units of the normalised intensity.
        noise_seed: of the noise itself.
    """

    profiles: tuple[str, ...]
    widths: tuple[float, ...]
    noise: float
    noise_seed: int


@dataclass
class AcquisitionRange:
    """From what a random acquisition is drawn.

    Attributes:
        profiles: probability of each profile's name.
        mixed: probability that the axes draw their profiles independently.
        box_width: width of the box in low-resolution voxels, lowest and highest, used with probability
            ``box_width_prob``.
        box_width_prob: probability of another width than the whole voxel.
        gaussian_width: FWHM of the Gaussian in low-resolution voxels, lowest and highest.
        noise: standard deviation of Rician noise, lowest and highest.
        noise_prob: probability of any noise.
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
        """Draw the parameters of one acquisition for the given number of axes."""
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
                other = rng.random_sample() < self.box_width_prob
                widths.append(rng.uniform(*self.box_width) if other else 1.0)
        noise = rng.uniform(*self.noise) if rng.random_sample() < self.noise_prob else 0.0
        return AcquisitionDraw(tuple(drawn), tuple(widths), float(noise), int(rng.randint(2**31 - 1)))


def patch_matrix(profile: str, n_hr: int, n_lr: int, width: float) -> np.ndarray:
    """Acquisition matrix for a patch, (n_lr, n_hr) float64.

    A patch has no periodic boundary: its k-space is truncated as if the image were mirrored at its ends, without which
    the jump from one end to the other would ring through the patch.
    """
    if profile == "kspace":
        mirrored = kspace_matrix(2 * n_hr, 2 * n_lr)[:n_lr]
        return mirrored[:, :n_hr] + mirrored[:, n_hr:][:, ::-1]
    return profile_matrix(profile, n_hr, n_lr, fwhm=width * n_hr / n_lr)


def add_rician_noise(image: Tensor, sigma: float, seed: int) -> Tensor:
    """Magnitude of the image with complex Gaussian noise, as a magnitude MR image has it.

    Args:
        image: any shape.
        sigma: standard deviation of each of the two components, in the image's units.
        seed: of the noise.

    Reference:
        Gudbjartsson and Patz, doi:10.1002/mrm.1910340618
    """
    if sigma == 0:
        return image
    rng = np.random.default_rng(seed)
    real, imaginary = torch.as_tensor(rng.standard_normal((2, *image.shape), dtype=np.float32) * np.float32(sigma))
    return torch.sqrt((image + real).square() + imaginary.square())


class RandAcquired(Randomizable, MapTransform):
    """Measure a high-resolution patch at low resolution with a randomly drawn acquisition.

    Writes the measurement under ``lr_key``, and what the projection needs: ``matrix_0``, ``matrix_1``, ... of shape
    (n_lr, n_hr) float32, and ``regularisation``, the Tikhonov damping that suits the noise.

    Args:
        keys: one key, the high-resolution patch (C, *spatial).
        lr_key: where to write the measurement.
        scale: integer factor per axis.
        noise_to_prior: damping is (noise / this)^2: the standard deviation of what the network leaves unexplained.
        gaussian_floor: noise assumed behind a Gaussian profile at least, whose inverse amplifies what hardly was
            measured.
        ranges: fields of :class:`AcquisitionRange`.
    """

    def __init__(
        self,
        keys: KeysCollection,
        lr_key: str = "lr",
        scale: Sequence[int] = (2, 2, 2),
        noise_to_prior: float = 0.03,
        gaussian_floor: float = 0.002,
        **ranges: Any,
    ) -> None:
        super().__init__(keys)
        self.lr_key = lr_key
        self.scale = tuple(scale)
        self.noise_to_prior = noise_to_prior
        self.gaussian_floor = gaussian_floor
        self.range = AcquisitionRange(**ranges)
        self.drawn: AcquisitionDraw | None = None

    def randomize(self, data: Any = None) -> None:
        self.drawn = self.range.draw(self.R, len(self.scale))

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        self.randomize()
        assert self.drawn is not None
        return self.apply(data, self.drawn)

    def apply(self, data: Mapping[Hashable, Any], drawn: AcquisitionDraw) -> dict[Hashable, Any]:
        """Measure with a given draw."""
        result = dict(data)
        hr = torch.as_tensor(result[self.keys[0]])
        hr = hr.as_tensor() if isinstance(hr, MetaTensor) else hr
        matrices = []
        for axis, (n_hr, factor) in enumerate(zip(hr.shape[1:], self.scale, strict=True)):
            if n_hr % factor:
                raise InputError(f"axis {axis}: a patch of {n_hr} voxels is not a multiple of the scale {factor}")
            if factor == 1:
                matrices.append(np.eye(n_hr))
            else:
                matrices.append(patch_matrix(drawn.profiles[axis], n_hr, n_hr // factor, drawn.widths[axis]))
        tensors = [torch.as_tensor(m, dtype=torch.float32) for m in matrices]
        lr = SeparableAcquisition(tensors).forward(hr[None])[0]
        result[self.keys[0]] = hr
        result[self.lr_key] = add_rician_noise(lr, drawn.noise, drawn.noise_seed)
        result.update({f"matrix_{axis}": matrix for axis, matrix in enumerate(tensors)})
        noise = max(drawn.noise, self.gaussian_floor) if "gaussian" in drawn.profiles else drawn.noise
        result["regularisation"] = torch.tensor((noise / self.noise_to_prior) ** 2, dtype=torch.float32)
        return result
