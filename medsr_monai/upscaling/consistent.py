"""The projection onto the measurement, after any other inferer."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from monai.inferers import Inferer, SimpleInferer
from torch import Tensor, nn
from tqdm import tqdm

from medsr_monai.acquisition import SeparableAcquisition
from medsr_monai.system.errors import InputError
from medsr_monai.upscaling.stream_or_whole import StreamOrWholeInferer
from medsr_monai.upscaling.streaming import StreamingInferer


def consistency_regularisation(consistency: str | float | None) -> float | None:
    """What ``none``, ``exact`` or a number means to the projection.

    Returns:
        None for no projection, 0 for an exact one, or the Tikhonov damping.

    Raises:
        InputError: anything else.
    """
    if consistency is None or str(consistency).lower() == "none":
        return None
    if str(consistency).lower() == "exact":
        return 0.0
    try:
        value = math.nan if isinstance(consistency, bool) else float(consistency)
    except (TypeError, ValueError):
        value = math.nan
    if not 0 <= value < math.inf:
        raise InputError(f"consistency '{consistency}': must be none, exact, or a damping of 0 or more")
    return value


def refuse_identity(scale: Sequence[float], regularisation: float | None) -> None:
    """Refuse an exact projection at scale 1, which gives the input again.

    Raises:
        InputError: it is asked for.
    """
    if regularisation == 0 and set(scale) == {1}:
        raise InputError(
            "consistency 'exact': a network of scale 1 restores, and what is exact is the input again; choose "
            "consistency none, or a damping such as 0.1"
        )


def is_exact(inferer: Inferer) -> bool:
    """Whether an inferer gives the network's result for the whole image, and not for windows of it.

    What gives windows, such as MONAI's ``SlidingWindowInferer``, is only near that.
    """
    inner = inferer.inferer if isinstance(inferer, ConsistentInferer) else inferer
    return isinstance(inner, (StreamingInferer, StreamOrWholeInferer, SimpleInferer))


class ConsistentInferer(Inferer):
    """Upscale, then move the result the least distance to where it reproduces the measurement.

    Every channel is a volume of its own when the network takes one channel: a time series is upscaled volume by volume.

    Args:
        inferer: runs the network; default runs it on the whole image at once.
        profile: the acquisition that the input is taken to come from: ``box``, ``gaussian`` or ``kspace``.
        regularisation: None for no projection, 0 for an exact one, or a Tikhonov damping for noisy measurements; see
            :func:`consistency_regularisation`.
        progress: show a progress bar over the volumes of a series.
    """

    def __init__(
        self,
        inferer: Inferer | None = None,
        profile: str = "box",
        regularisation: float | None = 0.0,
        progress: bool = False,
    ) -> None:
        super().__init__()
        self.inferer = SimpleInferer() if inferer is None else inferer
        self.profile = profile
        self.regularisation = regularisation
        self.progress = progress

    def __call__(
        self, inputs: Tensor, network: Callable[..., Tensor], *args: Any, **kwargs: Any
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Upscale (B, C, *spatial) to (B, C, *(scale * spatial)).

        Where the inferer gives deviations in further channels, they are returned beside the projected mean.
        """
        batch, channels = inputs.shape[:2]
        inputs = torch.as_tensor(inputs)
        volumes = inputs.as_tensor() if hasattr(inputs, "as_tensor") else inputs
        volumes = volumes.reshape(batch * channels, 1, *inputs.shape[2:])
        series = tqdm(volumes.split(1), desc="volumes", disable=not self.progress or len(volumes) == 1)
        results = torch.cat([self._upscale(volume, network, *args, **kwargs) for volume in series])
        image = results[:, :1].reshape(batch, channels, *results.shape[2:])
        if not getattr(self.inferer, "deviation", False):
            return image
        return image, results[:, 1:].reshape(image.shape)

    def _upscale(self, lr: Tensor, network: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
        sr = self.inferer(lr, network, *args, **kwargs).float()
        if self.regularisation is None:
            return sr
        acquisition = SeparableAcquisition.from_profile(sr.shape[2:], lr.shape[2:], self.profile)
        projected = acquisition.project(sr[:, :1], lr.float(), self.regularisation)
        return torch.cat((projected, sr[:, 1:]), dim=1) if sr.shape[1] > 1 else projected


def taken_apart(inferer: Inferer, network: nn.Module) -> tuple[Inferer, str | Sequence[str], float | None]:
    """What runs the network, and the projection behind it: its profile, and its regularisation, None if there is none.

    Args:
        inferer: any.
        network: which it shall run.
    """
    inner, profile, regularisation = inferer, "box", None
    if isinstance(inferer, ConsistentInferer):
        inner, profile, regularisation = inferer.inferer, inferer.profile, inferer.regularisation
    return (inner.chosen(network) if isinstance(inner, StreamOrWholeInferer) else inner), profile, regularisation
