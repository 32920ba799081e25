"""MONAI inferers: streams, exact tiles, ensembles, and the projection onto the measurement."""

from medsr_monai.inferers.consistent import ConsistentInferer, consistency_regularisation
from medsr_monai.inferers.ensemble import FlipEnsembleInferer
from medsr_monai.inferers.streaming import StreamingInferer
from medsr_monai.inferers.tiled import TiledInferer, cut_axis, layer_progress, plan_tiles

__all__ = [
    "ConsistentInferer",
    "FlipEnsembleInferer",
    "StreamingInferer",
    "TiledInferer",
    "consistency_regularisation",
    "cut_axis",
    "layer_progress",
    "plan_tiles",
]
