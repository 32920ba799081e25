"""Every bundle's network gives the same as TorchScript and as ONNX."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from bundle_contract import TINY_NETWORK, config_argument, monai_bundle, parser_of, those_known, tiny_network


def exported(bundle: Path, tiny_weights: Path) -> tuple[torch.nn.Module, list[str]]:
    """The network to export, and the arguments that say which: the shipped one where there is one."""
    shipped = bundle / "models" / "model.pt"
    if shipped.is_file():
        network, weights, overrides = parser_of(bundle, "inference").get_parsed_content("network_def"), shipped, {}
    else:
        network, weights = tiny_network(bundle), tiny_weights
        overrides = those_known(parser_of(bundle, "inference"), TINY_NETWORK)
    network.load_state_dict(torch.load(weights, weights_only=True))
    arguments = [item for key, value in overrides.items() for item in (f"--{key}", str(value))]
    arguments += ["--net_id", "network_def", "--ckpt_file", str(weights), *config_argument(bundle)]
    return network.eval(), [*arguments, "--meta_file", str(bundle / "configs" / "metadata.json")]


@torch.no_grad()
def test_torchscript_export_gives_the_same(bundle, tiny_weights, tmp_path, monkeypatch):
    network, arguments = exported(bundle, tiny_weights)
    path = tmp_path / "model.ts"
    monai_bundle(monkeypatch, "ckpt_export", "--filepath", str(path), *arguments)
    loaded = torch.jit.load(path)
    axes = len(parser_of(bundle, "inference")["scale"])
    for shape in ((4, 5, 3), (6, 4, 4)):
        image = torch.rand(1, 1, *shape[:axes])
        torch.testing.assert_close(loaded(image), network(image), rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_onnx_export_gives_the_same_at_any_size(bundle, tiny_weights, tmp_path, monkeypatch):
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    network, arguments = exported(bundle, tiny_weights)
    path = tmp_path / "model.onnx"
    n_axes = len(parser_of(bundle, "inference")["scale"])
    axes = {2 + axis: "xyz"[axis] for axis in range(n_axes)}
    converter = {"input_names": ["image"], "output_names": ["pred"], "dynamic_axes": {"image": axes}}
    monai_bundle(
        monkeypatch,
        "onnx_export",
        *("--filepath", str(path), "--use_trace", "True", "--input_shape", f"[1,1,{','.join('654'[:n_axes])}]"),
        *("--converter_kwargs", str(converter), *arguments),
    )
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    for shape in ((6, 5, 4), (4, 5, 7)):
        image = torch.rand(1, 1, *shape[:n_axes])
        (output,) = session.run(["pred"], {"image": image.numpy()})
        np.testing.assert_allclose(output, network(image).numpy(), rtol=1e-4, atol=1e-5)
