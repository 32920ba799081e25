"""Handlers of an engine: checkpoints, pictures, a manifest of the run, and the preparation of MLflow."""

from medsr_monai.training.handlers.checkpoint import CHECKPOINT_NAME, BestCheckpoint, ResumableCheckpoint
from medsr_monai.training.handlers.images import ThreePlaneImages
from medsr_monai.training.handlers.manifest import RunManifest
from medsr_monai.training.handlers.tracking import prepare_mlflow

__all__ = [
    "CHECKPOINT_NAME",
    "BestCheckpoint",
    "ResumableCheckpoint",
    "RunManifest",
    "ThreePlaneImages",
    "prepare_mlflow",
]
