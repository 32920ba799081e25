"""Wherever the output waits, an upscaling is what a plain reference makes of the whole image at once."""

from __future__ import annotations

import gzip
import math
import shutil
import signal
import subprocess
import sys
from collections import namedtuple
from collections.abc import Iterator, Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.inferers import Inferer, SimpleInferer, SlidingWindowInferer
from scipy.spatial.transform import Rotation
from torch import Tensor, nn

from medsr_monai.acquisition import FixedWindow, RobustRange, SeparableAcquisition
from medsr_monai.geometry import Grid, inverse_orientation, parse_orientation, reorient
from medsr_monai.networks import RRDBNet
from medsr_monai.system.errors import InputError
from medsr_monai.upscaling import (
    ConsistentInferer,
    StreamingInferer,
    StreamOrWholeInferer,
    UpscalingSettings,
    file_to_file,
    low_resolution,
    upscale_volume,
)
from medsr_monai.upscaling.file_to_file import check_free_space
from medsr_monai.volumes import Volume, lazy, read_volume, write_volume

CODES = [a + b + c for a in "RL" for b in "AP" for c in "SI"]
AXCODES = ["".join(code[i] for i in order) for code in CODES for order in
           ((0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0))]  # fmt: skip
RULES = [RobustRange(), RobustRange(20, 60), FixedWindow(-100, 900), FixedWindow()]
SCALES_3D = [(2, 2, 2), (1, 1, 4), (3, 1, 1), (1, 2, 1), (2, 1, 3), (2, 2, 1)]
SCALES_2D = [(2, 2), (2, 3)]


def network_of(scale: Sequence[int]) -> RRDBNet:
    """A small one with branches as strong as after training, which no flip or permutation leaves alone."""
    with torch.random.fork_rng():
        torch.manual_seed(sum(scale))
        network = RRDBNet(len(scale), scale=scale, features=3, growth=3, dense_blocks=1, residual_scale=1.0).eval()
        for parameter in network.parameters():
            nn.init.normal_(parameter, std=0.15)
    return network


@pytest.fixture(autouse=True, scope="module")
def thin_slabs() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(file_to_file, "_SLAB_VOXELS", 250)
        patch.setattr(low_resolution, "_BLOCK_VOXELS", 70)
        patch.setattr(file_to_file, "_RESIDUAL_VOXELS", 119)  # the 120 of most sources here are too many
        patch.setattr(lazy, "_SCAN_VOXELS", 50)
        yield


def affine_of(axcodes: str, spacing_mm: Sequence[float] = (0.8, 1.0, 2.5), degrees: float = 0.0) -> np.ndarray:
    """Of the given orientation, turned a little about a skew axis."""
    affine = np.eye(4)
    for axis, (target, flip) in enumerate(parse_orientation(axcodes).astype(int)):
        affine[:3, axis] = 0
        affine[target, axis] = flip * spacing_mm[axis]
    turn = Rotation.from_rotvec(np.deg2rad(degrees) * np.array([2, -1, 3]) / 14**0.5).as_matrix()
    affine[:3, :3] = turn @ affine[:3, :3]
    affine[:3, 3] = (11, -27, 3)
    return affine


def source_file(
    path: Path,
    axcodes: str = "RAS",
    shape: tuple[int, ...] = (4, 5, 6),
    spacing_mm: Sequence[float] = (0.8, 1.0, 2.5),
    degrees: float = 0.0,
) -> Path:
    rng = np.random.default_rng(len(axcodes) + sum(shape))
    image = nib.Nifti1Image((rng.gamma(2, 150, shape)).astype(np.int16), affine_of(axcodes, spacing_mm, degrees))
    image.header.set_slope_inter(0.5, -10)
    image.header["cal_max"] = 500
    nib.save(image, path)
    return path


def expected_turn(grid: Grid, scale: Sequence[int], axes: str) -> np.ndarray:
    """The network's axis of each of the image's axes, and its direction: written down as the documentation says it."""
    canonical = grid.canonical()[1]
    three = [*scale, 1] if len(scale) == 2 else [*scale]
    if len(scale) == 3 and len(set(scale)) == 1:
        return canonical
    odd = 2 if len(scale) == 2 else next((a for a in range(3) if three.count(three[a]) == 1), 0)
    if len(set(three)) == 3 and len(scale) == 3:
        odd = three.index(max(three))
    spacing = np.array(grid.spacing_mm)
    thickest = max(a for a in range(3) if spacing[a] > spacing.max() - 1e-6)
    single = [a for a in range(3) if grid.shape[a] == 1]
    pairs = [a for a in range(3) if abs(spacing[a - 1] - spacing[a - 2]) < 1e-6]  # the two others are equal
    unlike = pairs[0] if len(pairs) == 1 else thickest
    slices = single[0] if len(single) == 1 else unlike
    chosen = odd if axes == "image" else slices
    others = [a for a in range(3) if a != chosen]
    rest = [a for a in range(3) if a != odd]
    if three[rest[0]] == three[rest[1]]:
        others.sort(key=lambda a: canonical[a, 0])
    turn = np.zeros((3, 2))
    turn[chosen] = odd, canonical[chosen, 1]
    for image_axis, network_axis in zip(others, rest, strict=True):
        turn[image_axis] = network_axis, canonical[image_axis, 1]
    return turn


@torch.no_grad()
def reference(source: Volume, network: nn.Module, scale: Sequence[int], rule, axes, profile, regularisation) -> Volume:
    """The whole network on the whole turned array, projected by the plain operator; volume by volume."""
    turn = expected_turn(source.grid, scale, axes)
    series = source.data if source.data.ndim == 4 else source.data[..., None]
    results = []
    for image in np.moveaxis(series, -1, 0):
        low, high = rule.window(image)
        lr = torch.from_numpy(np.array(reorient((image - np.float32(low)) / np.float32(high - low), turn)))[None, None]
        slices = [network(lr[..., k]) for k in range(lr.shape[-1])] if len(scale) == 2 else []
        sr = torch.stack(slices, dim=-1) if slices else network(lr)
        if regularisation is not None:
            acquisition = SeparableAcquisition.from_profile(sr.shape[2:], lr.shape[2:], profile)
            sr = acquisition.project(sr, lr, regularisation)
        results.append(reorient((sr[0, 0] * (high - low) + low).numpy(), inverse_orientation(turn)))
    data = np.stack(results, axis=-1)
    data = data if source.n_times is not None else data[..., 0]
    grid = source.grid.resized(data.shape[:3])
    return Volume(path=source.path, grid=grid, n_times=source.n_times, data=data)


def assert_like(made: Volume, expected: Volume) -> None:
    assert made.shape == expected.shape
    np.testing.assert_allclose(made.grid.affine, expected.grid.affine, rtol=0, atol=1e-4)
    assert float(np.abs(made.data - expected.data).max()) <= 1e-5 * float(np.ptp(expected.data))


@settings(deadline=None, max_examples=60, derandomize=True)
@given(
    axcodes=st.sampled_from(AXCODES),
    scale=st.sampled_from(SCALES_3D + SCALES_2D),
    rule=st.sampled_from(RULES),
    axes=st.sampled_from(["image", "slice"]),
    profile=st.sampled_from(["box", "gaussian", "kspace"]),
    regularisation=st.sampled_from([None, 0.0, 0.1]),
    shape=st.sampled_from([(4, 5, 6), (5, 4, 7, 2), (4, 5, 1)]),
    spacing_mm=st.sampled_from([(0.8, 1.0, 2.5), (4.0, 1.0, 1.0), (1.0, 3.0, 1.0), (1.0, 1.0, 1.0)]),
    suffix=st.sampled_from([".nii", ".nii.gz", ".nrrd"]),
    memory_gb=st.sampled_from([None, 2e-4]),
)
def test_the_place_where_it_waits_changes_nothing(
    tmp_path_factory, axcodes, scale, rule, axes, profile, regularisation, shape, spacing_mm, suffix, memory_gb
):
    folder = tmp_path_factory.mktemp("family")
    source = source_file(folder / "x.nii.gz", axcodes, shape, spacing_mm, degrees=7.0)
    network = network_of(scale)
    expected = reference(read_volume(source), network, scale, rule, axes, profile, regularisation)
    for stream, inner in (("never", StreamingInferer()), ("always", StreamingInferer(memory_gb=memory_gb))):
        inferer = ConsistentInferer(inner, profile, regularisation)
        chosen = UpscalingSettings(intensity=rule, axes=axes, stream=stream)
        upscale_volume(source, network, inferer, folder / f"{stream}{suffix}", settings=chosen)
        assert_like(read_volume(folder / f"{stream}{suffix}"), expected)
    never, always = (read_volume(folder / f"{stream}{suffix}") for stream in ("never", "always"))
    assert never.grid == always.grid
    assert never.header is None or never.header.binaryblock == always.header.binaryblock


@pytest.mark.parametrize("axcodes", AXCODES)
def test_every_orientation(axcodes: str, tmp_path: Path) -> None:
    assert len(set(AXCODES)) == 48
    index = AXCODES.index(axcodes)
    source = source_file(tmp_path / "x.nii.gz", axcodes, degrees=11.0)
    scale, regularisation = [(2, 1, 3), (1, 1, 2), (2, 2, 2)][index % 3], (0.0, None)[index // 2 % 2]
    expected = reference(read_volume(source), network_of(scale), scale, RobustRange(), "image", "box", regularisation)
    inferer = ConsistentInferer(StreamingInferer(), regularisation=regularisation)
    for stream in ("never", "always"):
        chosen = UpscalingSettings(stream=stream)
        upscale_volume(source, network_of(scale), inferer, tmp_path / f"{stream}.nii", settings=chosen)
        assert_like(read_volume(tmp_path / f"{stream}.nii"), expected)


class Repeat(nn.Module):
    """Every voxel becomes a block of its own value."""

    def __init__(self, *scale: int) -> None:
        super().__init__()
        self.scale = scale
        kind = nn.Conv2d if len(scale) == 2 else nn.Conv3d
        self.one = kind(1, 1, 1, bias=False)
        nn.init.ones_(self.one.weight)

    def forward(self, image: Tensor) -> Tensor:
        image = self.one(image)
        for axis, factor in enumerate(self.scale):
            image = image.repeat_interleave(factor, dim=axis + 2)
        return image


def check_place_of_every_voxel(sr: Volume, source: Volume) -> None:
    """Every voxel has the value of the source's voxel in which its centre lies, in world coordinates."""
    indices = np.stack(np.meshgrid(*map(np.arange, sr.grid.shape), indexing="ij"), axis=-1).reshape(-1, 3)
    world = indices @ sr.grid.affine[:3, :3].T + sr.grid.affine[:3, 3]
    inverse = np.linalg.inv(source.grid.affine)
    nearest = np.rint(world @ inverse[:3, :3].T + inverse[:3, 3]).astype(int)
    assert (nearest >= 0).all() and (nearest < source.grid.shape).all()
    np.testing.assert_allclose(sr.data.reshape(-1), source.data[tuple(nearest.T)], rtol=0, atol=1e-3)


def in_memory(affine: np.ndarray, shape: tuple[int, ...] = (3, 4, 5)) -> Volume:
    data = np.arange(math.prod(shape), dtype=np.float32).reshape(shape)
    return Volume(path=Path("made.nii"), grid=Grid(shape, affine), data=data)


@settings(derandomize=True, deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 2**31),
    shear=st.sampled_from([0.0, 0.3]),
    scale=st.sampled_from([(2, 3, 1), (1, 1, 2), (2, 2), (2, 3)]),
    axes=st.sampled_from(["image", "slice"]),
)
def test_the_result_fits_its_source_however_oblique_it_is(seed, shear, scale, axes):
    """Between two orientations, too, the turn back must be the inverse of the turn there."""
    rng = np.random.default_rng(seed)
    affine = np.eye(4)
    affine[:3, :3] = Rotation.random(random_state=seed).as_matrix() @ np.diag(rng.uniform(0.5, 3, 3))
    affine[:3, :3] = (np.eye(3) + shear * rng.uniform(-1, 1) * np.eye(3, k=1)) @ affine[:3, :3]
    affine[:3, 3] = rng.uniform(-100, 100, 3)
    source = in_memory(affine)
    made = upscale_volume(source, Repeat(*scale), SimpleInferer(), settings=UpscalingSettings(axes=axes)).image
    np.testing.assert_allclose(made.grid.affine, source.grid.resized(made.grid.shape).affine, rtol=0, atol=1e-9)
    check_place_of_every_voxel(made, source)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("degrees", [45, 135, -45])
def test_the_result_fits_its_source_at_exactly_45_degrees(axis, degrees):
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_rotvec(np.deg2rad(degrees) * np.eye(3)[axis]).as_matrix() @ np.diag([0.9, 1.1, 2.5])
    source = in_memory(affine)
    made = upscale_volume(source, Repeat(2, 3, 1), SimpleInferer()).image
    np.testing.assert_allclose(made.grid.affine, source.grid.resized(made.grid.shape).affine, rtol=0, atol=1e-9)
    check_place_of_every_voxel(made, source)


@pytest.mark.parametrize(
    ("axcodes", "spacing_mm", "scale", "axes", "expected"),
    [
        ("ASR", (1, 1, 4), (1, 1, 4), "image", (1, 1, 1)),  # sagittal, as scanners store it
        ("ASR", (1, 1, 4), (1, 1, 4), "slice", (1, 1, 1)),
        ("RAS", (4, 1, 1), (1, 1, 4), "slice", (1, 1, 1)),  # sagittal, turned to RAS
        ("RAS", (4, 1, 1), (1, 1, 4), "image", (4, 1, 0.25)),
        ("LPS", (1, 4, 1), (4, 1, 1), "slice", (1, 1, 1)),
        ("LPS", (1, 1, 1), (1, 1, 4), "slice", (1, 1, 0.25)),  # of equals the last
        ("RAS", (0.8, 0.8, 0.6), (2, 2), "slice", (0.4, 0.4, 0.6)),  # slices thinner than their pixels
        ("RAS", (0.6, 0.8, 0.8), (1, 1, 4), "slice", (0.15, 0.8, 0.8)),
        ("RAS", (1, 2, 3), (1, 1, 4), "slice", (1, 2, 0.75)),
        ("LSP", (1, 1, 4), (2, 2), "image", (0.5, 0.5, 4)),
        ("RAS", (4, 1, 1), (2, 2), "slice", (4, 0.5, 0.5)),
    ],
)
def test_the_scale_counts_the_image_s_axes_or_the_slice_axis(axcodes, spacing_mm, scale, axes, expected):
    source = in_memory(affine_of(axcodes, spacing_mm))
    made = upscale_volume(source, Repeat(*scale), SimpleInferer(), settings=UpscalingSettings(axes=axes)).image
    assert made.grid.spacing_mm == pytest.approx(expected)
    check_place_of_every_voxel(made, source)


def test_from_memory_to_memory_is_from_file_to_file(tmp_path: Path) -> None:
    source, network = source_file(tmp_path / "x.nii", "LPI", (4, 5, 6, 2)), network_of((2, 2, 2))
    inferer = ConsistentInferer(StreamingInferer(ensemble=4, deviation=True))
    kept = upscale_volume(read_volume(source), network, inferer)
    made = upscale_volume(source, network, inferer, tmp_path / "y.nii", tmp_path / "y_std.nii")
    for one, other in ((kept.image, made.image), (kept.deviation, made.deviation)):
        written = read_volume(other)
        np.testing.assert_array_equal(one.data, written.data)
        np.testing.assert_allclose(one.grid.affine, written.grid.affine, atol=1e-5)
    assert kept.image.shape == (8, 10, 12, 2) and kept.deviation.data.min() >= 0 < kept.deviation.data.max()


@pytest.mark.parametrize("stream", ["never", "always"])
@pytest.mark.parametrize("dtype", ["int16", "same", "float64"])
def test_types(stream: str, dtype: str, tmp_path: Path) -> None:
    source, network = source_file(tmp_path / "x.nii", "LIP"), network_of((2, 2, 2))
    inferer = ConsistentInferer(StreamingInferer(), "gaussian")
    expected = upscale_volume(read_volume(source), network, inferer).image
    chosen = UpscalingSettings(stream=stream, dtype=dtype)
    made = read_volume(upscale_volume(source, network, inferer, tmp_path / "y.nii.gz", settings=chosen).image)
    assert made.dtype == np.dtype("int16" if dtype == "same" else dtype) and made.slope == (
        0.5 if dtype == "same" else 1
    )
    step = {"int16": 0.5, "same": 0.25, "float64": 0}[dtype]
    assert np.abs(made.data - expected.data).max() <= step + 2e-5 * np.ptp(expected.data)


@pytest.mark.parametrize("suffix", [".mha", ".ome.zarr"])
def test_other_formats(suffix: str, tmp_path: Path) -> None:
    if suffix == ".ome.zarr":
        pytest.importorskip("zarr")
    source, network = source_file(tmp_path / "x.nii", "PIR"), network_of((2, 2, 2))
    expected = upscale_volume(read_volume(source), network, ConsistentInferer(StreamingInferer())).image
    for stream in ("never", "always"):
        target = tmp_path / f"{stream}{suffix}"
        settings = UpscalingSettings(stream=stream)
        upscale_volume(source, network, ConsistentInferer(StreamingInferer()), target, settings=settings)
        if suffix == ".mha":
            made = read_volume(target)
            data, affine = made.data, made.grid.affine
            again = upscale_volume(target, network, ConsistentInferer(StreamingInferer())).image
            assert again.grid.shape == tuple(2 * n for n in made.grid.shape)
        else:
            group = pytest.importorskip("zarr").open_group(target, mode="r")
            data, affine = group["0"][:].T, np.array(group.attrs["medsr"]["affine_ijk_to_ras_mm"])
        np.testing.assert_allclose(data, expected.data, rtol=0, atol=2e-5 * np.ptp(expected.data))
        np.testing.assert_allclose(affine, expected.grid.affine, atol=1e-6)


# ---- inferers


@pytest.mark.parametrize("inner", [SimpleInferer(), StreamOrWholeInferer(), StreamingInferer(axis=0, slab=2)])
def test_other_inferers_see_the_whole_image(inner: Inferer, tmp_path: Path) -> None:
    source, network = source_file(tmp_path / "x.nii", "ILP", (5, 4, 6, 2)), network_of((2, 1, 1))
    expected = reference(read_volume(source), network, (2, 1, 1), RobustRange(), "image", "box", 0.0)
    assert_like(upscale_volume(source, network, ConsistentInferer(inner)).image, expected)


def test_windows_are_projected_too_and_cannot_wait_on_disk(tmp_path: Path) -> None:
    source, network = source_file(tmp_path / "x.nii", shape=(9, 8, 7)), network_of((2, 2, 2))
    inferer = ConsistentInferer(SlidingWindowInferer((4, 4, 4), overlap=0.5))
    made = read_volume(upscale_volume(source, network, inferer, tmp_path / "y.nii").image)
    assert made.header is not None and made.header["descrip"].item().startswith(b"approximate")
    lr = read_volume(source).data
    again = made.data.reshape(9, 2, 8, 2, 7, 2).mean(axis=(1, 3, 5))
    assert np.abs(again - lr).max() <= 1e-4 * np.ptp(lr)
    with pytest.raises(InputError, match=r"stream 'always'.*SlidingWindowInferer needs the whole image"):
        upscale_volume(source, network, inferer, tmp_path / "z.nii", settings=UpscalingSettings(stream="always"))


def test_a_network_is_left_as_it_was(tmp_path: Path) -> None:
    network = network_of((2, 2, 2)).train()
    upscale_volume(source_file(tmp_path / "x.nii"), network, StreamingInferer())
    assert all(module.training for module in network.modules())


# ---- refusals


@pytest.mark.parametrize(
    ("network", "inferer", "said"),
    [
        (network_of((1, 1, 1)), ConsistentInferer(StreamingInferer()), "consistency none, or a damping"),
        (RRDBNet(2, scale=1, features=3, growth=3), ConsistentInferer(SimpleInferer()), "consistency none"),
        (RRDBNet(3, in_channels=3, features=3, growth=3), StreamingInferer(), "takes 3 channels"),
        (RRDBNet(3, in_channels=3, features=3, growth=3), SimpleInferer(), "takes 3 channels"),
        (RRDBNet(3, in_channels=2, out_channels=2, features=3, growth=3), SimpleInferer(), "takes 2 channels"),
        (nn.Conv3d(1, 3, 1), SimpleInferer(), "Conv3d: gives 3 channels"),
        (nn.Conv3d(1, 1, 3, stride=2), SimpleInferer(), "whole factors"),
        (nn.Conv1d(1, 1, 1), SimpleInferer(), "1 dimensions"),
    ],
)
def test_networks_that_do_not_suit(network: nn.Module, inferer: Inferer, said: str, tmp_path: Path) -> None:
    source = source_file(tmp_path / "x.nii")
    with pytest.raises(InputError, match=said) as caught:
        upscale_volume(source, network, inferer, tmp_path / "y.nii")
    assert "\n" not in str(caught.value) and not (tmp_path / "y.nii").exists()


@pytest.mark.parametrize("regularisation", [None, 0.1])
@pytest.mark.parametrize("scale", [(1, 1, 1), (1, 1)])
def test_a_restoration_restores(regularisation: float | None, scale: tuple[int, ...], tmp_path: Path) -> None:
    source, network = source_file(tmp_path / "x.nii", "SAL"), network_of(scale)
    expected = reference(read_volume(source), network, scale, RobustRange(), "image", "box", regularisation)
    inferer = ConsistentInferer(StreamingInferer(), regularisation=regularisation)
    assert_like(upscale_volume(source, network, inferer).image, expected)
    assert np.abs(expected.data - read_volume(source).data).max() > 1


@pytest.mark.parametrize("settings", [{"stream": "sometimes"}, {"axes": "patient"}])
def test_settings_that_are_no_choice(settings: dict) -> None:
    with pytest.raises(InputError, match="choose one of"):
        UpscalingSettings(**settings)


def test_one_constant_volume_of_a_series_is_no_matter(tmp_path: Path) -> None:
    data = np.random.default_rng(0).random((4, 5, 6, 2), dtype=np.float32)
    data[..., 0] = 3
    write_volume(tmp_path / "x.nii", data, Grid((4, 5, 6), np.eye(4)))
    made = [
        upscale_volume(
            tmp_path / "x.nii", Repeat(2, 2, 2), StreamOrWholeInferer(), settings=UpscalingSettings(stream=stream)
        ).image
        for stream in ("never", "auto")
    ]
    assert np.array_equal(made[0].data, made[1].data) and np.abs(made[0].data[..., 0] - 3).max() < 1e-6


def test_nothing_is_overwritten_or_left_behind(tmp_path: Path) -> None:
    source, network = source_file(tmp_path / "x.nii"), network_of((2, 2, 2))
    (tmp_path / "link.nii").symlink_to(source)
    with pytest.raises(InputError, match="overwrite the input"):
        upscale_volume(source, network, StreamingInferer(), tmp_path / "link.nii")

    class Failing(StreamingInferer):
        def stream(self, image, network):
            yield from list(super().stream(image, network))[:-1]

    for stream in ("never", "always"):
        with pytest.raises(ValueError, match="voxels of"):
            chosen = UpscalingSettings(stream=stream)
            upscale_volume(source, network, Failing(slab=1), tmp_path / "new" / "y.nii", settings=chosen)
        assert list((tmp_path / "new").iterdir()) == []


def test_too_little_space_is_said_beforehand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, network = source_file(tmp_path / "x.nii.gz"), network_of((2, 1, 3))
    usage = namedtuple("usage", "total used free")
    on_disk = UpscalingSettings(stream="always")

    def upscale() -> None:
        upscale_volume(source, network, ConsistentInferer(Refusing()), tmp_path / "y.nii", settings=on_disk)

    class Refusing(StreamingInferer):
        def stream(self, image, network):
            raise AssertionError("the network must not run")

    # 720 voxels: output and intermediate of 4 bytes each; 120 of the residual; the input is 120 voxels of 2 bytes.
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(9999, 0, 6239))
    with pytest.raises(InputError, match=r"6\.24e-06 GB needed \(2\.88e-06 for the output \+ .* between\)"):
        upscale()
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(9999, 0, 239))
    with pytest.raises(InputError, match="unpacking the input"):
        upscale()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["x.nii.gz"]
    check_free_space([(tmp_path / "not" / "yet", 200, "a"), (tmp_path, 39, "b")])


def test_a_damaged_source_gives_one_line(tmp_path: Path) -> None:
    source = source_file(tmp_path / "x.nii.gz")
    source.write_bytes(gzip.compress(gzip.decompress(source.read_bytes())[:-7]))
    with pytest.raises(InputError, match="truncated"):
        upscale_volume(source, network_of((2, 2, 2)), StreamingInferer(), tmp_path / "y.nii")


# ---- processes

PROGRAM = """
import resource, signal, sys, torch
from medsr_monai.upscaling import StreamingInferer, UpscalingSettings, upscale_volume
from medsr_monai.system.errors import InputError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
source, target, limit = sys.argv[1], sys.argv[2], int(sys.argv[3])
network = torch.nn.Sequential(torch.nn.Conv3d(1, 1, 1), torch.nn.Upsample(scale_factor=2))
stream = StreamingInferer.stream
def slowly(self, image, network):
    for k, part in enumerate(stream(self, image, network)):
        if not limit and k == 5:
            print("half", flush=True)
            sys.stdin.read()
        yield part
StreamingInferer.stream = slowly
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    upscale_volume(source, network, StreamingInferer(slab=2), target, settings=UpscalingSettings(stream="always"))
except InputError as error:
    sys.exit(str(error))
"""


def test_a_full_disk_and_a_killed_process(tmp_path: Path) -> None:
    source = source_file(tmp_path / "x.nii.gz", shape=(20, 20, 20))
    target = tmp_path / "out" / "y.nii"
    command = [sys.executable, "-c", PROGRAM, str(source), str(target)]
    done = subprocess.run([*command, "100000"], capture_output=True, text=True)
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1), done.stderr
    assert "y.nii: cannot be written (File too large)" in done.stderr
    assert list(target.parent.iterdir()) == []

    child = subprocess.Popen([*command, "0"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdin is not None and child.stdout is not None and child.stdout.readline() == "half\n"
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdin.close()
    child.stdout.close()
    assert [p.name[:7] for p in target.parent.iterdir()] == [".medsr-"]


PEAK = """
import resource, sys, time, torch
from medsr_monai.upscaling import ConsistentInferer, StreamingInferer, UpscalingSettings, upscale_volume
network = torch.nn.Sequential(torch.nn.Conv3d(1, 1, 1), torch.nn.Upsample(scale_factor=2))
before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
inferer = ConsistentInferer(StreamingInferer(slab=4))
upscale_volume(sys.argv[1], network, inferer, sys.argv[2], settings=UpscalingSettings(stream="always"))
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(before / 2**20, peak / 2**20, time.perf_counter() - start)
"""


@pytest.mark.slow
@pytest.mark.parametrize("n_slices", [150, 600])
def test_peak_memory_does_not_hold_the_output(n_slices: int, tmp_path: Path) -> None:
    """600 slices of 256x256: the output alone is 1.2 GiB of float32, in memory it takes several times as much."""
    rng = np.random.default_rng(0)
    data = rng.gamma(2, 150, (256, 256, n_slices)).astype(np.int16)
    nib.save(nib.Nifti1Image(data, np.diag([1.0, 1, 1, 1])), tmp_path / "x.nii.gz")
    command = [sys.executable, "-c", PEAK, str(tmp_path / "x.nii.gz"), str(tmp_path / "y.nii.gz")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    before, peak, seconds = (float(word) for word in done.stdout.split())
    print(f"{n_slices} slices: {before:.2f} GiB before, peak {peak:.2f} GiB, {seconds:.0f} s")
    assert peak - before < 0.6
    assert nib.load(tmp_path / "y.nii.gz").shape == (512, 512, 2 * n_slices)
