"""Adversarial objectives: what the generator and the discriminator minimise, one class per objective.

Below, D is a discriminator's logit, and E the mean over images, voxels of a verdict map, and scales.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from medsr_monai.system.errors import InputError
from medsr_monai.training.losses.distributed import mean_over_processes
from medsr_monai.training.losses.precision import full_precision

Judge = Callable[[Tensor], tuple[list[Tensor], list[Tensor]]]


class AdversarialLoss(nn.Module):
    """One objective, seen from the generator and from the discriminator.

    Verdicts are lists of logits, one tensor (B, ...) of any shape per scale. Everything is computed in float32.

    Args:
        r1_weight: gamma of the penalty ``gamma / 2 E ||grad D(hr)||^2`` on the discriminator; 0 for none. With batch
            normalisation the gradient is that of the batch's sum of verdicts, which is not the paper's.

    Attributes:
        needs_real: whether the generator's side needs the verdicts on real images.

    Raises:
        InputError: a weight is negative or no finite number.

    Reference:
        Mescheder et al., R1, arXiv:1801.04406
    """

    needs_real: ClassVar[bool] = False

    def __init__(self, r1_weight: float = 0.0) -> None:
        super().__init__()
        self.r1_weight = _weight("r1_weight", r1_weight)

    def generator(self, fake: Sequence[Tensor], real: Sequence[Tensor] | None = None) -> Tensor:
        """What the generator minimises.

        Args:
            fake: verdicts on sr, with their graph.
            real: verdicts on hr, of the same batch; only looked at where ``needs_real``.

        Returns:
            A scalar.
        """
        raise NotImplementedError

    def discriminator(self, real: Sequence[Tensor], fake: Sequence[Tensor]) -> Tensor:
        """What the discriminator minimises.

        Args:
            real: verdicts on hr.
            fake: verdicts on sr, which was detached from the generator.

        Returns:
            A scalar.
        """
        raise NotImplementedError

    def penalty(
        self, discriminator: Judge, real_image: Tensor, fake_image: Tensor, rng: torch.Generator | None = None
    ) -> dict[str, Tensor]:
        """Terms that the discriminator's loss gets in addition, by name, already weighted.

        Args:
            discriminator: judges images.
            real_image: hr, (B, C, *spatial).
            fake_image: sr, the same shape; no gradient goes into it.
            rng: for penalties that draw; the global generator if None.

        Returns:
            Scalars by name; none where there is no penalty.
        """
        if not self.r1_weight:
            return {}
        gradient = _gradient_of_verdicts(discriminator, real_image)
        return {"r1": self.r1_weight / 2 * gradient.square().sum(dim=1).mean()}


class NonSaturating(AdversarialLoss):
    """The first objective, in the form whose gradient does not vanish while the discriminator wins.

    ``discriminator: -E log sigmoid(D(hr)) - E log(1 - sigmoid(D(sr)))``, ``generator: -E log sigmoid(D(sr))``

    Reference:
        Goodfellow et al., arXiv:1406.2661
    """

    def generator(self, fake: Sequence[Tensor], real: Sequence[Tensor] | None = None) -> Tensor:
        return _mean(fake, lambda d: functional.softplus(-d))

    def discriminator(self, real: Sequence[Tensor], fake: Sequence[Tensor]) -> Tensor:
        return _mean(real, lambda d: functional.softplus(-d)) + _mean(fake, functional.softplus)


class LeastSquares(AdversarialLoss):
    """LSGAN: verdicts are drawn to 1 and 0, also those far on the right side.

    ``discriminator: 1/2 E (D(hr) - 1)^2 + 1/2 E D(sr)^2``, ``generator: 1/2 E (D(sr) - 1)^2``

    Reference:
        Mao et al., doi:10.1109/ICCV.2017.304
    """

    def generator(self, fake: Sequence[Tensor], real: Sequence[Tensor] | None = None) -> Tensor:
        return _mean(fake, lambda d: (d - 1).square()) / 2

    def discriminator(self, real: Sequence[Tensor], fake: Sequence[Tensor]) -> Tensor:
        return (_mean(real, lambda d: (d - 1).square()) + _mean(fake, torch.square)) / 2


class Hinge(AdversarialLoss):
    """Verdicts beyond the margin of 1 on the right side teach the discriminator nothing more.

    ``discriminator: E max(0, 1 - D(hr)) + E max(0, 1 + D(sr))``, ``generator: -E D(sr)``

    Reference:
        Lim and Ye, arXiv:1705.02894; Miyato et al., arXiv:1802.05957
    """

    def generator(self, fake: Sequence[Tensor], real: Sequence[Tensor] | None = None) -> Tensor:
        return -_mean(fake)

    def discriminator(self, real: Sequence[Tensor], fake: Sequence[Tensor]) -> Tensor:
        return _mean(real, lambda d: functional.relu(1 - d)) + _mean(fake, lambda d: functional.relu(1 + d))


class WassersteinGradientPenalty(AdversarialLoss):
    """WGAN-GP: the verdicts' difference is a distance, as long as their slope is one.

    ``discriminator: E D(sr) - E D(hr) + weight E (||grad D(x)|| - 1)^2``, ``generator: -E D(sr)``, with
    ``x = e hr + (1 - e) sr`` and e drawn from [0, 1] for each image; the norm is over all voxels of an image.

    Args:
        weight: of the penalty.
        r1_weight: as of every objective.

    Raises:
        InputError: a weight is negative or no finite number; in ``penalty`` a discriminator that normalises over its
            batch, as an image's gradient then depends on the others; images of different shapes.

    Reference:
        Gulrajani et al., arXiv:1704.00028
    """

    def __init__(self, weight: float = 10.0, r1_weight: float = 0.0) -> None:
        super().__init__(r1_weight)
        self.weight = _weight("weight", weight)

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
                f"gradient penalty: hr of shape {tuple(real_image.shape)} against sr of shape "
                f"{tuple(fake_image.shape)}, must be the same"
            )
        real, fake = full_precision(real_image.detach()), full_precision(fake_image.detach())
        device = rng.device if rng is not None else real.device
        epsilon = torch.rand(len(real), *[1] * (real.dim() - 1), generator=rng, device=device).to(real)
        gradient = _gradient_of_verdicts(discriminator, epsilon * real + (1 - epsilon) * fake)
        penalty = self.weight * (_norm(gradient) - 1).square().mean()
        return {"gradient_penalty": penalty, **super().penalty(discriminator, real_image, fake_image, rng)}


class RelativisticAverage(AdversarialLoss):
    """ESRGAN: is an image more real than the other side's are on average? The generator learns from both sides.

    ``discriminator: -E log sigmoid(D(hr) - E D(sr)) - E log(1 - sigmoid(D(sr) - E D(hr)))``,
    ``generator: -E log(1 - sigmoid(D(hr) - E D(sr))) - E log sigmoid(D(sr) - E D(hr))``

    The inner means are over the batches of all processes of ``torch.distributed``, which are to be of one size, so that
    the gradients that DDP averages are those of one process with all images. Hence **all** processes must call it.

    Reference:
        Jolicoeur-Martineau, arXiv:1807.00734; Wang et al., ESRGAN, doi:10.1007/978-3-030-11021-5_5
    """

    needs_real: ClassVar[bool] = True

    def generator(self, fake: Sequence[Tensor], real: Sequence[Tensor] | None = None) -> Tensor:
        if real is None:
            raise InputError("RelativisticAverage: the generator's side needs the verdicts on the real images too")
        return self._sum(better=fake, worse=real)

    def discriminator(self, real: Sequence[Tensor], fake: Sequence[Tensor]) -> Tensor:
        return self._sum(better=real, worse=fake)

    def _sum(self, better: Sequence[Tensor], worse: Sequence[Tensor]) -> Tensor:
        """The loss of whoever wants the first side to look better than the second."""
        better, worse = [full_precision(d) for d in better], [full_precision(d) for d in worse]
        # All means in one exchange between the processes.
        means = mean_over_processes(torch.stack([d.mean() for d in (*better, *worse)])).unbind()
        above_worse = [d - mean for d, mean in zip(better, means[len(better) :], strict=True)]
        above_better = [d - mean for d, mean in zip(worse, means[: len(better)], strict=True)]
        return _mean(above_worse, lambda d: functional.softplus(-d)) + _mean(above_better, functional.softplus)


def _weight(name: str, value: float) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not (math.isfinite(value) and value >= 0):
        raise InputError(f"{name} {value}: must be a finite number of at least 0")
    return value


def _mean(verdicts: Sequence[Tensor], function: Callable[[Tensor], Tensor] | None = None) -> Tensor:
    """The mean over scales of the mean over a scale's elements of a function of the verdicts."""
    if not verdicts:
        raise InputError("adversarial loss: the discriminator gave no verdicts, need one tensor per scale")
    scales = [full_precision(d) for d in verdicts]
    return torch.stack([(function(d) if function else d).mean() for d in scales]).mean()


def _gradient_of_verdicts(discriminator: Judge, image: Tensor) -> Tensor:
    """(B, voxels): gradient of each image's mean verdict by the image, with its graph, in full precision."""
    # A plain tensor, as a MetaTensor's bookkeeping would run through the whole second derivative.
    image = full_precision(image.detach().as_subclass(Tensor)).requires_grad_()
    with torch.autocast(image.device.type, enabled=False):  # gradients underflow in float16
        verdicts, _ = discriminator(image)
        per_image = torch.stack([d.reshape(len(d), -1).mean(dim=1) for d in verdicts]).mean(dim=0)
        (gradient,) = torch.autograd.grad(per_image.sum(), image, create_graph=True)
    return gradient.flatten(1)


def _norm(gradient: Tensor) -> Tensor:
    """Norm of each row, whose own gradient is zero and not infinite where the row is zero."""
    squares = gradient.square().sum(dim=1)
    return torch.where(squares > 0, squares.clamp_min(torch.finfo(squares.dtype).tiny).sqrt(), squares)


def _refuse_batch_normalisation(discriminator: Judge) -> None:
    modules = discriminator.modules() if isinstance(discriminator, nn.Module) else ()
    if any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in modules):
        raise InputError(
            f"WassersteinGradientPenalty: {type(discriminator).__name__} normalises over the batch, but the penalty is "
            "per image; give the discriminator norm 'instance' or 'none'"
        )
