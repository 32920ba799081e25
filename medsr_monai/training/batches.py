"""Move the parts of a batch that an engine needs to its device."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from medsr_monai.acquisition import SeparableAcquisition
from medsr_monai.system.errors import InputError


def prepare_acquired_batch(
    batch: Mapping[str, Any], device: str | torch.device | None = None, non_blocking: bool = False, **kwargs: Any
) -> tuple[Tensor, Tensor, tuple, dict]:
    """Move a batch made by ``RandAcquired`` to the device.

    Args:
        batch: ``lr`` (B, C, *lr), ``hr`` (B, C, *hr), ``matrix_0`` ... (B, n_lr, n_hr) and ``regularisation`` (B,).
        device: the engine's device.
        non_blocking: as for ``Tensor.to``.
        kwargs: arguments of ``Tensor.to``.

    Returns:
        lr, hr, no arguments, and the keyword arguments ``acquisition`` and ``regularisation``.
    """

    def move(key: str) -> Tensor:
        return torch.as_tensor(batch[key]).to(device, non_blocking=non_blocking, **kwargs)

    lr = move("lr")
    acquisition = SeparableAcquisition([move(f"matrix_{axis}") for axis in range(lr.ndim - 2)])
    return lr, move("hr"), (), {"acquisition": acquisition, "regularisation": move("regularisation")}


def cut_batch(batch: Mapping[str, Any], parts: int) -> list[dict[str, Any]]:
    """Cut a batch along its first axis into equal parts, in order."""
    if parts == 1:
        return [dict(batch)]
    sizes = {len(value) for value in batch.values()}
    size = sizes.pop()
    if sizes or size % parts:
        raise InputError(f"batch of {size}: cannot be cut into {parts} equal parts; choose another 'batch_size'")
    share = size // parts
    return [{key: value[i * share : (i + 1) * share] for key, value in batch.items()} for i in range(parts)]


def prepare_measured_batch(
    batch: Mapping[str, Any], device: str | torch.device | None = None, non_blocking: bool = False, **kwargs: Any
) -> tuple[Tensor, Tensor]:
    """Move a simulated measurement ``lr`` and its reference ``hr`` to the device."""
    lr, hr = (batch[key].to(device, non_blocking=non_blocking, **kwargs) for key in ("lr", "hr"))
    return lr, hr
