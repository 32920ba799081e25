"""Small networks to stream, at random, and streams put together again."""

from __future__ import annotations

import itertools
import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from medsr_monai.networks.blocks import CONVOLUTIONS, PixelShuffle
from medsr_monai.upscaling.convolution import StreamedNetwork


def stream_whole(streamed: StreamedNetwork, image: Tensor) -> Tensor:
    """The parts of a stream joined, after a check that they follow each other and that each slice is read once."""
    dim = 2 + streamed.axis
    asked = []

    def read(start: int, stop: int) -> Tensor:
        asked.append((start, stop))
        return image.narrow(dim, start, stop - start)

    parts, done = [], 0
    for where, part in streamed.stream(read, image.shape[dim]):
        assert where.start == done and where.stop == done + part.shape[dim]
        done = where.stop
        parts.append(part.clone())
    edges = [0, *(stop for _, stop in asked)]
    assert asked == list(itertools.pairwise(edges)) and edges[-1] == image.shape[dim]
    return torch.cat(parts, dim)


def whole_image(network: nn.Module, image: Tensor) -> Tensor:
    with torch.no_grad():
        return network.eval()(image)


class RandomGenerator(nn.Module):
    """Convolutions of any kind with skips and concatenations, then an upsampling of any kind."""

    def __init__(self, dims: int, rng: np.random.Generator) -> None:
        super().__init__()
        self.dims, self.widths = dims, 4
        self.body = nn.ModuleList()
        self.joins = [str(rng.choice(["chain", "add", "cat", "scaled"])) for _ in range(int(rng.integers(1, 5)))]
        channels = 2
        self.head = self._convolution(dims, 2, 4, rng)
        channels = 4
        for join in self.joins:
            self.body.append(nn.Sequential(self._convolution(dims, channels, 4, rng), self._activation(dims, rng)))
            channels = channels + 4 if join == "cat" else 4
            self.body.append(CONVOLUTIONS[dims](channels, 4, 1) if join == "cat" else nn.Identity())
            channels = 4
        self.scale = [int(n) for n in rng.integers(1, 4, dims)]
        self.kind = str(rng.choice(["shuffle", "nearest", "linear"]))
        self.late = self._convolution(dims, 4, 4 if self.kind != "shuffle" else 2 * math.prod(self.scale), rng)
        self.shuffle = PixelShuffle(self.scale)
        self.mode = "nearest" if self.kind == "nearest" else {2: "bilinear", 3: "trilinear"}[dims]
        self.tail = self._convolution(dims, 2 if self.kind == "shuffle" else 4, 1, rng)

    def _convolution(self, dims: int, before: int, after: int, rng: np.random.Generator) -> nn.Module:
        kernel = [int(k) for k in rng.choice([1, 3, 5], dims)]
        dilation = [int(d) for d in rng.integers(1, 3, dims)]
        padding = "same" if rng.random() < 0.2 else [d * (k // 2) for k, d in zip(kernel, dilation, strict=True)]
        mode = "zeros" if rng.random() < 0.6 else "replicate"
        groups = 2 if before % 2 == 0 and after % 2 == 0 and rng.random() < 0.3 else 1
        return CONVOLUTIONS[dims](
            before, after, kernel, padding=padding, dilation=dilation, padding_mode=mode, groups=groups
        )

    def _activation(self, dims: int, rng: np.random.Generator) -> nn.Module:
        norm = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}[dims](4)
        norm.running_mean.uniform_(-1, 1)
        choices = [
            nn.LeakyReLU(0.2, inplace=True),
            nn.ReLU(),
            nn.PReLU(4),
            nn.SiLU(inplace=True),
            nn.GELU(),
            nn.Tanh(),
            nn.Sigmoid(),
            nn.Dropout(0.5),
            norm,
        ]
        return choices[int(rng.integers(len(choices)))]

    def forward(self, image: Tensor) -> Tensor:
        maps = self.head(image)
        for i, join in enumerate(self.joins):
            result = self.body[2 * i](maps)
            if join == "add":
                maps = maps + result
            elif join == "scaled":
                maps = maps - 0.5 * result
            elif join == "cat":
                maps = self.body[2 * i + 1](torch.cat((maps, result), dim=1))
            else:
                maps = result
        maps = self.late(maps)
        if self.kind == "shuffle":
            maps = self.shuffle(maps)
        else:
            maps = functional.interpolate(maps, scale_factor=[float(s) for s in self.scale], mode=self.mode)
        base = functional.interpolate(image[:, :1], scale_factor=[float(s) for s in self.scale], mode="nearest")
        return base + self.tail(maps)
