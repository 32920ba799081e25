"""What is upscaled in slabs from file to file is what the transforms upscale in memory."""

from __future__ import annotations

import gzip
import shutil
import signal
import subprocess
import sys
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.inferers import Inferer
from torch import Tensor

from medsr_monai.geometry import Grid, parse_orientation
from medsr_monai.system.errors import InputError
from medsr_monai.transforms import (
    NormaliseIntensityd,
    ReorientToCanonicald,
    RestoreIntensityd,
    UpscaledGridd,
)
from medsr_monai.upscaling import ConsistentInferer
from medsr_monai.upscaling import file_to_file as slabwise
from medsr_monai.upscaling.file_to_file import check_free_space, upscale_in_slabs
from medsr_monai.volumes import LoadVolumed, SaveVolumed, lazy, read_volume

CODES = [a + b + c for a in "RL" for b in "AP" for c in "SI"]
AXCODES = ["".join(code[i] for i in order) for code in CODES for order in
           ((0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0))]  # fmt: skip
SCALE = (2, 1, 3)


def enlarge(image: Tensor) -> Tensor:
    """A network that no flip or permutation leaves alone, so that a wrong orientation shows."""
    sizes = [n * factor for n, factor in zip(image.shape[2:], SCALE, strict=True)]
    smooth = torch.nn.functional.interpolate(image, size=sizes, mode="trilinear", align_corners=False)
    ramp = sum(torch.linspace(0, 0.1 * (axis + 1), n).reshape([-1 if a == axis else 1 for a in range(3)])
               for axis, n in enumerate(sizes))  # fmt: skip
    return smooth + ramp


class Whole(Inferer):
    def __call__(self, inputs: Tensor, network: object, *args: object, **kwargs: object) -> Tensor:
        return enlarge(inputs)


def enlarge_in_slabs(read, shape: tuple[int, ...], axis: int) -> Iterator[tuple[slice, Tensor]]:
    n = shape[axis]
    whole = enlarge(torch.cat([read(k, k + 1) for k in range(n)], dim=axis + 2))
    size = whole.shape[axis + 2]
    for start in range(0, size, 4):
        part = slice(start, min(start + 4, size))
        yield part, whole.narrow(axis + 2, part.start, part.stop - part.start)


def upscale_in_memory(source: Path, target: Path, profile: str, regularisation: float | None, dtype: str) -> Path:
    item = LoadVolumed("image")({"image": str(source)})
    item = NormaliseIntensityd("image")(ReorientToCanonicald("image")(item))
    inferer = ConsistentInferer(Whole(), profile=profile, regularisation=regularisation)
    item["pred"] = inferer(item["image"][None], None)[0]
    item = UpscaledGridd("pred", "image")(RestoreIntensityd("pred", "image")(item))
    SaveVolumed("pred", output_file=target, dtype=dtype)(item)
    return target


def source_file(path: Path, axcodes: str = "RAS", shape: tuple[int, ...] = (4, 5, 6)) -> Path:
    affine = np.eye(4)
    for axis, (target, flip) in enumerate(parse_orientation(axcodes).astype(int)):
        affine[:3, axis] = 0
        affine[target, axis] = flip * (0.8, 1.0, 2.5)[axis]
    affine[:3, 3] = (11, -27, 3)
    rng = np.random.default_rng(len(axcodes) + sum(shape))
    image = nib.Nifti1Image((rng.gamma(2, 150, shape)).astype(np.int16), affine)
    image.header.set_slope_inter(0.5, -10)
    image.header["cal_max"] = 500
    nib.save(image, path)
    return path


def assert_same(a: Path, b: Path, dtype: str) -> None:
    one, other = read_volume(a), read_volume(b)
    assert one.grid == other.grid and one.dtype == other.dtype and one.n_times == other.n_times
    assert one.header is not None and other.header is not None
    assert one.header.binaryblock == other.header.binaryblock and (one.slope, one.inter) == (other.slope, other.inter)
    scale = float(np.ptp(one.data))
    # A number on the edge between two integers may round either way.
    tolerance = 2e-5 * scale + (max(1.0, abs(one.slope)) if dtype in ("int16", "same") else 0)
    assert float(np.abs(one.data - other.data).max()) <= tolerance
    assert float(np.mean(np.abs(one.data - other.data) > 2e-5 * scale)) < 0.01


def compare(
    tmp_path: Path,
    source: Path,
    suffix: str = ".nii",
    profile: str = "box",
    regularisation: float | None = 0.0,
    dtype: str = "float32",
) -> None:
    whole = upscale_in_memory(source, tmp_path / f"whole{suffix}", profile, regularisation, dtype)
    slabs = upscale_in_slabs(
        source, enlarge_in_slabs, tmp_path / f"slabs{suffix}", SCALE, profile, regularisation, dtype
    )
    assert_same(whole, slabs, dtype)


@pytest.fixture(autouse=True)
def thin_slabs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slabwise, "_SLAB_VOXELS", 250)
    monkeypatch.setattr(slabwise, "_RESIDUAL_VOXELS", 119)  # the 120 of most sources here are too many
    monkeypatch.setattr(lazy, "_SCAN_VOXELS", 50)


@pytest.mark.parametrize("axcodes", AXCODES)
def test_every_orientation(axcodes: str, tmp_path: Path) -> None:
    assert len(set(AXCODES)) == 48
    source = source_file(tmp_path / "x.nii.gz", axcodes)
    index = AXCODES.index(axcodes)
    compare(tmp_path, source, (".nii", ".nii.gz")[index % 2], regularisation=(0.0, None)[index // 2 % 2])


@pytest.mark.parametrize("regularisation", [None, 0.0, 0.1])
@pytest.mark.parametrize("profile", ["box", "gaussian", "kspace"])
@pytest.mark.parametrize("dtype", ["float32", "int16", "same", "float64"])
def test_profiles_consistencies_and_types(
    profile: str, regularisation: float | None, dtype: str, tmp_path: Path
) -> None:
    compare(tmp_path, source_file(tmp_path / "x.nii", "LIP"), ".nii.gz", profile, regularisation, dtype)


@pytest.mark.parametrize("axcodes", ["RAS", "ALI"])
@pytest.mark.parametrize("regularisation", [None, 0.0])
def test_a_series_is_done_volume_by_volume(axcodes: str, regularisation: float | None, tmp_path: Path) -> None:
    compare(tmp_path, source_file(tmp_path / "x.nii", axcodes, (4, 5, 6, 3)), regularisation=regularisation)


def test_a_single_slice(tmp_path: Path) -> None:
    compare(tmp_path, source_file(tmp_path / "x.nii", "LPS", (4, 5, 1)))


@pytest.mark.parametrize("suffix", [".mha", ".nrrd"])
def test_other_files_hold_the_same_bytes(suffix: str, tmp_path: Path) -> None:
    source = source_file(tmp_path / "x.nii", "PIR")
    whole = read_volume(upscale_in_memory(source, tmp_path / f"whole{suffix}", "box", 0.0, "float32"))
    slabs = read_volume(upscale_in_slabs(source, enlarge_in_slabs, tmp_path / f"slabs{suffix}", SCALE))
    assert whole.grid == slabs.grid
    np.testing.assert_allclose(slabs.data, whole.data, atol=0.01)
    again = upscale_in_slabs(tmp_path / f"whole{suffix}", enlarge_in_slabs, tmp_path / "again.nii", SCALE)
    assert nib.load(again).shape == tuple(
        np.array(whole.grid.shape) * np.array(SCALE)[parse_orientation("PIR")[:, 0].astype(int)]
    )


def test_ome_zarr(tmp_path: Path) -> None:
    zarr = pytest.importorskip("zarr")
    pytest.importorskip("ome_zarr_models")
    source = source_file(tmp_path / "x.nii", "PIR")
    whole = read_volume(upscale_in_memory(source, tmp_path / "whole.nii", "box", 0.0, "float32"))
    upscale_in_slabs(source, enlarge_in_slabs, tmp_path / "x.ome.zarr", SCALE)
    group = zarr.open_group(tmp_path / "x.ome.zarr", mode="r")
    np.testing.assert_allclose(group["0"][:].T, whole.data, atol=0.01)
    assert Grid(whole.grid.shape, np.array(group.attrs["medsr"]["affine_ijk_to_ras_mm"])).spacing_mm == pytest.approx(
        whole.grid.spacing_mm
    )


def test_nothing_is_overwritten_or_left_behind(tmp_path: Path) -> None:
    source = source_file(tmp_path / "x.nii")
    (tmp_path / "link.nii").symlink_to(source)
    with pytest.raises(InputError, match="overwrite the input"):
        upscale_in_slabs(source, enlarge_in_slabs, tmp_path / "link.nii", SCALE)

    def failing(read, shape, axis):
        yield from list(enlarge_in_slabs(read, shape, axis))[:-1]

    with pytest.raises(ValueError, match="slices came of"):
        upscale_in_slabs(source, failing, tmp_path / "new" / "y.nii", SCALE)
    assert list((tmp_path / "new").iterdir()) == []


def test_too_little_space_is_said_beforehand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = source_file(tmp_path / "x.nii.gz")
    usage = namedtuple("usage", "total used free")
    calls: list[int] = []

    def upscale(*arguments: object) -> Iterator[tuple[slice, Tensor]]:
        calls.append(1)
        return iter(())

    # 720 voxels: output and intermediate of 4 bytes each; 120 of the residual; the input is 120 voxels of 2 bytes.
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(9999, 0, 6239))
    with pytest.raises(InputError, match=r"6\.24e-06 GB needed \(2\.88e-06 for the output \+ .* between\)"):
        upscale_in_slabs(source, upscale, tmp_path / "y.nii", SCALE)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(9999, 0, 239))
    with pytest.raises(InputError, match="unpacking the input"):
        upscale_in_slabs(source, upscale, tmp_path / "y.nii", SCALE)
    assert not calls and sorted(p.name for p in tmp_path.iterdir()) == ["x.nii.gz"]
    check_free_space([(tmp_path / "not" / "yet", 200, "a"), (tmp_path, 39, "b")])


PROGRAM = """
import resource, signal, sys, torch
from medsr_monai.upscaling.file_to_file import upscale_in_slabs
from medsr_monai.system.errors import InputError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
source, target, limit = sys.argv[1], sys.argv[2], int(sys.argv[3])
def repeat(read, shape, axis):
    for k in range(shape[axis]):
        if not limit and k == shape[axis] // 2:
            print("half", flush=True)
            sys.stdin.read()
        slab = read(k, k + 1)
        for other in range(3):
            slab = slab.repeat_interleave(2, other + 2)
        yield slice(2 * k, 2 * k + 2), slab
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    upscale_in_slabs(source, repeat, target, (2, 2, 2), regularisation=None)
except InputError as error:
    sys.exit(str(error))
"""


def test_a_full_disk_and_a_killed_process(tmp_path: Path) -> None:
    source = source_file(tmp_path / "x.nii.gz", shape=(20, 20, 20))
    target = tmp_path / "out" / "y.nii"
    command = [sys.executable, "-c", PROGRAM, str(source), str(target)]
    done = subprocess.run([*command, "100000"], capture_output=True, text=True)
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
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
from medsr_monai.upscaling.file_to_file import upscale_in_slabs
def repeat(read, shape, axis):
    for k in range(0, shape[axis], 4):
        n = min(4, shape[axis] - k)
        slab = read(k, k + n)
        for other in range(3):
            slab = slab.repeat_interleave(2, other + 2)
        yield slice(2 * k, 2 * (k + n)), slab
before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
upscale_in_slabs(sys.argv[1], repeat, sys.argv[2], (2, 2, 2))
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


def test_parts_of_slabs_are_put_together(tmp_path: Path) -> None:
    source = source_file(tmp_path / "x.nii", "LPI")

    def in_quarters(read, shape, axis):
        slabs = list(enlarge_in_slabs(read, shape, axis))
        one, other = (a for a in range(3) if a != axis)
        for a, b in ((0, 0), (0, 1), (1, 0), (1, 1)):
            for part, slab in slabs:
                place = [part] * 3
                for across, half in ((one, a), (other, b)):
                    n = slab.shape[across + 2]
                    place[across] = slice(0, n // 3) if half == 0 else slice(n // 3, n)
                    slab = slab.narrow(across + 2, place[across].start, place[across].stop - place[across].start)
                yield tuple(place), slab

    for regularisation in (None, 0.0):
        whole = upscale_in_memory(source, tmp_path / "whole.nii", "box", regularisation, "float32")
        made = upscale_in_slabs(
            source, in_quarters, tmp_path / "y.nii", SCALE, "box", regularisation, in_strips=lambda shape, axis: True
        )
        assert_same(whole, made, "float32")


def test_a_damaged_source_gives_one_line(tmp_path: Path) -> None:
    source = source_file(tmp_path / "x.nii.gz")
    source.write_bytes(gzip.compress(gzip.decompress(source.read_bytes())[:-7]))
    with pytest.raises(InputError, match="truncated"):
        upscale_in_slabs(source, enlarge_in_slabs, tmp_path / "y.nii", SCALE)
