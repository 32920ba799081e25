"""Upscaling: one path from volume to volume, exact streams, ensembles, and the projection onto the measurement."""

from medsr_monai.upscaling.consistent import ConsistentInferer, consistency_regularisation, is_exact
from medsr_monai.upscaling.file_to_file import Upscaled, UpscalingSettings, upscale_volume
from medsr_monai.upscaling.outputs import OutputNames
from medsr_monai.upscaling.stream_or_whole import StreamOrWholeInferer
from medsr_monai.upscaling.streaming import StreamingInferer, cut_axis
from medsr_monai.upscaling.volume_upscaler import VolumeUpscaler

__all__ = [
    "ConsistentInferer",
    "OutputNames",
    "StreamOrWholeInferer",
    "StreamingInferer",
    "Upscaled",
    "UpscalingSettings",
    "VolumeUpscaler",
    "consistency_regularisation",
    "cut_axis",
    "is_exact",
    "upscale_volume",
]
