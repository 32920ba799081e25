"""What applies a network to volumes, one by one."""

from __future__ import annotations

from typing import Any

from monai.inferers import Inferer
from torch import nn
from tqdm import tqdm

from medsr_monai.system.errors import InputError, find_input_error
from medsr_monai.upscaling.file_to_file import UpscalingSettings, upscale_volume
from medsr_monai.upscaling.outputs import OutputNames


class VolumeUpscaler:
    """Upscale volumes one by one; a volume that cannot be read is reported, and the others are done all the same.

    Args:
        dataset: of MONAI, whose ``data`` has the files' names under ``image``; nothing of it is loaded.
        network: the generator.
        inferer: see :func:`upscale_volume`.
        outputs: names the files to write.
        settings: see :class:`UpscalingSettings`.
        progress: show a progress bar over the volumes.
    """

    def __init__(
        self,
        *,
        dataset: Any,
        network: nn.Module,
        inferer: Inferer,
        outputs: OutputNames,
        settings: UpscalingSettings | None = None,
        progress: bool = True,
    ) -> None:
        self.sources = [item["image"] for item in dataset.data]
        self.network, self.inferer, self.outputs = network, inferer, outputs
        self.settings, self.progress = settings, progress

    def run(self) -> None:
        """Upscale every volume of the dataset.

        Raises:
            InputError: one or more volumes could not be read or written; the message names each.
        """
        failures = []
        for source in tqdm(self.sources, unit="scan", disable=not self.progress or len(self.sources) == 1):
            try:
                target, deviation = self.outputs.path(source), self.outputs.path(source, "std")
                upscale_volume(source, self.network, self.inferer, target, deviation, self.settings)
            except Exception as error:
                cause = find_input_error(error)
                if cause is None:
                    raise
                failures.append(str(cause))
        if failures:
            raise InputError("; ".join(dict.fromkeys(failures)))
