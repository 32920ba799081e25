"""A volume is the same in whatever slabs it is written; a failure leaves nothing under its name."""

from __future__ import annotations

import errno
import signal
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
from volume_files import noise, oblique_grid

from medsr_monai.system.errors import InputError
from medsr_monai.volumes import (
    STREAMABLE_SUFFIXES,
    SlabWriter,
    VolumeInfo,
    VolumeKeeper,
    read_info,
    read_volume,
    slab_writing,
    write_volume,
)

SHAPES = [(5, 4, 7), (5, 4, 1), (3, 4, 5, 2)]


def source(tmp_path: Path, shape: tuple[int, ...]) -> VolumeInfo:
    image = nib.Nifti1Image((noise(shape) * 900).astype(np.int16), np.diag([2.0, 2, 3, 1]))
    image.header.set_slope_inter(0.25, -3.0)
    image.header["descrip"], image.header["cal_max"] = b"T1", 100
    image.header["pixdim"][4] = 1.5
    nib.save(image, tmp_path / "source.nii")
    return read_info(tmp_path / "source.nii")


def write_in_slabs(path: Path, data: np.ndarray, thick: int, **kwargs: object) -> None:
    grid = oblique_grid("PIL", data.shape[:3], np.array([3.0, 5, 7]))
    n_times = data.shape[3] if data.ndim > 3 else None
    with SlabWriter(path, grid, n_times, **kwargs) as writer:
        for volume in np.moveaxis(data.reshape(*data.shape[:3], -1), -1, 0):
            for start in range(0, data.shape[2], thick):
                writer.write(volume[..., start : start + thick])
    assert [p.name for p in path.parent.iterdir() if p.name.startswith(".")] == []


@pytest.mark.parametrize("dtype", ["float32", "int16", "uint8", "float64", "same"])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".mha", ".nrrd"])
@pytest.mark.parametrize("shape", SHAPES)
def test_bytes_do_not_depend_on_the_slabs(suffix: str, dtype: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    like, data = source(tmp_path, shape), noise(shape) * 300
    grid = oblique_grid("PIL", shape[:3], np.array([3.0, 5, 7]))
    write_volume(tmp_path / f"whole{suffix}", data, grid, like, dtype)
    ends = (float(data.min()), float(data.max()))
    write_in_slabs(tmp_path / f"slabs{suffix}", data, 3, like=like, dtype=dtype, data_range=ends)
    assert (tmp_path / f"whole{suffix}").read_bytes() == (tmp_path / f"slabs{suffix}").read_bytes()


def test_gzip_bytes_depend_on_the_content_alone(tmp_path: Path) -> None:
    data = noise((60, 70, 90))  # more than a chunk
    write_in_slabs(tmp_path / "a.nii.gz", data, 7)
    write_in_slabs(tmp_path / "b.nii.gz", data, 90)
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()
    np.testing.assert_array_equal(nib.load(tmp_path / "a.nii.gz").get_fdata(dtype=np.float32), data)


@pytest.mark.parametrize("shape", [(5, 4, 37), (3, 4, 20, 2)])
def test_ome_zarr(shape: tuple[int, ...], tmp_path: Path) -> None:
    zarr = pytest.importorskip("zarr")
    models = pytest.importorskip("ome_zarr_models")
    data, path = noise(shape), tmp_path / "x.ome.zarr"
    for _ in range(2):  # an earlier result is replaced
        write_in_slabs(path, data, 5, like=source(tmp_path, (5, 4, 3, 2)))
    group = zarr.open_group(path, mode="r")
    np.testing.assert_array_equal(group["0"][:], data.T)
    image = models.open_ome_zarr(group)
    assert image.ome_zarr_version == "0.5"
    multiscale = image.ome_attributes.multiscales[0]
    assert [axis.name for axis in multiscale.axes] == ["t", "z", "y", "x"][4 - len(shape) :]
    assert {axis.unit for axis in multiscale.axes if axis.type == "space"} == {"millimeter"}
    grid = oblique_grid("PIL", shape[:3], np.array([3.0, 5, 7]))
    scale, translation = multiscale.datasets[0].coordinateTransformations
    np.testing.assert_allclose(scale.scale[-3:], grid.spacing_mm[::-1])
    if len(shape) > 3:
        assert scale.scale[0] == 1.5
    affine = np.array(group.attrs["medsr"]["affine_ijk_to_ras_mm"])
    np.testing.assert_array_equal(affine, grid.affine)
    rotation = affine[:3, :3] / grid.spacing_mm
    np.testing.assert_allclose(rotation @ translation.translation[:-4:-1], affine[:3, 3], atol=1e-9)


def test_what_is_in_the_way_stays(tmp_path: Path) -> None:
    grid = oblique_grid("RAS", (2, 2, 2), np.zeros(3))
    (tmp_path / "x.ome.zarr").mkdir()
    (tmp_path / "x.ome.zarr" / "mine.txt").write_text("mine")
    (tmp_path / "x.nii").mkdir()
    for name in ("x.ome.zarr", "x.nii"):
        with pytest.raises(InputError, match="in the way"):
            SlabWriter(tmp_path / name, grid)
    assert (tmp_path / "x.ome.zarr" / "mine.txt").read_text() == "mine"


@pytest.mark.parametrize("suffix", STREAMABLE_SUFFIXES)
@pytest.mark.parametrize("failure", [KeyboardInterrupt, RuntimeError])
def test_an_interruption_leaves_nothing(suffix: str, failure: type[BaseException], tmp_path: Path) -> None:
    if suffix == ".ome.zarr":
        pytest.importorskip("zarr")
    data = noise((20, 20, 40))
    with pytest.raises(failure), SlabWriter(tmp_path / f"x{suffix}", oblique_grid("RAS", data.shape, np.zeros(3))) as w:
        w.write(data[..., :30])
        raise failure
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", STREAMABLE_SUFFIXES)
def test_a_full_disk_while_writing(suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = {".nii.gz": "GzipStream", ".ome.zarr": "OmeZarrPlanes"}
    if suffix == ".ome.zarr":
        pytest.importorskip("zarr")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(getattr(slab_writing, kinds.get(suffix, "_PlanesBehindHeader")), "write", full, raising=True)
    with (
        pytest.raises(InputError, match=rf"x{suffix}: cannot be written \(No space left on device\)"),
        SlabWriter(tmp_path / f"x{suffix}", oblique_grid("RAS", (2, 2, 2), np.zeros(3))) as writer,
    ):
        writer.write(noise((2, 2, 2)))
    assert list(tmp_path.iterdir()) == []


WRITE = """
import resource, signal, sys, numpy as np
from medsr_monai.system.errors import InputError
from medsr_monai.geometry import Grid
from medsr_monai.volumes import SlabWriter
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
limit = int(sys.argv[2])
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    with SlabWriter(sys.argv[1], Grid((64, 64, 64), np.eye(4))) as writer:
        for k in range(8):
            writer.write(np.random.default_rng(k).normal(size=(64, 64, 8)).astype(np.float32))
            if not limit and k == 6:
                print("half", flush=True)
                sys.stdin.read()
except InputError as error:
    sys.exit(str(error))
"""


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".mha"])
def test_a_file_that_may_not_grow(suffix: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WRITE, str(tmp_path / f"x{suffix}"), "300000"], capture_output=True, text=True
    )
    assert done.returncode == 1
    assert (
        done.stderr.strip() == f"{tmp_path}/x{suffix}: cannot be written (File too large); check folder and free space"
    )
    assert list(tmp_path.iterdir()) == []


def test_a_killed_process_leaves_no_file_under_the_name(tmp_path: Path) -> None:
    path = tmp_path / "x.nii.gz"
    child = subprocess.Popen(
        [sys.executable, "-c", WRITE, str(path), "0"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None and child.stdout.readline() == "half\n"
    child.send_signal(signal.SIGKILL)
    child.wait()
    for pipe in (child.stdin, child.stdout):
        pipe.close()
    assert [p.name[:7] for p in tmp_path.iterdir()] == [".medsr-"]
    write_in_slabs(tmp_path / "again" / "x.nii.gz", noise((3, 3, 3)), 1)


def test_planes_that_do_not_fit(tmp_path: Path) -> None:
    grid = oblique_grid("RAS", (2, 3, 4), np.zeros(3))
    with SlabWriter(tmp_path / "x.nii", grid) as writer:
        for shape in ((3, 2, 1), (2, 3, 5), (2, 3)):
            with pytest.raises(InputError, match="planes of shape"):
                writer.write(np.zeros(shape, np.float32))
        with pytest.raises(InputError, match="1 voxels to write are NaN"):
            writer.write(np.pad([[[np.nan]]], ((0, 1), (0, 2), (0, 0))))
        writer.write(np.zeros((2, 3, 4), np.float32))
    with pytest.raises(ValueError, match="1 planes"), SlabWriter(tmp_path / "y.nii", grid) as writer:
        writer.write(np.zeros((2, 3, 1), np.float32))
    assert [p.name for p in tmp_path.iterdir()] == ["x.nii"]
    with pytest.raises(InputError, match="unknown output suffix"):
        SlabWriter(tmp_path / "x.png", grid)


@pytest.mark.parametrize("suffix", [".mha", ".nrrd"])
@pytest.mark.parametrize("shape", [(3, 4, 2), (3, 4, 2, 2)])
def test_other_formats_say_that_they_are_approximate(suffix: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    data = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    for is_approximate in (True, False):
        path = tmp_path / f"{is_approximate}{suffix}"
        write_in_slabs(path, data, 1, is_approximate=is_approximate)
        assert np.array_equal(read_volume(path).data, data)
        reader = SimpleITK.ImageFileReader()
        reader.SetFileName(str(path))
        reader.ReadImageInformation()
        assert ("approximate" in reader.GetMetaDataKeys()) == is_approximate
        assert not is_approximate or reader.GetMetaData("approximate") == "true"


@pytest.mark.parametrize("shape", SHAPES)
def test_what_is_kept_is_what_would_be_written(shape: tuple[int, ...], tmp_path: Path) -> None:
    like, data = source(tmp_path, shape), noise(shape)
    with VolumeKeeper(like.grid, like) as keeper:
        for volume in np.moveaxis(data.reshape(*shape[:3], -1), -1, 0):
            for start in range(0, shape[2], 3):
                keeper.write(volume[..., start : start + 3])
    np.testing.assert_array_equal(keeper.volume.data, data)
    assert keeper.volume.shape == like.shape == shape and keeper.volume.grid == like.grid
