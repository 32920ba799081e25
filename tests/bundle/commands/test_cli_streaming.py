"""What ``medsr upscale`` streams from file to file is what it upscales in memory; what is cut short leaves nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from medsr_monai.bundle.commands import cli
from medsr_monai.geometry import parse_orientation
from medsr_monai.networks import RRDBNet
from medsr_monai.system.errors import InputError
from medsr_monai.upscaling import file_to_file
from medsr_monai.volumes import read_volume

SMALL = {"features": 4, "growth": 4, "dense_blocks": 1}
SHAPE = (6, 9, 7)
WINDOW = {"_target_": "SlidingWindowInferer", "roi_size": [4, 4, 4], "overlap": 0.25}
RUN = cli.run_inference
NORMED = "$[@network_def, @dial, @memory_format][0]"  # a key that nothing reads is refused


class Normed(torch.nn.Sequential):
    """A network that cannot be streamed."""

    def __init__(self) -> None:
        super().__init__()
        self.add_module("norm", torch.nn.InstanceNorm3d(1))
        self.add_module("body", torch.nn.Conv3d(1, 1, 3, padding=1))
        self.add_module("up", torch.nn.Upsample(scale_factor=2))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """What makes the bundle's network tiny, with weights that have something to say."""
    weights = tmp_path_factory.mktemp("weights") / "tiny.pt"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        torch.save({n: 0.1 * torch.randn_like(v) for n, v in RRDBNet(3, **SMALL).state_dict().items()}, weights)
    return {"checkpoint": str(weights), "device": "cpu", **{f"network_def#{k}": v for k, v in SMALL.items()}}


@pytest.fixture(autouse=True)
def small_network(tiny: dict[str, object], monkeypatch: pytest.MonkeyPatch) -> None:
    run = cli.run_inference
    monkeypatch.setattr(cli, "run_inference", lambda root, **overrides: run(root, **{**overrides, **tiny}))
    monkeypatch.setattr(file_to_file, "_SLAB_VOXELS", 600)
    monkeypatch.setattr(file_to_file, "_RESIDUAL_VOXELS", 100)


def source_file(path: Path, axcodes: str = "RAS", shape: tuple[int, ...] = SHAPE) -> Path:
    affine = np.eye(4)
    for axis, (target, flip) in enumerate(parse_orientation(axcodes).astype(int)):
        affine[:3, axis] = 0
        affine[target, axis] = flip * (0.8, 1.0, 2.5)[axis]
    image = nib.Nifti1Image(np.random.default_rng(3).gamma(2, 150, shape).astype(np.int16), affine)
    image.header["descrip"] = b"a scan"
    nib.save(image, path)
    return path


def medsr(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr("sys.argv", ["medsr", "upscale", *map(str, arguments), "--progress", "False"])
    try:
        cli.main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def both(monkeypatch: pytest.MonkeyPatch, source: Path, name: str, *options: object) -> tuple[Path, Path]:
    """The same in memory and streamed."""
    outputs = tuple(source.parent / mode / name for mode in ("never", "always"))
    for output in outputs:
        assert medsr(monkeypatch, source, output, "--stream", output.parent.name, *options) == 0
    return outputs


def assert_same(whole: Path, streamed: Path, rounding: float = 0.0) -> None:
    one, other = read_volume(whole), read_volume(streamed)
    assert one.grid == other.grid and one.dtype == other.dtype and one.n_times == other.n_times
    assert one.header is None or one.header.binaryblock == other.header.binaryblock
    difference = np.abs(one.data - other.data)
    assert difference.max() <= 1e-5 * np.ptp(one.data) + rounding
    assert np.mean(difference > 1e-5 * np.ptp(one.data)) < 0.01, "rounding to an integer may go either way, rarely"


@pytest.mark.parametrize(
    ("axcodes", "options"),
    [
        ("RAS", ()),
        ("LPI", ("--consistency", "none")),
        ("SAL", ("--consistency", 0.1)),
        ("IRP", ("--profile", "gaussian")),
        ("ASR", ("--consistency", "none", "--memory_gb", 1.5e-4)),
        ("PIR", ("--memory_gb", 1.5e-4)),
    ],
)
def test_streamed_is_in_memory(axcodes: str, options: tuple, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert_same(*both(monkeypatch, source_file(tmp_path / "x.nii.gz", axcodes), "y.nii", *options))


@pytest.mark.parametrize(
    "keys",
    [
        {"intensity#lower": 20, "intensity#upper": 60},
        {"intensity": {"_target_": "medsr_monai.acquisition.FixedWindow", "low": -1024, "high": 2000}},
        {"intensity": {"_target_": "medsr_monai.acquisition.FixedWindow"}, "consistency": "none"},
    ],
)
def test_the_bundle_s_intensity_is_followed(keys: dict[str, object], tmp_path: Path, tiny: dict[str, object]) -> None:
    source = source_file(tmp_path / "x.nii")
    settings = {"input": str(source), "output_dir": str(tmp_path), "progress": False, **tiny}
    for postfix, given in (("never", keys), ("always", keys), ("auto", {})):
        more = {"stream": postfix, "output_postfix": postfix, "output_suffix": ".nii"}
        RUN(cli.bundle_root("brain_mri_super_resolution"), **settings, **more, **given)
    assert_same(tmp_path / "x_never.nii", tmp_path / "x_always.nii")
    other, default = (read_volume(tmp_path / f"x_{name}.nii").data for name in ("always", "auto"))
    assert np.abs(other - default).max() > 1e-3 * np.ptp(default)


@pytest.mark.parametrize(("name", "dtype"), [("y.nii.gz", "same"), ("y.mha", "uint8"), ("y.nrrd", "float64")])
def test_of_every_type(name: str, dtype: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outputs = both(monkeypatch, source_file(tmp_path / "x.nii", "LAS"), name, "--output_dtype", dtype)
    assert_same(*outputs, rounding=0.0 if dtype == "float64" else 1.0)


@pytest.mark.parametrize("axcodes", ["RAS", "RAI"])
def test_an_ensemble_and_its_deviation(axcodes: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = source_file(tmp_path / "x.nii", axcodes)
    options = ("--ensemble", 10, "--uncertainty", "--output_dtype", "int16")
    outputs = both(monkeypatch, source, "y.nii.gz", *options)
    assert_same(*outputs, rounding=1.0)
    deviations = [output.with_name("y_std.nii.gz") for output in outputs]
    assert_same(*deviations)
    deviation = read_volume(deviations[0])
    assert deviation.dtype == np.float32 and deviation.data.min() >= 0
    assert 0 < deviation.data.max() < np.ptp(read_volume(outputs[0]).data)
    single = tmp_path / "single.nii.gz"
    assert medsr(monkeypatch, source, single) == 0
    assert np.abs(read_volume(single).data - read_volume(outputs[0]).data).max() > 2


def test_a_series_in_a_folder_beside_a_bad_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    source_file(folder / "a.nii", "LPS", (5, 4, 6, 2))
    (folder / "b.nii.gz").write_bytes(b"no volume")
    nib.save(nib.Nifti1Image(np.full(SHAPE, np.nan, dtype=np.float32), np.eye(4)), folder / "nan.nii")
    for mode in ("never", "always"):
        assert medsr(monkeypatch, folder, f"{tmp_path / mode}/", "--stream", mode) == 2
        (error,) = capsys.readouterr().err.splitlines()
        assert error.startswith("error: ") and "b.nii.gz" in error and "nan.nii" in error
        assert [path.name for path in (tmp_path / mode).iterdir()] == ["a_sr.nii.gz"]
    assert_same(*(tmp_path / mode / "a_sr.nii.gz" for mode in ("never", "always")))


def test_ome_zarr(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    zarr = pytest.importorskip("zarr")
    pytest.importorskip("ome_zarr_models")
    source = source_file(tmp_path / "x.nii", "LIP")
    groups = [zarr.open_group(path, mode="r") for path in both(monkeypatch, source, "y.ome.zarr")]
    assert dict(groups[0].attrs) == dict(groups[1].attrs) and not groups[0].attrs["medsr"]["approximate"]
    np.testing.assert_allclose(groups[0]["0"][:], groups[1]["0"][:], rtol=0, atol=0.02)
    assert medsr(monkeypatch, source, tmp_path / "always" / "y.ome.zarr", "--stream", "always") == 0, "replaced"


def test_auto_streams_what_takes_more_than_a_quarter_of_the_free_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    source = source_file(tmp_path / "x.nii")
    output = 4 * 8 * int(np.prod(SHAPE))
    streamed: list[tuple[int, ...]] = []
    slice_file = file_to_file.SliceFile
    monkeypatch.setattr(
        file_to_file, "SliceFile", lambda shape, *more: streamed.append(shape) or slice_file(shape, *more)
    )
    monkeypatch.setattr(file_to_file, "_RESIDUAL_VOXELS", 1000)
    for free, times in ((4 * output, 0), (4 * output - 4, 1)):
        monkeypatch.setattr(file_to_file, "free_bytes", lambda device, free=free: free)
        assert medsr(monkeypatch, source, tmp_path / f"{times}.nii") == 0
        assert len(streamed) == times
        assert sum("streaming from file to file" in record.message for record in caplog.records) == times
    assert_same(tmp_path / "0.nii", tmp_path / "1.nii")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--stream", "sometimes"), "stream 'sometimes'"),
        (("--memory_gb", "much"), "memory_gb 'much'"),
        (("--stream", "always", "--memory_gb", 1e-6), "memory_gb 1e-06: too little"),
        (("--ensemble", 49, "--stream", "always"), "ensemble 49"),
        (("--uncertainty",), "uncertainty: needs an ensemble"),
    ],
)
def test_bad_options_are_one_line(
    options: tuple, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert medsr(monkeypatch, source_file(tmp_path / "x.nii"), tmp_path / "y.nii", *options) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["x.nii"]


def test_windows_say_that_they_are_approximate(tmp_path: Path, tiny: dict[str, object]) -> None:
    source = source_file(tmp_path / "x.nii")
    for name, inferer in (("window", {"inferer#inferer": WINDOW}), ("stream", {})):
        settings = {"input": str(source), "output_dir": str(tmp_path), "output_postfix": name, "progress": False}
        cli.run_inference(cli.bundle_root("brain_mri_super_resolution"), **settings, **inferer)
    described = [nib.load(tmp_path / f"x_{name}.nii.gz").header["descrip"].item() for name in ("window", "stream")]
    assert described == [b"approximate; a scan", b"a scan"]


def test_a_misspelt_setting_is_refused(tmp_path: Path) -> None:
    source = source_file(tmp_path / "x.nii")
    with pytest.raises(InputError, match=r"perceptoin: nothing in the configuration reads it; 'perception' is meant\?"):
        cli.run_inference(cli.bundle_root("brain_mri_super_resolution"), input=str(source), perceptoin=0.5)


def test_a_network_that_cannot_be_streamed_is_named(
    tmp_path: Path, tiny: dict[str, object], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    source = source_file(tmp_path / "x.nii")
    root = cli.bundle_root("brain_mri_super_resolution")
    settings = {
        "input": str(source),
        "output_dir": str(tmp_path / "out"),
        "progress": False,
        "network": NORMED,
    }
    settings |= {"inferer#inferer": WINDOW, "network_def": {"_target_": f"{__name__}.Normed"}}
    monkeypatch.setattr(cli, "run_inference", RUN)
    output = 4 * 8 * int(np.prod(SHAPE))
    for free, said in ((4 * output, 0), (4 * output - 4, 1)):
        monkeypatch.setattr(file_to_file, "free_bytes", lambda device, free=free: free)
        cli.run_inference(root, **settings)
        lines = [record.message for record in caplog.records if "not streamed" in record.message]
        assert len(lines) == said and all("InstanceNorm3d at norm" in line and "memory" in line for line in lines)
    with pytest.raises(InputError, match="InstanceNorm3d at norm"):
        cli.run_inference(root, **settings, stream="always")


@pytest.mark.parametrize("mode", ["never", "always"])
@pytest.mark.parametrize("in_the_way", ["y_std.nii", "y.nii"])
def test_neither_mean_nor_deviation_without_the_other(
    mode: str, in_the_way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out" / in_the_way).mkdir(parents=True)
    options = ("--stream", mode, "--ensemble", 2, "--uncertainty")
    source = source_file(tmp_path / "x.nii")
    output = tmp_path / "out" / "y.nii"
    # The command would take a folder for one to write to; here it is the name of the output all the same.
    names = {"output_dir": str(output.parent), "output_file": str(output)}
    monkeypatch.setattr(cli, "output_overrides", lambda *_: names)
    assert medsr(monkeypatch, source, output, *options) == 2
    error = capsys.readouterr().err
    assert in_the_way in error and "in the way" in error and error.count("\n") == 1
    assert [path.name for path in output.parent.iterdir()] == [in_the_way]


@pytest.mark.parametrize("mode", ["never", "always"])
def test_the_deviation_s_name_is_the_input_s(mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = source_file(tmp_path / "y_std.nii")
    options = ("--stream", mode, "--ensemble", 2, "--uncertainty")
    assert medsr(monkeypatch, source, tmp_path / "y.nii", *options) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["y_std.nii"]


PROGRAM = """
import resource, signal, sys
from medsr_monai.bundle.commands import cli
from medsr_monai.upscaling import StreamingInferer
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
tiny, limit = eval(sys.argv.pop()), int(sys.argv.pop())
run, stream = cli.run_inference, StreamingInferer.stream
cli.run_inference = lambda root, **overrides: run(root, **{**overrides, **tiny})
def slowly(self, image, network):
    for count, part in enumerate(stream(self, image, network)):
        yield part
        if not limit and count == 1:
            print("half", flush=True)
            sys.stdin.read()
StreamingInferer.stream = slowly
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
cli.main()
"""


def test_cut_short_by_a_full_disk_a_kill_or_ctrl_c(tmp_path: Path, tiny: dict[str, object]) -> None:
    source = source_file(tmp_path / "x.nii", shape=(12, 12, 12))
    output = tmp_path / "out" / "y.nii"
    arguments = ["upscale", source, output, "--stream", "always", "--consistency", "none", "--progress", "False"]
    command = [sys.executable, "-c", PROGRAM, *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    settings = {**tiny, "slab": 2}

    done = subprocess.run([*command, "20000", repr(settings)], capture_output=True, text=True, env=environment)
    assert done.returncode == 2, done.stderr
    assert "y.nii: cannot be written (File too large)" in done.stderr and done.stderr.count("\n") == 1
    assert list(output.parent.iterdir()) == []

    for blow, status, left in ((signal.SIGINT, 130, []), (signal.SIGKILL, -signal.SIGKILL, [".medsr-"])):
        child = subprocess.Popen(
            [*command, "0", repr(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        assert child.stdin is not None and child.stdout is not None and child.stdout.readline() == "half\n"
        time.sleep(0.1)
        child.send_signal(blow)
        _, error = child.communicate(timeout=120)
        assert child.returncode == status, error
        assert error == ("interrupted\n" if blow == signal.SIGINT else "")
        assert [path.name[:7] for path in output.parent.iterdir()] == left
