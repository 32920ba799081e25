"""Measuring a high-resolution image at low resolution, in a given way or a random one."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform, Randomizable

from medsr_monai.acquisition import (
    AcquisitionDraw,
    AcquisitionRange,
    IntensityRule,
    RobustRange,
    SeparableAcquisition,
    add_rician_noise,
    patch_matrix,
)
from medsr_monai.geometry import N_AXES, Grid
from medsr_monai.system.errors import InputError


class Acquired(MapTransform):
    """Measure a high-resolution volume, or one slice, at low resolution with a given acquisition; the grid follows.

    Args:
        keys: one key, the high-resolution image (C, X, Y, Z) or (C, X, Y) with the affine of a volume.
        lr_key: where to write the measurement, a MetaTensor with the low-resolution affine.
        scale: factor, or one per axis, not necessarily an integer.
        profile: ``box``, ``gaussian`` or ``kspace``.
        noise: standard deviation of Rician noise as a share of the image's intensity window.
        seed: of the noise.
        fwhm_mm: width of the slice profile; default is the low-resolution spacing.
        gap_mm: gap between slices.
        intensity: rule that finds the window; default is a robust range.
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
        intensity: IntensityRule | None = None,
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
        self.intensity = RobustRange() if intensity is None else intensity

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        hr = result[self.keys[0]]
        shape, axes = tuple(hr.shape[1:]), hr.ndim - 1
        grid = Grid((*shape, 1)[:N_AXES], np.asarray(hr.affine))
        scale = (self.scale,) * axes if isinstance(self.scale, (int, float)) else tuple(self.scale)
        lr_grid = grid.downscaled(scale if axes == N_AXES else (*scale, 1))
        acquisition = SeparableAcquisition.from_profile(
            shape, lr_grid.shape[:axes], self.profile, grid.spacing_mm[:axes], self.fwhm_mm, self.gap_mm
        )
        lr = acquisition.forward(hr.as_tensor()[None])[0]
        if self.noise:
            low, high = self.intensity.window(hr.as_tensor().detach().cpu().numpy())
            lr = add_rician_noise(lr - low, self.noise * (high - low), self.seed) + low
        meta = {key: value for key, value in hr.meta.items() if key != "affine"}
        result[self.lr_key] = MetaTensor(lr, affine=torch.tensor(lr_grid.affine), meta=meta)
        return result


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
