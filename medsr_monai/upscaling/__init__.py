"""Upscaling, file to file: exact streams and their ensembles, the projection onto the measurement, and the engine."""

from medsr_monai.upscaling.consistent import ConsistentInferer, consistency_regularisation, is_exact
from medsr_monai.upscaling.file_to_file import upscale_in_slabs
from medsr_monai.upscaling.stream_or_whole import StreamOrWholeInferer
from medsr_monai.upscaling.streaming import StreamingInferer
from medsr_monai.upscaling.strips import cut_axis
from medsr_monai.upscaling.volume_streaming import VolumeStreamer
from medsr_monai.upscaling.volume_upscaler import VolumeUpscaler

__all__ = [
    "ConsistentInferer",
    "StreamOrWholeInferer",
    "StreamingInferer",
    "VolumeStreamer",
    "VolumeUpscaler",
    "consistency_regularisation",
    "cut_axis",
    "is_exact",
    "upscale_in_slabs",
]
