"""Intensities: to the range that networks expect and back, and less noise."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform

from medsr_monai.acquisition import IntensityRule, RobustRange


class NormaliseIntensityd(MapTransform):
    """Map every channel's intensity window to [0, 1], without clipping; remember it under ``KEY_window``.

    Args:
        keys: images (C, *spatial).
        intensity: rule that finds the window of a channel; default is a robust range.
    """

    def __init__(self, keys: KeysCollection, intensity: IntensityRule | None = None) -> None:
        super().__init__(keys)
        self.intensity = RobustRange() if intensity is None else intensity

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        for key in self.keys:
            image = result[key]
            window = torch.tensor([self.intensity.window(channel.detach().cpu().numpy()) for channel in image])
            low, high = (window[:, i].reshape(-1, *[1] * (image.ndim - 1)) for i in (0, 1))
            result[key] = (image - low) / (high - low)
            result[f"{key}_window"] = window
        return result


class RestoreIntensityd(MapTransform):
    """Undo :class:`NormaliseIntensityd`.

    Args:
        keys: images (C, *spatial).
        source: key of the image that was normalised.
        gain_only: scale without moving, as differences and deviations need it.
        allow_missing_keys: skip a key that is absent.
    """

    def __init__(
        self, keys: KeysCollection, source: str, gain_only: bool = False, allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.source = source
        self.gain_only = gain_only

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        window = result[f"{self.source}_window"]
        for key in self.key_iterator(result):
            image = result[key]
            low, high = (window[:, i].reshape(-1, *[1] * (image.ndim - 1)).to(image.device) for i in (0, 1))
            result[key] = image * (high - low) + (0 if self.gain_only else low)
        return result


class DenoiseCurvatureFlowd(MapTransform):
    """Reduce the noise of training targets by curvature flow, which keeps edges.

    Args:
        keys: images (C, *spatial).
        steps: iterations; 0 leaves the image as it is.
        time_step: of each iteration, at most 0.0625 in 3D.

    Reference:
        Sethian, Level Set Methods, 1996; SimpleITK ``CurvatureFlow``.
    """

    def __init__(self, keys: KeysCollection, steps: int = 2, time_step: float = 0.0625) -> None:
        super().__init__(keys)
        self.steps = steps
        self.time_step = time_step

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        import SimpleITK

        result = dict(data)
        for key in self.keys if self.steps else ():
            image = result[key]
            smooth = [
                SimpleITK.GetArrayFromImage(
                    SimpleITK.CurvatureFlow(SimpleITK.GetImageFromArray(channel), self.time_step, self.steps)
                )
                for channel in image.detach().cpu().numpy()
            ]
            result[key] = MetaTensor(torch.from_numpy(np.stack(smooth)), meta=getattr(image, "meta", None))
        return result
