"""Networks that can be streamed are, others see the whole image: for validation, which has to take both."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, cast

from monai.inferers import Inferer, SimpleInferer
from torch import Tensor, nn

from medsr_monai.upscaling.streaming import StreamingInferer

log = logging.getLogger(__name__)


class StreamOrWholeInferer(Inferer):
    """Stream a network if it can be; else run it on the whole image at once, and say so once in the log.

    Both give the same: the network's result for the whole image. Only the first is bounded in memory.

    Args:
        settings: of :class:`StreamingInferer`.

    Raises:
        InputError: an argument out of range.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__()
        self.streaming = StreamingInferer(**settings)
        self._whole: nn.Module | None = None

    def chosen(self, network: nn.Module) -> Inferer:
        """What will run a network."""
        if network is not self._whole:
            refusal = self.streaming.refusal(network)
            if refusal is None:
                return self.streaming
            log.warning("the network is run on whole images, in whatever memory that takes: %s", refusal)
            self._whole = network
        return SimpleInferer()

    def __call__(self, inputs: Tensor, network: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Any:
        """Upscale (B, C, *spatial) to (B, C', *(scale * spatial))."""
        return self.chosen(cast(nn.Module, network))(inputs, network, *args, **kwargs)
