"""Engines that train a super-resolution network, built on MONAI and ignite; their data, losses and handlers."""

from medsr_monai.training.adversarial import AdversarialTrainer
from medsr_monai.training.batches import prepare_acquired_batch, prepare_measured_batch
from medsr_monai.training.data import RandomPatchDataset, group_by_subject, split_by_subject, subject_of
from medsr_monai.training.fidelity import FidelityTrainer, TrainingDiverged
from medsr_monai.training.processes import (
    distribute,
    for_this_process,
    join_processes,
    leave_processes,
    process_device,
    world_size,
)
from medsr_monai.training.schedules import warmup_stable_decay

__all__ = [
    "AdversarialTrainer",
    "FidelityTrainer",
    "RandomPatchDataset",
    "TrainingDiverged",
    "distribute",
    "for_this_process",
    "group_by_subject",
    "join_processes",
    "leave_processes",
    "prepare_acquired_batch",
    "prepare_measured_batch",
    "process_device",
    "split_by_subject",
    "subject_of",
    "warmup_stable_decay",
    "world_size",
]
