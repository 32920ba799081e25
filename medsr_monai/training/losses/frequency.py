"""Losses between spatial frequencies."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from medsr_monai.system.errors import InputError
from medsr_monai.training.losses.precision import image_pair

WEIGHTINGS = ("none", "radial")
COMPARISONS = ("complex", "magnitude")


def radial_weights(size: tuple[int, ...], device: torch.device, dtype: torch.dtype) -> Tensor:
    """Distance of each frequency from zero, over its mean, on the grid of ``torch.fft.fftn``.

    Args:
        size: voxels per axis.

    Returns:
        ``size`` weights of mean 1; all 0 for a single voxel, which has no other frequency than zero.
    """
    squares = torch.zeros(size, device=device, dtype=dtype)
    for axis, n in enumerate(size):
        frequency = torch.fft.fftfreq(n, device=device, dtype=dtype)  # cycles per voxel
        squares = squares + frequency.square().reshape([-1 if i == axis else 1 for i in range(len(size))])
    radius = squares.sqrt()
    mean = radius.mean()
    return radius / mean if mean > 0 else radius


class FrequencyLoss(nn.Module):
    """Squared error between spectra: ``mean(w |F sr - F hr|^2)`` with ``F`` the orthonormal Fourier transform.

    With ``weighting="none"`` and ``compare="complex"``, DAGAN's own loss, this **is** the MSE between the images, by
    Parseval's theorem, and adds nothing to it but cost. What differs from the MSE:

    - ``weighting="radial"`` (the default): w is the distance from zero frequency over its mean. White noise costs as
      much as in the MSE, blur more, and an error of the mean intensity nothing: use it beside a loss between voxels.
    - ``compare="magnitude"``: ``mean(w (|F sr| - |F hr|)^2)`` asks for the right texture at any place, as a cyclic
      shift changes phases only.

    Args:
        weighting: "radial" or "none".
        compare: "complex" or "magnitude".

    Shape:
        (B, C, *spatial), (B, C, *spatial) -> (); the transform is over the spatial axes, in float32 also in autocast

    Raises:
        InputError: an unknown option, or shapes that differ.

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
        axes = tuple(range(2, sr.dim()))
        if self.compare == "magnitude":
            error = _spectrum(sr, axes).abs() - _spectrum(hr, axes).abs()
        else:
            error = torch.view_as_real(_spectrum(sr - hr, axes)).movedim(-1, 0)  # real and imaginary part
        power = error.square()
        if self.weighting == "radial":
            power = power * radial_weights(tuple(sr.shape[2:]), sr.device, sr.dtype)
        return power.mean() if self.compare == "magnitude" else power.sum(dim=0).mean()


def _spectrum(image: Tensor, axes: tuple[int, ...]) -> Tensor:
    return torch.fft.fftn(image, dim=axes, norm="ortho")
