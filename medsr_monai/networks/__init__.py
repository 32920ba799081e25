"""Networks: one paper, one file."""

from medsr_monai.networks.rrdb import RRDBNet
from medsr_monai.networks.weights import load_weights

__all__ = ["RRDBNet", "load_weights"]
