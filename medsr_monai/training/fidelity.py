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
from medsr_monai.system.errors import InputError, check_whole
from medsr_monai.training.batches import cut_batch, prepare_acquired_batch

Loss = Callable[[Tensor, Tensor], Tensor]
Fake = tuple[Tensor, Tensor]  # the generator's output and its target, both (B, C, *hr), without gradients


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
        check_whole("micro_batches", micro_batches)
        check_clip_norm("clip_norm", clip_norm)
        self.unprojected_weight = unprojected_weight
        self.clip_norm = clip_norm
        self.micro_batches = micro_batches
        self.amp_dtype = default_amp_dtype(self.state.device) if amp_dtype is None else amp_dtype
        self.gradient_scaler = self.new_scaler()
        self.add_event_handler(Events.ITERATION_COMPLETED, self.average_losses)
        if activation_checkpointing:
            checkpoint_activations(self.network)
        dataset: Any = getattr(self.data_loader, "dataset", None)
        if hasattr(dataset, "set_epoch"):
            self.add_event_handler(Events.EPOCH_STARTED, lambda engine: dataset.set_epoch(engine.state.epoch))

    def new_scaler(self) -> torch.amp.GradScaler:
        """Make a gradient scaler that is enabled only for float16."""
        return torch.amp.GradScaler(self.state.device.type, enabled=self.amp and self.amp_dtype == torch.float16)

    def scalers(self) -> dict[str, torch.amp.GradScaler]:
        """The gradient scalers by name."""
        return {"scaler": self.gradient_scaler}

    def run(self) -> None:  # type: ignore[override]
        """Load the images, then train."""
        dataset: Any = getattr(self.data_loader, "dataset", None)
        if hasattr(dataset, "prepare"):
            dataset.prepare()
        Workflow.run(self)  # not MONAI's Trainer.run, which makes its own scaler

    def autocast(self) -> torch.autocast:
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
        """Clip the gradients and make the optimiser's step; stop if one is not finite and no scaler skips the step."""
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
        """Average every term over the parts of the batch and over all processes, and stop unless it is finite."""
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
        self.state.output = {}
        self.network.train()
        self.generator_step(cut_batch(batchdata, self.micro_batches))
        self.fire_event(IterationEvents.MODEL_COMPLETED)
        return self.state.output

    def fire_generator_event(self, name: str) -> None:
        """Tell that a stage of the generator's step is over: ``FORWARD``, ``LOSS`` or ``BACKWARD``."""
        self.fire_event(IterationEvents[f"{name}_COMPLETED"])

    def generator_step(self, parts: Sequence[Mapping[str, Any]]) -> list[Fake]:
        """Make one step of the generator, and store the value of every term; the results are the fakes of a GAN."""
        output = self.state.output
        self.optimizer.zero_grad(set_to_none=True)
        fakes, losses = [], []
        for part in parts:
            lr, hr, sr, projected = self.upscale(part)
            fakes.append((projected.detach(), hr))
            output.update({Keys.IMAGE: lr, Keys.LABEL: hr, Keys.PRED: projected.detach()})
            self.fire_generator_event("FORWARD")
            total, terms = self.generator_loss(sr, projected, hr)
            losses.append({**terms, "loss": total})
            output[Keys.LOSS] = total.detach()
            self.fire_generator_event("LOSS")
            self.gradient_scaler.scale(total / len(parts)).backward()
            self.fire_generator_event("BACKWARD")
        output["losses"] = self.checked_means(losses)
        output[Keys.LOSS] = output["losses"].pop("loss")
        self.update(self.network, self.optimizer, self.gradient_scaler, self.clip_norm)
        return fakes

    def generator_loss(self, sr: Tensor, projected: Tensor, hr: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the weighted sum of the generator's terms, and each term."""
        terms = {"pixel": self.loss_function(projected, hr), "unprojected": self.loss_function(sr, hr)}
        return terms["pixel"] + self.unprojected_weight * terms["unprojected"], terms


def check_clip_norm(name: str, value: float | None) -> None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0):
        raise InputError(f"{name} '{value}': must be a number above 0, or null for no clipping")


def default_amp_dtype(device: torch.device) -> torch.dtype:
    if device.type == "cuda" and torch.cuda.is_available() and not torch.cuda.is_bf16_supported():
        return torch.float16
    return torch.bfloat16


def checkpoint_activations(network: nn.Module) -> None:
    """Turn on activation checkpointing in every block of the network that supports it."""
    blocks = [module for module in network.modules() if isinstance(module, ResidualDenseBlock)]
    if not blocks:
        raise InputError("activation_checkpointing: no block of this network supports it; set it to false")
    for block in blocks:
        block.checkpoint_activations = True
