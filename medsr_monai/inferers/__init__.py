"""MONAI inferers: streams with their ensembles, and the projection onto the measurement."""

from medsr_monai.inferers.consistent import ConsistentInferer, consistency_regularisation, is_exact
from medsr_monai.inferers.stream_or_whole import StreamOrWholeInferer
from medsr_monai.inferers.streaming import StreamingInferer
from medsr_monai.inferers.strips import cut_axis

__all__ = [
    "ConsistentInferer",
    "StreamOrWholeInferer",
    "StreamingInferer",
    "consistency_regularisation",
    "cut_axis",
    "is_exact",
]
