"""The engine that applies a network to volumes, one by one."""

from __future__ import annotations

import logging
from typing import Any, cast

from ignite.engine import Engine
from monai.data.utils import list_data_collate
from monai.engines import IterationEvents, SupervisedEvaluator
from monai.utils.enums import CommonKeys as Keys
from torch import nn
from tqdm import tqdm

from medsr_monai.system.errors import InputError, find_input_error
from medsr_monai.training.batches import prepare_volume
from medsr_monai.upscaling.volume_streaming import VolumeStreamer


class VolumeUpscaler(SupervisedEvaluator):
    """Upscale volumes one by one; a volume that cannot be read is reported, and the others are done all the same.

    Args:
        dataset: of loaded and preprocessed volumes under ``image``, MetaTensors (C, X, Y, Z); it loads when indexed.
        network: the generator.
        progress: show a progress bar over the volumes.
        streamer: upscales from file to file the volumes that it wants; None to hold every volume in memory. It needs
            the dataset's ``data``, with the file's name under ``image``.
        kwargs: of MONAI's ``SupervisedEvaluator``: inferer, postprocessing, device, handlers.
    """

    def __init__(
        self,
        *,
        dataset: Any,
        network: nn.Module,
        progress: bool = True,
        streamer: VolumeStreamer | None = None,
        **kwargs: Any,
    ) -> None:
        kwargs.setdefault("prepare_batch", prepare_volume)
        super().__init__(val_data_loader=[], epoch_length=1, network=network.eval(), **kwargs)
        self.dataset = dataset
        self.progress = progress
        self.streamer = streamer
        self.add_event_handler(IterationEvents.FORWARD_COMPLETED, _part_deviation)
        # An error reaches the caller as an exception; ignite's log line of it would only be a second one.
        self.logger.setLevel(logging.CRITICAL)

    def run(self, global_epoch: int = 1) -> None:  # type: ignore[override]
        """Upscale every volume of the dataset.

        Raises:
            InputError: one or more volumes could not be read or written; the message names each.
        """
        failures = []
        for index in tqdm(range(len(self.dataset)), unit="scan", disable=not self.progress or len(self.dataset) == 1):
            try:
                self._upscale(index, global_epoch)
            except Exception as error:
                cause = find_input_error(error)
                if cause is None:
                    raise
                failures.append(str(cause))
            finally:
                # What ignite keeps of one volume would lie beside the next one.
                self.state.output = self.state.batch = None
                self.data_loader = []
                # ignite keeps the run that an error ended, and would end the next one with it, without a word.
                self._internal_run_generator = None
        if failures:
            raise InputError("; ".join(dict.fromkeys(failures)))

    def _upscale(self, index: int, global_epoch: int) -> None:
        if self.streamer is not None:
            source = self.dataset.data[index]["image"]
            self.streamer.save.check(source)
            if self.streamer.wants(source, self.network):
                self.streamer.upscale(source, self.network)
                return
        self.data_loader = [list_data_collate([self.dataset[index]])]
        super().run(global_epoch)


def _part_deviation(engine: Engine) -> None:
    """An inferer's answer of mean and deviation: two images from here on."""
    output = cast(dict[str, Any], engine.state.output)
    if isinstance(output[Keys.PRED], tuple):
        output[Keys.PRED], output["deviation"] = output[Keys.PRED]
