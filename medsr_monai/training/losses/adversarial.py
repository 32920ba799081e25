"""Adversarial objectives: each class defines what the generator and the discriminator minimise.

In the equations, D is a discriminator's logit, and E the mean over images, voxels of a verdict map, and scales.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from medsr_monai.system.errors import InputError
from medsr_monai.training.losses.distributed import mean_over_processes
from medsr_monai.training.losses.precision import full_precision
from medsr_monai.training.losses.weighted import check_weight

Judge = Callable[[Tensor], tuple[list[Tensor], list[Tensor]]]


class AdversarialLoss(nn.Module):
    """The base of all objectives, with a loss for the generator and one for the discriminator.

    Verdicts are lists of logits, one tensor (B, ...) of any shape per scale. Losses are computed in float32.

    Args:
        r1_weight: gamma of the penalty ``gamma / 2 E ||grad D(hr)||^2`` on the discriminator; 0 for none. With batch
            normalisation, the gradient is that of the batch's sum of verdicts, which differs from the paper.

    Attributes:
        needs_real: whether the generator's loss needs the verdicts on real images.

    Raises:
        InputError: a weight is negative or not a finite number.

    Reference:
        Mescheder et al., R1, arXiv:1801.04406
    """

    needs_real: ClassVar[bool] = False

    def __init__(self, r1_weight: float = 0.0) -> None:
        super().__init__()
        check_weight("r1_weight", r1_weight)
        self.r1_weight = r1_weight

    def generator(self, fake: Sequence[Tensor], real: Sequence[Tensor] | None = None) -> Tensor:
        """Compute the generator's loss, (), from the verdicts on sr, and on hr of the same batch if ``needs_real``."""
        raise NotImplementedError

    def discriminator(self, real: Sequence[Tensor], fake: Sequence[Tensor]) -> Tensor:
        """Compute the discriminator's loss, (), from the verdicts on hr, and on sr without the generator's graph."""
        raise NotImplementedError

    def penalty(
        self, discriminator: Judge, real_image: Tensor, fake_image: Tensor, rng: torch.Generator | None = None
    ) -> dict[str, Tensor]:
        """Compute the weighted penalties that are added to the discriminator's loss.

        Args:
            discriminator: judges images.
            real_image: hr, (B, C, *spatial).
            fake_image: sr, the same shape; it gets no gradient.
            rng: for penalties with random numbers; None uses the global generator.

        Returns:
            Scalars by name; empty without a penalty.
        """
        if not self.r1_weight:
            return {}
        gradient = _gradient_of_verdicts(discriminator, real_image)
        return {"r1": self.r1_weight / 2 * gradient.square().sum(dim=1).mean()}


class NonSaturating(AdversarialLoss):
    """The original objective, in the form whose gradient does not vanish if the discriminator is right.

    ``discriminator: -E log sigmoid(D(hr)) - E log(1 - sigmoid(D(sr)))``, ``generator: -E log sigmoid(D(sr))``

    Reference:
        Goodfellow et al., arXiv:1406.2661
    """

    def generator(self, fake: Sequence[Tensor], real: Sequence[Tensor] | None = None) -> Tensor:
        return _mean(fake, lambda d: functional.softplus(-d))

    def discriminator(self, real: Sequence[Tensor], fake: Sequence[Tensor]) -> Tensor:
        return _mean(real, lambda d: functional.softplus(-d)) + _mean(fake, functional.softplus)


class LeastSquares(AdversarialLoss):
    """LSGAN: verdicts are drawn to 1 and 0, also if they are far on the right side.

    ``discriminator: 1/2 E (D(hr) - 1)^2 + 1/2 E D(sr)^2``, ``generator: 1/2 E (D(sr) - 1)^2``

    Reference:
        Mao et al., doi:10.1109/ICCV.2017.304
    """

    def generator(self, fake: Sequence[Tensor], real: Sequence[Tensor] | None = None) -> Tensor:
        return _mean(fake, lambda d: (d - 1).square()) / 2

    def discriminator(self, real: Sequence[Tensor], fake: Sequence[Tensor]) -> Tensor:
        return (_mean(real, lambda d: (d - 1).square()) + _mean(fake, torch.square)) / 2


class Hinge(AdversarialLoss):
    """The hinge loss: right verdicts beyond the margin of 1 give the discriminator no gradient.

    ``discriminator: E max(0, 1 - D(hr)) + E max(0, 1 + D(sr))``, ``generator: -E D(sr)``

    Reference:
        Lim and Ye, arXiv:1705.02894; Miyato et al., arXiv:1802.05957
    """

    def generator(self, fake: Sequence[Tensor], real: Sequence[Tensor] | None = None) -> Tensor:
        return -_mean(fake)

    def discriminator(self, real: Sequence[Tensor], fake: Sequence[Tensor]) -> Tensor:
        return _mean(real, lambda d: functional.relu(1 - d)) + _mean(fake, lambda d: functional.relu(1 + d))


class WassersteinGradientPenalty(AdversarialLoss):
    """WGAN-GP: the difference of the verdicts is a distance if their slope is one.

    ``discriminator: E D(sr) - E D(hr) + weight E (||grad D(x)|| - 1)^2``, ``generator: -E D(sr)``, with
    ``x = e hr + (1 - e) sr`` and e drawn from [0, 1] for each image. The norm is over all voxels of an image.

    Args:
        weight: weight of the penalty.
        r1_weight: see :class:`AdversarialLoss`.

    Raises:
        InputError: a weight is negative or not a finite number. In ``penalty``: the shapes differ, or the discriminator
            normalises over its batch, so that an image's gradient depends on the others.

    Reference:
        Gulrajani et al., arXiv:1704.00028
    """

    def __init__(self, weight: float = 10.0, r1_weight: float = 0.0) -> None:
        super().__init__(r1_weight)
        check_weight("weight", weight)
        self.weight = weight

    def generator(self, fake: Sequence[Tensor], real: Sequence[Tensor] | None = None) -> Tensor:
        return -_mean(fake)

    def discriminator(self, real: Sequence[Tensor], fake: Sequence[Tensor]) -> Tensor:
        return _mean(fake) - _mean(real)

    def penalty(
        self, discriminator: Judge, real_image: Tensor, fake_image: Tensor, rng: torch.Generator | None = None
    ) -> dict[str, Tensor]:
        _refuse_batch_normalisation(discriminator)
        if real_image.shape != fake_image.shape:
            raise InputError(
                f"gradient penalty: hr has shape {tuple(real_image.shape)} and sr {tuple(fake_image.shape)}, "
                "but they must be the same"
            )
        real, fake = full_precision(real_image.detach()), full_precision(fake_image.detach())
        device = rng.device if rng is not None else real.device
        epsilon = torch.rand(len(real), *[1] * (real.dim() - 1), generator=rng, device=device).to(real)
        gradient = _gradient_of_verdicts(discriminator, epsilon * real + (1 - epsilon) * fake)
        penalty = self.weight * (_norm(gradient) - 1).square().mean()
        return {"gradient_penalty": penalty, **super().penalty(discriminator, real_image, fake_image, rng)}


class RelativisticAverage(AdversarialLoss):
    """ESRGAN: judge whether an image is more real than the average of the other kind; the generator learns from both.

    ``discriminator: -E log sigmoid(D(hr) - E D(sr)) - E log(1 - sigmoid(D(sr) - E D(hr)))``,
    ``generator: -E log(1 - sigmoid(D(hr) - E D(sr))) - E log sigmoid(D(sr) - E D(hr))``

    The inner means are over the batches of all processes of ``torch.distributed``. If all batches have the same size,
    the gradients averaged by DDP equal those of one process with all images. So **all** processes must call it.

    Reference:
        Jolicoeur-Martineau, arXiv:1807.00734; Wang et al., ESRGAN, doi:10.1007/978-3-030-11021-5_5
    """

    needs_real: ClassVar[bool] = True

    def generator(self, fake: Sequence[Tensor], real: Sequence[Tensor] | None = None) -> Tensor:
        if real is None:
            raise InputError("RelativisticAverage: the generator's loss needs the verdicts on the real images too")
        return self._sum(better=fake, worse=real)

    def discriminator(self, real: Sequence[Tensor], fake: Sequence[Tensor]) -> Tensor:
        return self._sum(better=real, worse=fake)

    def _sum(self, better: Sequence[Tensor], worse: Sequence[Tensor]) -> Tensor:
        """Compute the loss that is low if the verdicts ``better`` are above the verdicts ``worse``."""
        better, worse = [full_precision(d) for d in better], [full_precision(d) for d in worse]
        # All means in one exchange between the processes.
        means = mean_over_processes(torch.stack([d.mean() for d in (*better, *worse)])).unbind()
        above_worse = [d - mean for d, mean in zip(better, means[len(better) :], strict=True)]
        above_better = [d - mean for d, mean in zip(worse, means[: len(better)], strict=True)]
        return _mean(above_worse, lambda d: functional.softplus(-d)) + _mean(above_better, functional.softplus)


def _mean(verdicts: Sequence[Tensor], function: Callable[[Tensor], Tensor] | None = None) -> Tensor:
    """Average a function of the verdicts over the elements of each scale, then over scales."""
    if not verdicts:
        raise InputError("adversarial loss: the discriminator gave no verdicts, but need one tensor per scale")
    scales = [full_precision(d) for d in verdicts]
    return torch.stack([(function(d) if function else d).mean() for d in scales]).mean()


def _gradient_of_verdicts(discriminator: Judge, image: Tensor) -> Tensor:
    """Compute the gradient of each image's mean verdict, (B, voxels), with its graph, in full precision."""
    # Use a plain tensor, because the bookkeeping of a MetaTensor would slow the whole second derivative.
    image = full_precision(image.detach().as_subclass(Tensor)).requires_grad_()
    with torch.autocast(image.device.type, enabled=False):  # gradients underflow in float16
        verdicts, _ = discriminator(image)
        per_image = torch.stack([d.reshape(len(d), -1).mean(dim=1) for d in verdicts]).mean(dim=0)
        (gradient,) = torch.autograd.grad(per_image.sum(), image, create_graph=True)
    return gradient.flatten(1)


def _norm(gradient: Tensor) -> Tensor:
    """The norm of each row; its gradient at a zero row is zero, not infinite."""
    squares = gradient.square().sum(dim=1)
    return torch.where(squares > 0, squares.clamp_min(torch.finfo(squares.dtype).tiny).sqrt(), squares)


def _refuse_batch_normalisation(discriminator: Judge) -> None:
    modules = discriminator.modules() if isinstance(discriminator, nn.Module) else ()
    if any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in modules):
        raise InputError(
            f"WassersteinGradientPenalty: {type(discriminator).__name__} normalises over the batch, but the penalty is "
            "per image; set the discriminator's norm to 'instance' or 'none'"
        )
