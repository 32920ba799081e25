"""Exact slab-by-slab execution of a convolutional network."""

from medsr_monai.streaming.network import StreamedNetwork
from medsr_monai.streaming.tracing import trace_generator

__all__ = ["StreamedNetwork", "trace_generator"]
