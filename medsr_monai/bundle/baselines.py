"""The networks of the literature, as the overlays ``network_*.json`` describe them, with weights to compare with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser
from torch import nn

from medsr_monai.bundle.workflows import overlay_file

__all__ = ["trained_baselines"]


def overlay_network(name: str, scale: Sequence[int]) -> nn.Module:
    """The network that an overlay puts in the place of a bundle's, without weights.

    Args:
        name: of the overlay ``network_NAME.json``.
        scale: of the bundle.

    Raises:
        InputError: there is no such overlay.
    """
    overlay = ConfigParser.load_config_file(str(overlay_file(f"network_{name}")))
    return ConfigParser({"scale": list(scale), "network_def": overlay["network_def"]}).get_parsed_content("network_def")


def trained_baselines(
    folder: str | Path, overlays: Sequence[str], scale: Sequence[int], consistency: str = "exact", **networks: nn.Module
) -> dict[str, dict[str, Any]]:
    """Learned baselines for an evaluation's ``models``.

    Args:
        folder: of the weights, ``NAME/model.pt`` each.
        overlays: names of networks that an overlay describes.
        scale: of the bundle.
        consistency: how they are projected: as they were trained.
        networks: others, by name.

    Raises:
        InputError: there is no such overlay.
    """
    networks = {name: overlay_network(name, scale) for name in overlays} | networks
    return {
        name: {"network": network, "weights": str(Path(folder) / name / "model.pt"), "consistency": consistency}
        for name, network in networks.items()
    }
