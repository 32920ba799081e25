"""Exact slab-by-slab execution of a convolutional network."""

from medsr_monai.upscaling.convolution.ensemble import StreamedEnsemble
from medsr_monai.upscaling.convolution.network import StreamedNetwork
from medsr_monai.upscaling.convolution.symmetries import Symmetry, symmetries
from medsr_monai.upscaling.convolution.tracing import trace_generator

__all__ = ["StreamedEnsemble", "StreamedNetwork", "Symmetry", "symmetries", "trace_generator"]
