"""Losses between spatial frequencies."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from medsr_monai.metrics.spectrum import frequency_radius
from medsr_monai.system.errors import InputError
from medsr_monai.training.losses.precision import image_pair

WEIGHTINGS = ("none", "radial")
COMPARISONS = ("complex", "magnitude")


def radial_weights(size: Sequence[int], device: torch.device, dtype: torch.dtype) -> Tensor:
    """Compute each frequency's distance from zero, divided by the mean, on the grid of ``torch.fft.fftn``.

    Returns:
        Weights of shape ``size`` and mean 1; 0 for a single voxel, which has only the frequency zero.
    """
    radius = frequency_radius(size, dtype=dtype, device=device)
    mean = radius.mean()
    return radius / mean if mean > 0 else radius


class FrequencyLoss(nn.Module):
    """Squared error between spectra: ``mean(w |F sr - F hr|^2)`` with ``F`` the orthonormal Fourier transform.

    With ``weighting="none"`` and ``compare="complex"``, as in DAGAN, this **is** the MSE between the images by
    Parseval's theorem, and only adds cost. These options differ from the MSE:

    - ``weighting="radial"`` (the default): w is the distance from zero frequency, divided by its mean. White noise
      costs as much as in the MSE, blur costs more, and an error of the mean intensity costs nothing. So use it together
      with a loss of voxels.
    - ``compare="magnitude"``: ``mean(w (|F sr| - |F hr|)^2)`` rewards the right texture at any place, because a cyclic
      shift changes only phases.

    Args:
        weighting: "radial" or "none".
        compare: "complex" or "magnitude".

    Shape:
        (B, C, *spatial), (B, C, *spatial) -> (); the transform is over the spatial axes, in float32 also in autocast

    Raises:
        InputError: an option is unknown, or the shapes differ.

    Reference:
        Yang et al., DAGAN, doi:10.1109/TMI.2017.2785879
    """

    def __init__(self, weighting: str = "radial", compare: str = "complex") -> None:
        super().__init__()
        if weighting not in WEIGHTINGS:
            raise InputError(f"weighting {weighting!r}: must be one of {', '.join(WEIGHTINGS)}")
        if compare not in COMPARISONS:
            raise InputError(f"compare {compare!r}: must be one of {', '.join(COMPARISONS)}")
        self.weighting = weighting
        self.compare = compare

    def forward(self, sr: Tensor, hr: Tensor) -> Tensor:
        sr, hr = image_pair(sr, hr)
        transform = partial(torch.fft.fftn, dim=tuple(range(2, sr.dim())), norm="ortho")
        if self.compare == "magnitude":
            error = (transform(sr).abs() - transform(hr).abs())[None]
        else:
            error = torch.view_as_real(transform(sr - hr)).movedim(-1, 0)  # real and imaginary part
        power = error.square()
        if self.weighting == "radial":
            power = power * radial_weights(sr.shape[2:], sr.device, sr.dtype)
        return power.sum(dim=0).mean()
