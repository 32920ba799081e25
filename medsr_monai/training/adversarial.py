"""The trainer of the adversarial stage."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache, partial
from typing import Any

import ignite.distributed as idist
import torch
from monai.engines import SupervisedTrainer
from monai.engines.utils import IterationEvents
from monai.utils.enums import AdversarialIterationEvents as Events
from torch import Tensor, nn
from torch.optim import Optimizer

from medsr_monai.system.errors import check_whole
from medsr_monai.training.batches import cut_batch
from medsr_monai.training.fidelity import Fake, FidelityTrainer, Loss, check_clip_norm
from medsr_monai.training.handlers.checkpoint import unwrapped
from medsr_monai.training.losses import AdversarialLoss, FeatureMatchingLoss, WeightedSum


class AdversarialTrainer(FidelityTrainer):
    """Train a generator against a discriminator, with high-resolution targets as real images.

    The discriminator and the image losses see the projected output, because that is the image that a user gets. An
    iteration makes one step of the generator on the first part of its batch. Then it makes ``discriminator_steps``
    steps of the discriminator: the first on the same images, each other on a further part. So the batch must hold that
    many equal parts.

    The generator minimises ``sum_i weight_i * term_i``. ``engine.state.output["losses"]`` holds every term by name,
    unweighted. It also holds the discriminator's terms: ``discriminator``, its penalty, and the mean verdicts
    ``verdict_real`` and ``verdict_fake``. ``loss`` is the generator's sum. Handlers attach to MONAI's
    ``IterationEvents`` and ``AdversarialIterationEvents``.

    All randomness of an iteration (that of a gradient penalty) comes from ``seed`` and the iteration number. So a
    resumed training is bit-identical on the CPU.

    Args:
        discriminator: returns verdicts and features, see :mod:`medsr_monai.networks.discriminators`.
        discriminator_optimizer: optimises the discriminator's parameters.
        adversarial_loss: the objective.
        losses: image losses by name, between the projected output and the target.
        weights: weights of the terms by name: those of ``losses``, ``adversarial``, ``feature_matching``, and
            ``unprojected``, the loss ``pixel`` of the output before projection. A term without weight is not computed.
        feature_matching: compares discriminator features.
        discriminator_steps: steps of the discriminator per step of the generator.
        discriminator_clip_norm: largest norm of the discriminator's gradient; None does not clip.
        seed: of all randomness.
        kwargs: arguments of :class:`FidelityTrainer`.

    Raises:
        TrainingDiverged: by ``run``, if a term is no longer finite.
        InputError: a weight has no term, or the discriminator does not suit the objective.

    Reference:
        Wang et al., ESRGAN, doi:10.1007/978-3-030-11021-5_5
    """

    def __init__(
        self,
        *,
        discriminator: nn.Module,
        discriminator_optimizer: Optimizer,
        adversarial_loss: AdversarialLoss,
        losses: Mapping[str, Loss],
        weights: Mapping[str, float],
        feature_matching: FeatureMatchingLoss | None = None,
        discriminator_steps: int = 1,
        discriminator_clip_norm: float | None = None,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(event_names=[IterationEvents, Events], **kwargs)
        check_whole("discriminator_steps", discriminator_steps)
        check_clip_norm("discriminator_clip_norm", discriminator_clip_norm)
        self.discriminator = discriminator
        self.discriminator_optimizer = discriminator_optimizer
        self.discriminator_scaler = self.new_scaler()
        self.adversarial_loss = adversarial_loss
        self.losses = dict(losses)
        self.feature_matching = FeatureMatchingLoss() if feature_matching is None else feature_matching
        self.weighted = WeightedSum(dict(weights))
        self.discriminator_steps = discriminator_steps
        self.discriminator_clip_norm = discriminator_clip_norm
        self.seed = seed
        for loss in self.losses.values():
            if isinstance(loss, nn.Module):
                loss.to(self.state.device)
        self.rng = torch.Generator(device=self.state.device)

    def scalers(self) -> dict[str, torch.amp.GradScaler]:
        return {**super().scalers(), "discriminator_scaler": self.discriminator_scaler}

    def judge(self, discriminator: nn.Module, image: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Compute the discriminator's verdicts and features, in float32."""
        with self.autocast():
            verdicts, features = discriminator(image)
        return [verdict.float() for verdict in verdicts], [feature.float() for feature in features]

    def _iteration(self, engine: SupervisedTrainer, batchdata: dict[str, Tensor]) -> dict:
        output = self.state.output = {}
        self.network.train()
        self.discriminator.train()
        self.rng.manual_seed(sample_seed(self.seed, self.state.iteration, idist.get_rank()))
        parts = cut_batch(batchdata, self.micro_batches * self.discriminator_steps)
        shares = [parts[i : i + self.micro_batches] for i in range(0, len(parts), self.micro_batches)]
        fakes = self.generator_step(shares[0])
        self.fire_event(Events.GENERATOR_MODEL_COMPLETED)
        for index, share in enumerate(shares):
            if index:
                fakes = [self.fake(part) for part in share]
            output["losses"] = {**output["losses"], **self.discriminator_step(fakes)}
        self.fire_event(IterationEvents.MODEL_COMPLETED)
        return self.state.output

    def fake(self, part: Mapping[str, Any]) -> Fake:
        """Compute the generator's output for a part of the batch, without gradients."""
        with torch.no_grad():
            _, hr, _, projected = self.upscale(part)
        return projected, hr

    def fire_generator_event(self, name: str) -> None:
        super().fire_generator_event(name)
        self.fire_event(Events[f"GENERATOR_{name}_COMPLETED"])

    def generator_loss(self, sr: Tensor, projected: Tensor, hr: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        # The wrapper for several processes would wait for gradients that the generator's step does not compute.
        discriminator = unwrapped(self.discriminator)

        @cache
        def judged(fake: bool) -> tuple[list[Tensor], list[Tensor]]:
            with torch.set_grad_enabled(fake):
                return self.judge(discriminator, projected if fake else hr)

        def adversarial() -> Tensor:
            real = judged(False)[0] if self.adversarial_loss.needs_real else None
            return self.adversarial_loss.generator(judged(True)[0], real)

        terms: dict[str, Callable[[], Tensor]] = {
            **{name: partial(loss, projected, hr) for name, loss in self.losses.items()},
            "adversarial": adversarial,
            "feature_matching": lambda: self.feature_matching(judged(True)[1], judged(False)[1]),
        }
        if "pixel" in self.losses:
            terms["unprojected"] = partial(self.losses["pixel"], sr, hr)
        with frozen(discriminator):
            return self.weighted(terms)

    def discriminator_step(self, fakes: Sequence[Fake]) -> dict[str, Tensor]:
        """Make one step of the discriminator and return the value of every term."""
        self.discriminator_optimizer.zero_grad(set_to_none=True)
        losses = []
        for fake, hr in fakes:
            real_verdicts, _ = self.judge(self.discriminator, hr)
            self.fire_event(Events.DISCRIMINATOR_REALS_FORWARD_COMPLETED)
            fake_verdicts, _ = self.judge(self.discriminator, fake)
            self.fire_event(Events.DISCRIMINATOR_FAKES_FORWARD_COMPLETED)
            loss = self.adversarial_loss.discriminator(real_verdicts, fake_verdicts)
            penalties = self.adversarial_loss.penalty(unwrapped(self.discriminator), hr, fake, self.rng)
            verdicts = {"verdict_real": mean_verdict(real_verdicts), "verdict_fake": mean_verdict(fake_verdicts)}
            losses.append({"discriminator": loss, **penalties, **verdicts})
            self.fire_event(Events.DISCRIMINATOR_LOSS_COMPLETED)
            total = loss + sum(penalties.values())
            self.discriminator_scaler.scale(total / len(fakes)).backward()
            self.fire_event(Events.DISCRIMINATOR_BACKWARD_COMPLETED)
        terms = self.checked_means(losses)
        self.update(
            self.discriminator, self.discriminator_optimizer, self.discriminator_scaler, self.discriminator_clip_norm
        )
        self.fire_event(Events.DISCRIMINATOR_MODEL_COMPLETED)
        return terms


def sample_seed(seed: int, iteration: int, rank: int) -> int:
    return (seed * 1_000_003 + iteration) * 4_099 + rank


def mean_verdict(verdicts: Sequence[Tensor]) -> Tensor:
    """The mean over scales and positions."""
    return torch.stack([verdict.detach().mean() for verdict in verdicts]).mean()


@contextmanager
def frozen(network: nn.Module) -> Iterator[None]:
    """Compute no gradients for the network's parameters; gradients still flow through the network."""
    trainable = nn.ParameterList(parameter for parameter in network.parameters() if parameter.requires_grad)
    trainable.requires_grad_(False)
    try:
        yield
    finally:
        trainable.requires_grad_(True)
