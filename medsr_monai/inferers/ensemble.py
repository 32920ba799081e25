"""The mean over mirrored copies of the image."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from monai.inferers import Inferer
from torch import Tensor

from medsr_monai.errors import InputError


class FlipEnsembleInferer(Inferer):
    """Average the network's answers to mirrored copies of the input, each mirrored back.

    Args:
        inferer: runs the network.
        size: how many mirrorings, 1 (none) to 8 in 3D, 4 in 2D; the time grows in proportion.

    Reference:
        Timofte et al., Seven ways to improve example-based single image super resolution, doi:10.1109/CVPR.2016.206
    """

    def __init__(self, inferer: Inferer, size: int = 1) -> None:
        super().__init__()
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise InputError(f"ensemble {size}: must be a whole number, 1 or more")
        self.inferer = inferer
        self.size = size

    @staticmethod
    def mirrorings(axes: int) -> list[list[int]]:
        """Sets of dimensions to mirror; each is followed by its complement, so that any two neighbours balance out."""
        dims = list(range(2, 2 + axes))
        halves = [[dim for dim in dims[1:] if chosen >> (dim - 3) & 1] for chosen in range(2 ** (axes - 1))]
        return [part for half in halves for part in (half, [dim for dim in dims if dim not in half])]

    def __call__(self, inputs: Tensor, network: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
        """Upscale (B, C, *spatial) to (B, C', *(scale * spatial))."""
        mirrorings = self.mirrorings(inputs.ndim - 2)
        if self.size > len(mirrorings):
            raise InputError(f"ensemble {self.size}: there are {len(mirrorings)} mirrorings of this image")
        total: Tensor | None = None
        for dims in mirrorings[: self.size]:
            result = self.inferer(inputs.flip(dims), network, *args, **kwargs).flip(dims)
            total = result if total is None else total.add_(result)
        assert total is not None
        return total.div_(self.size) if self.size > 1 else total
