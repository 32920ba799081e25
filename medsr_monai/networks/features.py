"""Feature networks for perceptual losses: frozen, and from local files only; nothing is downloaded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from medsr_monai.networks.blocks import CONVOLUTIONS, NEGATIVE_SLOPE, initialise_kaiming_, run_stages
from medsr_monai.networks.weights import read_weights
from medsr_monai.system.errors import InputError
from medsr_monai.system.optional import require

# torchvision's vgg19: number of convolutions and channels of each block
VGG19_BLOCKS = ((2, 64), (2, 128), (4, 256), (4, 512), (4, 512))
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_DEVIATION = (0.229, 0.224, 0.225)
MEDICALNET_DEPTHS = (10, 18, 34, 50, 101, 152, 200)


def fill_(network: nn.Module, path: str | Path, way_out: str) -> None:
    """Load a network from a file that may hold more weights, for instance a classifier after the features.

    The wrappers ``state_dict`` and ``module.`` of released files are removed.

    Raises:
        InputError: the file is missing, damaged or for another network.
    """
    state: Any = read_weights(path, way_out)
    state = state.get("state_dict", state) if isinstance(state, dict) else state
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise InputError(f"{path}: holds no state dict; {way_out}")
    known = network.state_dict().keys()
    named = {str(name).removeprefix("module."): value for name, value in state.items()}
    try:
        network.load_state_dict({name: value for name, value in named.items() if name in known})
    except RuntimeError as error:
        raise InputError(f"{path}: these weights are not for {type(network).__name__}; {way_out}") from error


def prepare_(network: nn.Module, weights: str | Path | None, way_out: str, seed: int) -> None:
    """Fill a network from a file, or draw its weights from a seed, without the global generator; then freeze it."""
    if weights is None:
        initialise_kaiming_(network, slope=NEGATIVE_SLOPE, rng=torch.Generator().manual_seed(seed))
    else:
        fill_(network, weights, way_out)
    network.requires_grad_(False).eval()


def three_channels(image: Tensor, name: str) -> Tensor:
    """Repeat a single channel to three; refuse anything but (B, 1 or 3, H, W)."""
    if image.dim() != 4 or image.size(1) not in (1, 3):
        raise InputError(
            f"{name}: image of shape {tuple(image.shape)}, but need (B, 1 or 3, H, W); use OnSlices for volumes"
        )
    return image.expand(-1, 3, -1, -1)


class VGG19Features(nn.Module):
    """Features of VGG-19, trained on photographs, before the activation: the perceptual loss of ESRGAN.

    A single channel is repeated to three. Intensities are in units where 1 is the robust maximum, and are normalised as
    ImageNet was. The keys of the state dict are torchvision's, so its file loads here without torchvision.

    Args:
        weights: a local file of torchvision's vgg19; "torchvision" for the file in torch hub's cache, whose name comes
            from the extra ``perceptual``; None for random weights from ``seed``.
        layer: "convB_N", the N-th convolution of block B.
        seed: of the random weights.

    Attributes:
        min_size: smallest number of voxels along each axis: 32 for a layer of the fifth block.

    Shape:
        (B, 1 or 3, H, W) -> one (B, C, H / 2^(block - 1), W / 2^(block - 1)) in a list

    Raises:
        InputError: the layer does not exist, the weights are missing or for another network, or the image is too small
            or not 2D with 1 or 3 channels.

    Reference:
        Simonyan and Zisserman, arXiv:1409.1556; Wang et al., ESRGAN, doi:10.1007/978-3-030-11021-5_5
    """

    def __init__(self, weights: str | Path | None = "torchvision", layer: str = "conv5_4", seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            self.features = _vgg19_until(layer)
        self.min_size = 2 ** int(layer[4])
        if weights == "torchvision":
            weights = _torchvision_file()
        prepare_(self, weights, "give a state dict of torchvision's vgg19", seed)
        for name, values in (("mean", IMAGENET_MEAN), ("deviation", IMAGENET_DEVIATION)):
            self.register_buffer(name, torch.tensor(values).reshape(1, 3, 1, 1), persistent=False)

    def forward(self, image: Tensor) -> list[Tensor]:
        image = three_channels(image, "VGG19Features")
        if min(image.shape[2:]) < self.min_size:
            raise InputError(
                f"VGG19Features: image of {tuple(image.shape[2:])} voxels, but need at least {self.min_size} per axis; "
                "use larger patches or an earlier layer"
            )
        mean, deviation = self.get_buffer("mean"), self.get_buffer("deviation")
        return [self.features((image - mean) / deviation)]


def _vgg19_until(last: str) -> nn.Sequential:
    """The layers up to and including one convolution; their numbers are the keys of torchvision's files."""
    layers: list[nn.Module] = []
    names = []
    width = 3
    for block, (count, channels) in enumerate(VGG19_BLOCKS, 1):
        for number in range(1, count + 1):
            layers.append(nn.Conv2d(width, channels, 3, padding=1))
            names.append(f"conv{block}_{number}")
            if names[-1] == last:
                return nn.Sequential(*layers)
            layers.append(nn.ReLU(inplace=True))
            width = channels
        layers.append(nn.MaxPool2d(2))
    raise InputError(f"layer {last!r}: must be one of {', '.join(names)}")


def _torchvision_file() -> Path:
    """Find the file where torchvision stores its weights; nothing is downloaded."""
    url = require("torchvision.models", "perceptual").VGG19_Weights.IMAGENET1K_V1.url
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
    if not path.is_file():
        raise InputError(
            f"{path}: no such weights; put the file of {url} there, or give its path as 'weights', or use "
            "ConvolutionalFeatures, which needs no file"
        )
    return path


class OnSlices(nn.Module):
    """Apply a 2D feature network to slices of a volume along all three axes: 2.5 dimensions.

    The slices are evenly spaced and the same in every call, so sr and hr are compared slice by slice.

    Args:
        network: maps (N, C, H, W) to feature maps.
        slices_per_axis: slices along each axis, or all slices of an axis that has fewer; None for all.

    Shape:
        (B, C, D, H, W) -> the network's feature maps, axis by axis
        (B, C, H, W), a slice itself -> the network's feature maps

    Raises:
        InputError: ``slices_per_axis`` is below 1, or the image has other dimensions.
    """

    def __init__(self, network: nn.Module, slices_per_axis: int | None = 8) -> None:
        super().__init__()
        if slices_per_axis is not None and slices_per_axis < 1:
            raise InputError(f"slices_per_axis {slices_per_axis}: must be at least 1, or None for all")
        self.network = network
        self.slices_per_axis = slices_per_axis

    def forward(self, image: Tensor) -> list[Tensor]:
        if image.dim() not in (4, 5):
            raise InputError(f"OnSlices: image of shape {tuple(image.shape)}, but need (B, C, D, H, W) or (B, C, H, W)")
        found = [self.network(slices) for slices in ([image] if image.dim() == 4 else self.slices(image))]
        return [one for maps in found for one in ([maps] if isinstance(maps, Tensor) else maps)]

    def slices(self, image: Tensor) -> list[Tensor]:
        """Cut (B, C, D, H, W) into slices along each axis, (N, C, *other axes) each."""
        chosen = []
        for axis in (2, 3, 4):
            size = image.size(axis)
            count = min(size, self.slices_per_axis or size)
            # the middle slice of each of ``count`` equal parts of the axis
            positions = ((torch.arange(count, device=image.device) * 2 + 1) * size) // (2 * count)
            chosen.append(image.index_select(axis, positions).movedim(axis, 1).flatten(0, 1))
        return chosen


class MedicalNetFeatures(nn.Module):
    """Features of a 3D ResNet that was trained to segment 23 medical data sets.

    The network is MONAI's. Its last two stages halve the image, while those of the released network are dilated. The
    weights fit, but the features are on coarser grids. MedicalNet was trained on images with zero mean and unit
    deviation over the foreground. Here both are fixed numbers, so a change of brightness changes the features.

    Args:
        path: a released file, e.g. ``resnet_10_23dataset.pth``.
        depth: depth of the released network: 10, 18, 34, 50, 101, 152 or 200.
        stages: how many of the four stages to use.
        mean: subtracted from the image, in intensity units where 1 is the robust maximum.
        deviation: divides the difference.

    Shape:
        (B, 1, D, H, W) -> one feature map per stage; the first has a quarter of the grid, each further one half of the
        previous

    Raises:
        InputError: an argument is out of range, the file is missing or for another network, or the image has other
            dimensions.

    Reference:
        Chen et al., arXiv:1904.00625
    """

    def __init__(
        self, path: str | Path, depth: int = 10, stages: int = 3, mean: float = 0.4, deviation: float = 0.25
    ) -> None:
        super().__init__()
        if depth not in MEDICALNET_DEPTHS:
            raise InputError(f"depth {depth}: must be one of {', '.join(map(str, MEDICALNET_DEPTHS))}")
        if stages not in range(1, 5):
            raise InputError(f"stages {stages}: must be 1 to 4")
        if not deviation > 0:
            raise InputError(f"deviation {deviation}: must be above 0")
        from monai.networks.nets.resnet import ResNetFeatures  # slow to import

        with torch.random.fork_rng(devices=[]):
            self.network = ResNetFeatures(f"resnet{depth}", pretrained=False, spatial_dims=3, in_channels=1)
        self.stages, self.mean, self.deviation = stages, mean, deviation
        way_out = f"give the released MedicalNet file resnet_{depth}_23dataset.pth or resnet_{depth}.pth"
        prepare_(self.network, path, way_out, seed=0)

    def forward(self, image: Tensor) -> list[Tensor]:
        if image.dim() != 5 or image.size(1) != 1:
            raise InputError(f"MedicalNetFeatures: image of shape {tuple(image.shape)}, but need (B, 1, D, H, W)")
        return self.network((image - self.mean) / self.deviation)[1 : self.stages + 1]


class ConvolutionalFeatures(nn.Module):
    """Two convolutions per level and a stride between levels, with random or trained weights.

    Random weights are intended: features of an untrained 3D network work as a perceptual loss in denoising, need no
    file, and prefer no anatomy.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the image, in intensity units where 1 is the robust maximum.
        widths: channels of each level.
        weights: a state dict of this class; None for random weights from ``seed``.
        seed: of the random weights; the global generator does not change.

    Shape:
        (B, in_channels, *spatial) -> one feature map per level, each on half the grid of the previous, rounded up

    Raises:
        InputError: an argument is out of range, or the weights are missing or for another network.

    Reference:
        arXiv:2411.05884
    """

    def __init__(
        self,
        spatial_dims: int = 3,
        in_channels: int = 1,
        widths: Sequence[int] = (16, 32, 64),
        weights: str | Path | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if spatial_dims not in CONVOLUTIONS:
            raise InputError(f"spatial_dims {spatial_dims}: must be 2 or 3")
        if not widths or min(in_channels, *widths) < 1:
            raise InputError(f"in_channels {in_channels}, widths {list(widths)}: each must be at least 1")
        conv = CONVOLUTIONS[spatial_dims]
        self.levels = nn.ModuleList()
        with torch.random.fork_rng(devices=[]):
            for level, (before, width) in enumerate(zip((in_channels, *widths), widths, strict=False)):
                convolutions = (
                    conv(before, width, 3, stride=2 if level else 1, padding=1),
                    conv(width, width, 3, padding=1),
                )
                layers = (layer for one in convolutions for layer in (one, nn.LeakyReLU(NEGATIVE_SLOPE, inplace=True)))
                self.levels.append(nn.Sequential(*layers))
        prepare_(self, weights, "leave out 'weights' for random weights", seed)

    def forward(self, image: Tensor) -> list[Tensor]:
        return run_stages(self.levels, image)
