"""Networks that can be streamed are, others see the whole image: for validation, which has to take both."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, cast

from monai.inferers import Inferer
from torch import Tensor, nn

from medsr_monai.system.errors import InputError
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

    def __call__(self, inputs: Tensor, network: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Any:
        """Upscale (B, C, *spatial) to (B, C', *(scale * spatial)).

        Raises:
            InputError: the memory does not suffice to stream.
        """
        module = cast(nn.Module, network)
        if module is not self._whole:
            try:
                self.streaming.scale(module)
            except InputError as error:
                log.warning("the network is run on whole images, in whatever memory that takes: %s", error)
                self._whole = module
        runs = network if module is self._whole else self.streaming
        return runs(inputs, *args, **kwargs) if runs is network else runs(inputs, network, *args, **kwargs)
