"""Feature networks: what they load, what they refuse, and that they draw nothing from the global generator."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from medsr_monai.networks import ConvolutionalFeatures, MedicalNetFeatures, OnSlices, VGG19Features
from medsr_monai.networks.features import fill_
from medsr_monai.system.errors import InputError

CONV_INDICES = [0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34]  # of torchvision's vgg19.features


def test_random_features_come_from_their_seed_alone():
    state = torch.get_rng_state()
    first, again, other = (ConvolutionalFeatures(2, widths=(2, 4), seed=seed) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    image = torch.rand(1, 1, 7, 6)
    assert [f.shape[1:] for f in first(image)] == [(2, 7, 6), (4, 4, 3)]
    assert torch.equal(first(image)[1], again(image)[1]) and not torch.equal(first(image)[1], other(image)[1])
    assert not any(p.requires_grad for p in first.parameters())


def test_features_from_a_file(tmp_path):
    source = ConvolutionalFeatures(3, widths=(2,), seed=5)
    torch.save({"state_dict": {f"module.{k}": v for k, v in source.state_dict().items()}}, tmp_path / "f.pt")
    image = torch.rand(1, 1, 3, 4, 2)
    assert torch.equal(ConvolutionalFeatures(3, widths=(2,), weights=tmp_path / "f.pt")(image)[0], source(image)[0])
    with pytest.raises(InputError, match="not for ConvolutionalFeatures"):
        ConvolutionalFeatures(3, widths=(3,), weights=tmp_path / "f.pt")
    (tmp_path / "g.pt").write_text("no weights")
    for name, message in (("g.pt", "cannot read the weights"), ("none.pt", "no such weights")):
        with pytest.raises(InputError, match=message):
            ConvolutionalFeatures(3, weights=tmp_path / name)


def test_vgg_has_the_keys_of_torchvision_and_loads_a_larger_file(tmp_path):
    vgg = VGG19Features(None, layer="conv2_1")
    names = [f"features.{i}.{part}" for i in CONV_INDICES[:3] for part in ("weight", "bias")]
    assert list(vgg.state_dict()) == names
    state = {name: torch.ones_like(value) for name, value in vgg.state_dict().items()}
    torch.save({**state, "features.7.weight": torch.ones(1), "classifier.0.weight": torch.ones(1)}, tmp_path / "v.pth")
    loaded = VGG19Features(tmp_path / "v.pth", layer="conv2_1")
    assert all(torch.equal(value, state[name]) for name, value in loaded.state_dict().items())
    (features,) = vgg(torch.rand(2, 1, 4, 6))
    assert features.shape == (2, 128, 2, 3) and features.min() < 0  # before the activation
    for image, message in ((torch.rand(1, 1, 3, 9), "need at least 4"), (torch.rand(1, 2, 8, 8), "1 or 3")):
        with pytest.raises(InputError, match=message):
            vgg(image)
    with pytest.raises(InputError, match="layer 'conv1_3'"):
        VGG19Features(None, layer="conv1_3")


def test_torchvisions_weights_are_never_fetched(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    url = "https://example.org/vgg19-0123.pth"
    weights = SimpleNamespace(IMAGENET1K_V1=SimpleNamespace(url=url))
    monkeypatch.setitem(sys.modules, "torchvision.models", SimpleNamespace(VGG19_Weights=weights))
    path = tmp_path / "checkpoints" / "vgg19-0123.pth"
    with pytest.raises(InputError, match="no such weights; put the file of") as caught:
        VGG19Features(layer="conv1_1")
    assert str(path) in str(caught.value)
    path.parent.mkdir()
    source = VGG19Features(None, layer="conv1_1", seed=3)
    torch.save(source.state_dict(), path)
    assert torch.equal(VGG19Features(layer="conv1_1").features[0].weight, source.features[0].weight)


def test_a_volume_is_shown_in_slices_along_each_axis():
    volume = torch.arange(2 * 4 * 5 * 6.0).reshape(2, 1, 4, 5, 6)
    everything = OnSlices(nn.Identity(), None)(volume)
    assert [tuple(f.shape) for f in everything] == [(8, 1, 5, 6), (10, 1, 4, 6), (12, 1, 4, 5)]
    assert torch.equal(everything[1][7], volume[1, :, :, 2])
    some = OnSlices(nn.Identity(), 2)(volume)
    assert torch.equal(some[2], torch.stack([volume[b, :, ..., i] for b in range(2) for i in (1, 4)]))
    assert torch.equal(OnSlices(nn.Identity())(volume[:, :, 0])[0], volume[:, :, 0])  # a slice already
    with pytest.raises(InputError, match=r"need \(B, C, D, H, W\) or"):
        OnSlices(nn.Identity())(volume[0, 0])
    with pytest.raises(InputError, match="slices_per_axis 0"):
        OnSlices(nn.Identity(), 0)


def test_medicalnet_from_a_file_as_released(tmp_path):
    from monai.networks.nets import resnet10

    released = resnet10(
        spatial_dims=3, n_input_channels=1, feed_forward=False, shortcut_type="B", bias_downsample=False
    )
    state = {f"module.{k}": v for k, v in released.state_dict().items() if not k.endswith("num_batches_tracked")}
    torch.save({"state_dict": state}, tmp_path / "resnet_10.pth")
    network = MedicalNetFeatures(tmp_path / "resnet_10.pth")
    assert torch.equal(network.network.layer4[0].conv1.weight, released.layer4[0].conv1.weight)
    assert [tuple(f.shape[1:]) for f in network(torch.rand(1, 1, 16, 16, 8))] == [
        (64, 4, 4, 2),
        (128, 2, 2, 1),
        (256, 1, 1, 1),
    ]
    del state["module.layer1.0.conv1.weight"]
    torch.save({"state_dict": state}, tmp_path / "other.pth")
    with pytest.raises(InputError, match="not for ResNetFeatures"):
        MedicalNetFeatures(tmp_path / "other.pth")
    with pytest.raises(InputError, match="depth 11"):
        MedicalNetFeatures(tmp_path / "other.pth", depth=11)
    with pytest.raises(InputError, match="1, D, H, W"):
        network(torch.rand(1, 2, 4, 4, 4))


def test_a_file_with_foreign_things_is_refused(tmp_path):
    torch.save({"epoch": 3}, tmp_path / "log.pt")
    with pytest.raises(InputError, match="holds no state dict; try another"):
        fill_(nn.Linear(1, 1), tmp_path / "log.pt", "try another")
