"""Exact slab-by-slab execution of a convolutional network."""

from medsr_monai.streaming.ensemble import StreamedEnsemble
from medsr_monai.streaming.network import StreamedNetwork
from medsr_monai.streaming.symmetries import Symmetry, symmetries
from medsr_monai.streaming.tracing import trace_generator

__all__ = ["StreamedEnsemble", "StreamedNetwork", "Symmetry", "symmetries", "trace_generator"]
