"""Engines that train and apply a super-resolution network, on MONAI's and ignite's."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from ignite.engine import Events
from monai.data.utils import list_data_collate
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from monai.engines.utils import IterationEvents
from monai.utils import CommonKeys as Keys
from torch import Tensor, nn
from tqdm import tqdm

from medsr_monai.acquisition import SeparableAcquisition
from medsr_monai.errors import InputError, find_input_error


def prepare_acquired_batch(
    batch: Mapping[str, Any], device: str | torch.device | None = None, non_blocking: bool = False, **kwargs: Any
) -> tuple[Tensor, Tensor, tuple, dict]:
    """Move a batch made by ``RandAcquired`` to the device.

    Args:
        batch: ``lr`` (B, C, *lr), ``hr`` (B, C, *hr), ``matrix_0`` ... (B, n_lr, n_hr) and ``regularisation`` (B,).
        device: where to.
        non_blocking: of the transfer.
        kwargs: of ``Tensor.to``.

    Returns:
        lr, hr, no arguments, and the keyword arguments ``acquisition`` and ``regularisation``.
    """

    def move(key: str) -> Tensor:
        return torch.as_tensor(batch[key]).to(device, non_blocking=non_blocking, **kwargs)

    lr = move("lr")
    acquisition = SeparableAcquisition([move(f"matrix_{axis}") for axis in range(lr.ndim - 2)])
    return lr, move("hr"), (), {"acquisition": acquisition, "regularisation": move("regularisation")}


def warmup_stable_decay(warmup: int, total: int, decay: int, floor: float = 0.01) -> Callable[[int], float]:
    """A learning-rate factor that rises, stays, and falls along a cosine at the end.

    While it stays, training can go on for as long as there is time: only the end of the run must know that it is the
    end.

    Args:
        warmup: iterations of linear rise.
        total: iterations in all.
        decay: iterations of the fall, the last ones.
        floor: factor at the end.

    Returns:
        Factor by iteration, for ``torch.optim.lr_scheduler.LambdaLR``.

    Reference:
        Hägele et al., arXiv:2405.18392
    """

    def factor(iteration: int) -> float:
        if iteration < warmup:
            return (iteration + 1) / warmup
        progress = min(1.0, max(0.0, (iteration - (total - decay)) / max(1, decay)))
        return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress))

    return factor


class FidelityTrainer(SupervisedTrainer):
    """Train a generator on its consistency-projected output.

    The loss is ``L(project(sr), hr) + unprojected_weight * L(sr, hr)``: the projection already supplies what was
    measured,
    so the network spends itself on what was not; the small second term keeps the output sensible for other projections
    than the one of its training sample, or none.

    Args:
        loss_function: ``L``, a mean over voxels.
        unprojected_weight: of the second term.
        clip_norm: largest norm of the gradient; None does not clip.
        amp_dtype: of autocast, where ``amp`` is on.
        kwargs: of MONAI's ``SupervisedTrainer``.

    Raises:
        FloatingPointError: the loss is no longer finite; names the iteration.
    """

    def __init__(
        self,
        *,
        unprojected_weight: float = 0.2,
        clip_norm: float | None = 1.0,
        amp_dtype: torch.dtype = torch.bfloat16,
        **kwargs: Any,
    ) -> None:
        kwargs.setdefault("prepare_batch", prepare_acquired_batch)
        kwargs.setdefault("decollate", False)
        super().__init__(**kwargs)
        self.unprojected_weight = unprojected_weight
        self.clip_norm = clip_norm
        self.amp_dtype = amp_dtype
        dataset = getattr(self.data_loader, "dataset", None)
        if dataset is not None and hasattr(dataset, "set_epoch"):
            self.add_event_handler(Events.EPOCH_STARTED, lambda engine: dataset.set_epoch(engine.state.epoch))

    def run(self) -> None:  # type: ignore[override]
        """Load the images, then train.

        Raises:
            InputError: an image that cannot be read or is too small, named.
        """
        dataset = getattr(self.data_loader, "dataset", None)
        if dataset is not None and hasattr(dataset, "prepare"):
            dataset.prepare()
        super().run()

    def _iteration(self, engine: SupervisedTrainer, batchdata: dict[str, Tensor]) -> dict:
        lr, hr, _, measured = self.prepare_batch(batchdata, self.state.device, self.non_blocking, **self.to_kwargs)
        # The dictionary in the state is the one returned: MONAI's decollation replaces it there.
        output = self.state.output = {Keys.IMAGE: lr, Keys.LABEL: hr}
        self.network.train()
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast(self.state.device.type, dtype=self.amp_dtype, enabled=self.amp):
            sr = self.inferer(lr, self.network)
        sr = sr.float()
        output[Keys.PRED] = measured["acquisition"].project(sr, lr, measured["regularisation"])
        self.fire_event(IterationEvents.FORWARD_COMPLETED)
        projected_loss = self.loss_function(output[Keys.PRED], hr)
        loss = projected_loss + self.unprojected_weight * self.loss_function(sr, hr)
        output[Keys.LOSS] = loss
        self.fire_event(IterationEvents.LOSS_COMPLETED)
        if not bool(torch.isfinite(loss)):
            raise FloatingPointError(f"iteration {self.state.iteration}: the loss is {loss.item()}, training stopped")
        loss.backward()
        if self.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.network.parameters(), self.clip_norm)
        self.fire_event(IterationEvents.BACKWARD_COMPLETED)
        self.optimizer.step()
        output[Keys.LOSS] = loss.detach()
        output[Keys.PRED] = output[Keys.PRED].detach()
        self.fire_event(IterationEvents.MODEL_COMPLETED)
        return self.state.output


class VolumeUpscaler(SupervisedEvaluator):
    """Upscale volumes one by one; a volume that cannot be read is reported, and the others are done all the same.

    Args:
        dataset: of loaded and preprocessed volumes under ``image``, MetaTensors (C, X, Y, Z); it loads when indexed.
        network: the generator.
        progress: show a progress bar over the volumes.
        kwargs: of MONAI's ``SupervisedEvaluator``: inferer, postprocessing, device, handlers.
    """

    def __init__(self, *, dataset: Sequence[Any], network: nn.Module, progress: bool = True, **kwargs: Any) -> None:
        kwargs.setdefault("prepare_batch", prepare_volume)
        super().__init__(val_data_loader=[], epoch_length=1, network=network.eval(), **kwargs)
        self.dataset = dataset
        self.progress = progress
        # An error reaches the caller as an exception; ignite's log line of it would only be a second one.
        self.logger.setLevel(logging.CRITICAL)

    def run(self, global_epoch: int = 1) -> None:  # type: ignore[override]
        """Upscale every volume of the dataset.

        Raises:
            InputError: one or more volumes could not be read or written; the message names each.
        """
        failures = []
        for index in tqdm(range(len(self.dataset)), unit="scan", disable=not self.progress or len(self.dataset) == 1):
            try:
                self.data_loader = [list_data_collate([self.dataset[index]])]
                super().run(global_epoch)
            except Exception as error:
                cause = find_input_error(error)
                if cause is None:
                    raise
                failures.append(str(cause))
            finally:
                # What ignite keeps of one volume would lie beside the next one.
                self.state.output = self.state.batch = None
                self.data_loader = []
        if failures:
            raise InputError("; ".join(failures))


def prepare_volume(
    batch: Mapping[str, Any], device: str | torch.device | None = None, non_blocking: bool = False, **kwargs: Any
) -> tuple[Tensor, None]:
    """Move the volume under ``image`` to the device; there is no reference to compare it with."""
    return batch["image"].to(device, non_blocking=non_blocking, **kwargs), None


def prepare_measured_batch(
    batch: Mapping[str, Any], device: str | torch.device | None = None, non_blocking: bool = False, **kwargs: Any
) -> tuple[Tensor, Tensor]:
    """Move a simulated measurement ``lr`` and its reference ``hr`` to the device."""
    lr, hr = (batch[key].to(device, non_blocking=non_blocking, **kwargs) for key in ("lr", "hr"))
    return lr, hr
