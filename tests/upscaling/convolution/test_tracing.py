"""What cannot be streamed is refused by name, with a way out."""

from __future__ import annotations

import pytest
import torch
from monai.networks.nets import BasicUNet
from torch import Tensor, nn
from torch.nn import functional

from medsr_monai.system.errors import InputError
from medsr_monai.upscaling.convolution import StreamedNetwork, trace_generator
from tests.upscaling.convolution.generators import stream_whole, whole_image


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.attention = nn.Conv2d(1, 4, 1), nn.MultiheadAttention(4, 1)

    def forward(self, image: Tensor) -> Tensor:
        maps = self.conv(image)
        return self.attention(maps, maps, maps)[0]


class Function(nn.Module):
    def __init__(self, function) -> None:
        super().__init__()
        self.conv, self.function = nn.Conv2d(2, 2, 1), function

    def forward(self, image: Tensor) -> Tensor:
        return self.function(self.conv(image))


REFUSED = [
    (
        nn.Sequential(nn.Conv3d(1, 2, 1), nn.InstanceNorm3d(2)),
        "InstanceNorm3d at 1: looks at the whole image; use batch",
    ),
    (nn.Sequential(nn.Conv3d(1, 2, 1), nn.GroupNorm(1, 2)), "GroupNorm at 1"),
    (nn.Sequential(nn.Conv2d(1, 2, 1), nn.AdaptiveAvgPool2d(1)), "AdaptiveAvgPool2d at 1: looks at the whole image"),
    (
        nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2, track_running_stats=False)),
        "BatchNorm2d at 1: .* statistics",
    ),
    (nn.Sequential(nn.Conv2d(1, 2, 3, stride=2, padding=1)), r"Conv2d at 0: stride \(2, 2\)"),
    (nn.Sequential(nn.Conv2d(1, 2, 3)), "Conv2d at 0: changes the size of axis 0 by -2"),
    (nn.Sequential(nn.Conv2d(1, 2, 3, padding=1, padding_mode="circular")), "padding_mode 'circular'"),
    (nn.Sequential(nn.Conv2d(1, 2, 3, padding=1, padding_mode="reflect")), "padding_mode 'reflect'"),
    (nn.Sequential(nn.Conv2d(1, 2, 1), nn.ConvTranspose2d(2, 1, 2, 2)), "ConvTranspose2d at 1: .*SlidingWindowInferer"),
    (nn.Sequential(nn.Conv2d(1, 2, 1), nn.Upsample(scale_factor=1.5)), "Upsample at 1: scale_factor 1.5"),
    (nn.Sequential(nn.Conv2d(1, 2, 1), nn.Upsample(size=9)), "Upsample at 1: has a fixed output size"),
    (nn.Sequential(nn.Conv2d(1, 2, 1), nn.Upsample(scale_factor=2, mode="bicubic")), "mode 'bicubic'"),
    (
        nn.Sequential(nn.Conv2d(1, 2, 1), nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)),
        "align_corners=True",
    ),
    (Attention(), "MultiheadAttention at attention: looks at the whole image"),
    (Function(lambda x: x.mean()), "mean at .*not a local operation"),
    (Function(lambda x: x - x.mean((2, 3), keepdim=True)), "mean at"),
    (Function(lambda x: functional.avg_pool2d(x, 2)), "avg_pool2d at"),
    (Function(lambda x: x if x.sum() > 0 else -x), "cannot be traced"),
    (Function(lambda x: x[:, :, 1:]), "must be a slice of channels"),
    (Function(lambda x: torch.cat((x, x), 2)), "dim 2, but must be 1"),
    (Function(lambda x: x + torch.rand(4, 4)), "a constant that varies over the image"),
    (Function(lambda x: x + functional.interpolate(x, scale_factor=2.0)), "images of different scale along axis 0"),
    (Function(lambda x: (x, x)), "must return one image"),
    (Function(lambda x: functional.dropout(x)), "drops voxels at random"),
    (Function(lambda x: x[:, :1].mul_(2) + x), "in place on a part of an image"),
    (nn.Sequential(nn.ReLU()), "need 2D or 3D convolutions"),
    (nn.Sequential(nn.Conv2d(1, 1, 1), nn.Conv3d(1, 1, 1)), "need 2D or 3D convolutions"),
]


@pytest.mark.parametrize(("network", "words"), REFUSED, ids=[words[:40] for _, words in REFUSED])
def test_refusals_name_the_layer(network: nn.Module, words: str) -> None:
    with pytest.raises(InputError, match=words) as error:
        trace_generator(network)
    assert "\n" not in str(error.value)


def test_monai_unet_is_refused_for_its_norm_or_pooling() -> None:
    with pytest.raises(InputError, match=r"InstanceNorm3d at conv_0\."):
        trace_generator(BasicUNet(3, 1, 1, features=(4, 4, 4, 4, 4, 4)))


def test_a_function_is_no_network() -> None:
    with pytest.raises(InputError, match=r"need a torch\.nn\.Module"):
        trace_generator(torch.relu)  # type: ignore[arg-type]


def test_hooks_are_not_passed_over() -> None:
    network = nn.Sequential(nn.Conv2d(1, 1, 1))
    handle = network[0].register_forward_hook(lambda *_: None)
    with pytest.raises(InputError, match="Conv2d at 0: has forward hooks"):
        trace_generator(network)
    handle.remove()
    trace_generator(network)


@pytest.mark.parametrize(
    "network",
    [
        nn.Conv2d(2, 3, (3, 5), padding=(1, 2)),
        nn.Sequential(nn.Conv2d(2, 8, 3, padding="same"), nn.PixelShuffle(2), nn.Conv2d(2, 1, 2, padding="same")),
        nn.Sequential(nn.Conv2d(2, 2, 3, padding=1), nn.UpsamplingNearest2d(scale_factor=3), nn.Identity()),
        Function(lambda x: torch.sigmoid(1 - x / 2) * functional.gelu(x, approximate="tanh")),
        Function(lambda x: functional.pixel_shuffle(torch.cat([x, x.clamp(0, 1)], dim=-3), 2)),
        Function(lambda x: functional.leaky_relu(x + x, 0.1, inplace=True) + 2 * x.abs()),
        Function(lambda x: x + torch.tensor([1.0, -1.0]).view(1, 2, 1, 1)),
    ],
    ids=str,
)
def test_foreign_networks_that_obey_the_rules(network: nn.Module) -> None:
    torch.manual_seed(0)
    image = torch.randn(1, 2, 11, 7)
    for axis, slab in ((0, 1), (0, 4), (1, 3)):
        result = stream_whole(StreamedNetwork(network, axis, slab), image)
        assert torch.allclose(result, whole_image(network, image), atol=1e-6)


def test_dead_branches_are_not_computed() -> None:
    graph = trace_generator(Function(lambda x: (x * 2, x + 1)[1]))
    assert [layer.name.split(" ")[0] for layer in graph.layers] == ["input", "conv", "add"]
