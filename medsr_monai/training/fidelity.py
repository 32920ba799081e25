"""The trainer of the fidelity stage, which is also the base of the other trainer."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Events
from monai.engines import SupervisedTrainer
from monai.engines.utils import IterationEvents
from monai.engines.workflow import Workflow
from monai.utils import CommonKeys as Keys
from torch import Tensor, nn
from torch.optim import Optimizer

from medsr_monai.acquisition import SeparableAcquisition
from medsr_monai.networks.blocks import ResidualDenseBlock
from medsr_monai.system.errors import InputError
from medsr_monai.training.batches import cut_batch, prepare_acquired_batch

Loss = Callable[[Tensor, Tensor], Tensor]


class TrainingDiverged(FloatingPointError, InputError):
    """A loss that is no longer finite; the message names the iteration and the term."""


class FidelityTrainer(SupervisedTrainer):
    """Train a generator on its output after the projection onto the measurement.

    The loss is ``L(project(sr), hr) + unprojected_weight * L(sr, hr)``. The projection supplies the measured part, so
    the network learns the rest. The small second term keeps the output useful with another projection or with none.

    After every iteration, ``engine.state.output`` holds ``loss``, ``losses`` (every term by name, unweighted), and the
    last ``image``, ``label`` and ``pred``. In a distributed run, the losses are means over all processes.

    Args:
        loss_function: ``L``, a mean over voxels.
        unprojected_weight: weight of the second term.
        clip_norm: largest norm of the gradient; None does not clip.
        micro_batches: number of parts of a batch, whose gradients are averaged: the same step in less memory.
        activation_checkpointing: recompute the activations of the generator's blocks in the backward pass: less memory
            for a third more time.
        amp_dtype: precision of autocast if ``amp`` is on; by default bfloat16 if the device has it, otherwise float16
            with scaled gradients.
        kwargs: arguments of MONAI's ``SupervisedTrainer``.

    Raises:
        TrainingDiverged: by ``run``, if a term of the loss is no longer finite.
        InputError: a parameter is out of range; the message names it.
    """

    def __init__(
        self,
        *,
        loss_function: Loss | None = None,
        unprojected_weight: float = 0.2,
        clip_norm: float | None = 1.0,
        micro_batches: int = 1,
        activation_checkpointing: bool = False,
        amp_dtype: torch.dtype | None = None,
        **kwargs: Any,
    ) -> None:
        kwargs.setdefault("prepare_batch", prepare_acquired_batch)
        kwargs.setdefault("decollate", False)
        kwargs.setdefault("loss_function", nn.L1Loss() if loss_function is None else loss_function)
        super().__init__(**kwargs)
        if isinstance(micro_batches, bool) or not isinstance(micro_batches, int) or micro_batches < 1:
            raise InputError(f"micro_batches {micro_batches}: must be a whole number, 1 or more")
        check_clip_norm("clip_norm", clip_norm)
        self.unprojected_weight = unprojected_weight
        self.clip_norm = clip_norm
        self.micro_batches = micro_batches
        self.amp_dtype = default_amp_dtype(self.state.device) if amp_dtype is None else amp_dtype
        self.gradient_scaler = self.new_scaler()
        self.add_event_handler(Events.ITERATION_COMPLETED, self.average_losses)
        if activation_checkpointing:
            checkpoint_activations(self.network)
        dataset = getattr(self.data_loader, "dataset", None)
        if dataset is not None and hasattr(dataset, "set_epoch"):
            self.add_event_handler(Events.EPOCH_STARTED, lambda engine: dataset.set_epoch(engine.state.epoch))

    def new_scaler(self) -> torch.amp.GradScaler:
        """Make a gradient scaler that is enabled only for float16."""
        return torch.amp.GradScaler(self.state.device.type, enabled=self.amp and self.amp_dtype == torch.float16)

    def scalers(self) -> dict[str, torch.amp.GradScaler]:
        """The gradient scalers by name."""
        return {"scaler": self.gradient_scaler}

    def state_dict(self) -> Any:
        """The state of ignite's engine and of the gradient scalers; the checkpoint saves networks and optimisers."""
        return {**super().state_dict(), **{name: scaler.state_dict() for name, scaler in self.scalers().items()}}

    def load_state_dict(self, state_dict: Mapping) -> None:
        """Load what :meth:`state_dict` returned."""
        for name, scaler in self.scalers().items():
            scaler.load_state_dict(state_dict[name])
        super().load_state_dict({key: value for key, value in state_dict.items() if key not in self.scalers()})

    def run(self) -> None:  # type: ignore[override]
        """Load the images, then train.

        Raises:
            InputError: an image cannot be read or is too small; the message names it.
        """
        dataset = getattr(self.data_loader, "dataset", None)
        if dataset is not None and hasattr(dataset, "prepare"):
            dataset.prepare()
        Workflow.run(self)  # not MONAI's Trainer.run, which makes its own scaler

    def autocast(self) -> torch.autocast:
        """The autocast context of this training."""
        return torch.autocast(self.state.device.type, dtype=self.amp_dtype, enabled=self.amp)

    def upscale(self, batch: Mapping[str, Any]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Run the generator on a part of a batch.

        Returns:
            lr (B, C, *lr), hr (B, C, *hr), sr, and sr projected onto the measurement; the last two in float32.
        """
        lr, hr, _, measured = self.prepare_batch(batch, self.state.device, self.non_blocking, **self.to_kwargs)
        with self.autocast():
            sr = self.inferer(lr, self.network)
        sr = sr.float()
        acquisition: SeparableAcquisition = measured["acquisition"]
        return lr, hr, sr, acquisition.project(sr, lr, measured["regularisation"])

    def update(
        self, network: nn.Module, optimizer: Optimizer, scaler: torch.amp.GradScaler, clip_norm: float | None
    ) -> None:
        """Clip the gradients and make the optimiser's step.

        Raises:
            TrainingDiverged: a gradient is not finite, and no scaler skips the step.
        """
        scaler.unscale_(optimizer)
        norm = nn.utils.clip_grad_norm_(network.parameters(), float("inf") if clip_norm is None else clip_norm)
        if not scaler.is_enabled():
            self.stop_unless_finite(f"gradient of {type(network).__name__}", float(norm))
        scaler.step(optimizer)
        scaler.update()

    def stop_unless_finite(self, name: str, value: float) -> None:
        """Stop before a non-finite number reaches the weights."""
        if not math.isfinite(value):
            raise TrainingDiverged(
                f"iteration {self.state.iteration}: the {name} is {value}, training stopped; resume the checkpoint of "
                "the last epoch with a lower learning rate"
            )

    def checked_means(self, parts: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """Average every term over the parts of the batch and over all processes.

        Raises:
            TrainingDiverged: a mean is not finite.
        """
        means = torch.stack([torch.stack([part[name].detach().float() for part in parts]).mean() for name in parts[0]])
        if idist.get_world_size() > 1:
            means = torch.as_tensor(idist.all_reduce(means)) / idist.get_world_size()
        for name, value in zip(parts[0], means.tolist(), strict=True):
            self.stop_unless_finite(f"term '{name}'", value)
        return dict(zip(parts[0], means, strict=True))

    def average_losses(self, engine: SupervisedTrainer) -> None:
        """Store the mean of every term since the start of the epoch as the metric ``train_NAME``."""
        position = (self.state.iteration - 1) % self.state.epoch_length
        output = self.state.output
        for name, value in {"loss": output[Keys.LOSS], **output["losses"]}.items():
            before = self.state.metrics.get(f"train_{name}", 0.0) if position else 0.0
            self.state.metrics[f"train_{name}"] = before + (float(value) - before) / (position + 1)

    def _iteration(self, engine: SupervisedTrainer, batchdata: dict[str, Tensor]) -> dict:
        # Return the dictionary in the state, because MONAI's decollation replaces it there.
        output = self.state.output = {}
        self.network.train()
        self.optimizer.zero_grad(set_to_none=True)
        losses = []
        for part in cut_batch(batchdata, self.micro_batches):
            lr, hr, sr, projected = self.upscale(part)
            output.update({Keys.IMAGE: lr, Keys.LABEL: hr, Keys.PRED: projected.detach()})
            self.fire_event(IterationEvents.FORWARD_COMPLETED)
            terms = {"pixel": self.loss_function(projected, hr), "unprojected": self.loss_function(sr, hr)}
            total = terms["pixel"] + self.unprojected_weight * terms["unprojected"]
            losses.append({**terms, "loss": total})
            output[Keys.LOSS] = total.detach()
            self.fire_event(IterationEvents.LOSS_COMPLETED)
            self.gradient_scaler.scale(total / self.micro_batches).backward()
            self.fire_event(IterationEvents.BACKWARD_COMPLETED)
        output["losses"] = self.checked_means(losses)
        output[Keys.LOSS] = output["losses"].pop("loss")
        self.update(self.network, self.optimizer, self.gradient_scaler, self.clip_norm)
        self.fire_event(IterationEvents.MODEL_COMPLETED)
        return self.state.output


def check_clip_norm(name: str, value: float | None) -> None:
    """Check a clipping norm.

    Raises:
        InputError: the value is neither None nor a positive number.
    """
    if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0):
        raise InputError(f"{name} '{value}': must be a number above 0, or null for no clipping")


def default_amp_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 if the device supports it, otherwise float16."""
    if device.type == "cuda" and torch.cuda.is_available() and not torch.cuda.is_bf16_supported():
        return torch.float16
    return torch.bfloat16


def checkpoint_activations(network: nn.Module) -> None:
    """Turn on activation checkpointing in every block of the network that supports it.

    Raises:
        InputError: no block supports it.
    """
    blocks = [module for module in network.modules() if isinstance(module, ResidualDenseBlock)]
    if not blocks:
        raise InputError("activation_checkpointing: no block of this network supports it; set it to false")
    for block in blocks:
        block.checkpoint_activations = True
