"""Engines that train and apply a super-resolution network, on MONAI's and ignite's."""

from medsr_monai.engines.adversarial import AdversarialTrainer
from medsr_monai.engines.batches import prepare_acquired_batch, prepare_measured_batch, prepare_volume
from medsr_monai.engines.fidelity import FidelityTrainer, TrainingDiverged
from medsr_monai.engines.processes import (
    distribute,
    for_this_process,
    join_processes,
    leave_processes,
    process_device,
    world_size,
)
from medsr_monai.engines.schedules import warmup_stable_decay
from medsr_monai.engines.slabwise import upscale_in_slabs
from medsr_monai.engines.upscaling import VolumeUpscaler
from medsr_monai.engines.volume_streaming import VolumeStreamer

__all__ = [
    "AdversarialTrainer",
    "FidelityTrainer",
    "TrainingDiverged",
    "VolumeStreamer",
    "VolumeUpscaler",
    "distribute",
    "for_this_process",
    "join_processes",
    "leave_processes",
    "prepare_acquired_batch",
    "prepare_measured_batch",
    "prepare_volume",
    "process_device",
    "upscale_in_slabs",
    "warmup_stable_decay",
    "world_size",
]
