"""The `medsr` command, run in this process: what users type, what they get, and how bad input ends."""

from __future__ import annotations

import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from medsr_monai.bundle.commands import cli
from medsr_monai.geometry import Grid, corner_error_mm
from medsr_monai.networks import RRDBNet

SMALL = {"features": 4, "growth": 4}
OBLIQUE = np.array([[0.0, 0.0, 2.0, -7.0], [-1.5, 0.1, 0.0, 11.0], [0.1, 1.2, 0.0, -3.0], [0.0, 0.0, 0.0, 1.0]])


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    rng = np.random.default_rng(3)
    image = nib.Nifti1Image(rng.random((9, 8, 7), dtype=np.float32) * 900, OBLIQUE)
    nib.save(image, tmp_path / "scan.nii.gz")
    return tmp_path / "scan.nii.gz"


@pytest.fixture
def small_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the bundle use a tiny network, so that a run takes no time."""
    torch.manual_seed(0)
    weights = tmp_path / "weights" / "tiny.pt"
    weights.parent.mkdir()
    torch.save(RRDBNet(3, **SMALL).state_dict(), weights)
    drawn = {name: 0.1 * torch.randn_like(value) for name, value in RRDBNet(3, **SMALL).state_dict().items()}
    torch.save(drawn, weights.with_name("tiny_gan.pt"))  # an untrained network says all but nothing, this one does
    run = cli.run_inference
    files = {"checkpoint": str(weights), "checkpoint_gan": str(weights.with_name("tiny_gan.pt"))}
    tiny = {**files, **{f"network_def#{name}": value for name, value in SMALL.items()}}
    monkeypatch.setattr(cli, "run_inference", lambda root, **overrides: run(root, **overrides, **tiny))


def medsr(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """Run the command; its exit status."""
    monkeypatch.setattr("sys.argv", ["medsr", *map(str, arguments)])
    try:
        cli.main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def box_measured(image: np.ndarray) -> np.ndarray:
    x, y, z = (n // 2 for n in image.shape)
    return image.reshape(x, 2, y, 2, z, 2).mean(axis=(1, 3, 5))


@pytest.mark.usefixtures("small_network")
@pytest.mark.parametrize("suffix", [".nii.gz", ".nii", ".nrrd", ".mha"])
def test_upscale_is_consistent_and_covers_the_same_field_of_view(
    scan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    from medsr_monai.volumes import read_volume

    output = tmp_path / "new folder" / f"sr{suffix}"
    assert medsr(monkeypatch, "upscale", scan, output) == 0
    lr, sr = read_volume(scan), read_volume(output)
    assert sr.data.shape == (18, 16, 14)
    assert corner_error_mm(sr.grid, Grid(lr.grid.shape, OBLIQUE)) <= 1e-3
    assert np.abs(box_measured(sr.data) - lr.data).max() <= 1e-4 * np.ptp(lr.data)
    assert np.abs(sr.data.reshape(9, 2, 8, 2, 7, 2).std(axis=(1, 3, 5))).max() > 0


@pytest.mark.usefixtures("small_network")
def test_consistency_options_differ(scan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lr = nib.load(scan).get_fdata()
    residuals = []
    for consistency in ("exact", 0.5, "none"):
        output = tmp_path / f"{consistency}.nii"
        assert medsr(monkeypatch, "upscale", scan, output, "--consistency", consistency) == 0
        residuals.append(np.abs(box_measured(nib.load(output).get_fdata()) - lr).max())
    assert residuals[0] < 1e-3 * residuals[1] and residuals[1] < residuals[2]


@pytest.mark.usefixtures("small_network")
def test_the_dial_changes_the_image_and_never_the_measurement(
    scan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lr, made = nib.load(scan).get_fdata(), []
    for perception in (0, 0.5, 1):
        output = tmp_path / f"{perception}.nii"
        assert medsr(monkeypatch, "upscale", scan, output, "--perception", perception) == 0
        made.append(nib.load(output).get_fdata())
        assert np.abs(box_measured(made[-1]) - lr).max() <= 1e-4 * np.ptp(lr)
    for one, other in ((0, 1), (1, 2), (0, 2)):
        assert np.abs(made[one] - made[other]).max() > 1e-3 * np.ptp(lr)


@pytest.mark.usefixtures("small_network")
def test_a_folder_and_a_glob_are_upscaled_file_by_file(
    scan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    for name in ("a.nii.gz", "b.nii.gz"):
        (folder / name).write_bytes(scan.read_bytes())
    assert medsr(monkeypatch, "upscale", folder, tmp_path / "out") == 0
    assert medsr(monkeypatch, "upscale", folder / "b*.nii.gz", tmp_path / "glob") == 0
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["a_sr.nii.gz", "b_sr.nii.gz"]
    assert [p.name for p in (tmp_path / "glob").iterdir()] == ["b_sr.nii.gz"]


@pytest.mark.usefixtures("small_network")
def test_a_series_is_upscaled_volume_by_volume_in_its_own_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    series = rng.integers(0, 1000, (5, 4, 3, 2), dtype=np.int16)
    nib.save(nib.Nifti1Image(series, np.diag([2.0, 2, 3, 1])), tmp_path / "epi.nii")
    assert medsr(monkeypatch, "upscale", tmp_path / "epi.nii", tmp_path / "sr.nii", "--output_dtype", "same") == 0
    result = nib.load(tmp_path / "sr.nii")
    assert result.shape == (10, 8, 6, 2) and result.get_data_dtype() == np.int16
    for time in range(2):
        # Eight rounded voxels make one measured one: half a grey level at most.
        measured = box_measured(np.asarray(result.dataobj)[..., time].astype(float))
        assert np.abs(measured - series[..., time]).max() <= 0.5 + 1e-6


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["missing.nii.gz", "x.nii.gz"], "missing.nii.gz"),
        (["{scan}", "{tmp}/x.txt"], "x.txt: unknown suffix"),
        (["{scan}", "{tmp}/x.nii.gz", "--bundle", "nobody"], "bundle 'nobody'"),
        (["{scan}", "{tmp}/x.nii.gz", "--consistency", "maybe"], "consistency 'maybe'"),
        (["{scan}", "{tmp}/x.nii.gz", "--consistency", "-1"], "consistency '-1'"),
        (["{scan}", "{tmp}/x.nii.gz", "--device", "abacus"], "device 'abacus'"),
        (["{scan}", "{tmp}/x.nii.gz", "--profile", "round"], "profile 'round'"),
        (["{scan}", "{tmp}/x.nii.gz", "--output_dtype", "bool"], "bool"),
        (["{scan}", "{tmp}/x.nii.gz", "--device", "meta"], "device 'meta'"),
        (["{scan}", "{tmp}/x.nii.gz", "--perception", "1.5"], "perception '1.5'"),
        (["{scan}", "{tmp}/x.nii.gz", "--perception", "x"], "perception 'x'"),
        (["{scan}", "{tmp}/x.nii.gz", "--perception", "True"], "perception 'True'"),
        (["{scan}", "{tmp}/x.nii.gz", "--profile", "3"], "profile '3'"),
        (["{scan}", "{tmp}/x.nii.gz", "--consitency", "none"], "unknown option --consitency"),
        (["{scan}", "{scan}"], "overwrite the input"),
        (["", "{tmp}/x.nii.gz"], "input ''"),
        (["{scan}", "/proc/nowhere/x.nii.gz"], "/proc/nowhere"),
    ],
)
@pytest.mark.usefixtures("small_network")
def test_bad_input_is_one_line_and_status_2(
    scan: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    said: str,
) -> None:
    before = scan.read_bytes()
    filled = [argument.format(scan=scan, tmp=tmp_path) for argument in arguments]
    assert medsr(monkeypatch, "upscale", *filled, "--progress", "False") == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1 and "Traceback" not in error
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(("x", ".medsr"))]
    assert scan.read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["upscale"], "input is missing; see medsr upscale --help"),
        (["upscale", "x.nii.gz"], "output is missing; see medsr upscale --help"),
        (["degrade", "--scale", "2"], "hr is missing; see medsr degrade --help"),
        (["upscal", "x.nii.gz", "y.nii.gz"], "unknown command upscal; see medsr --help"),
        (["pacs", "nope"], "unknown command nope; see medsr pacs --help"),
        (["pacs", "upscale", "1.2.3"], "--study is missing; see medsr pacs upscale --help"),
        (["pacs", "find", "1.2.3"], "too many arguments: 1.2.3; see medsr pacs find --help"),
        (["pacs", "listen", "--port", "1"], "unknown option --port; see medsr pacs listen --help"),
    ],
)
def test_what_is_missing_is_one_line_and_status_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert medsr(monkeypatch, *arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and said in error


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--help"], "upscale"),
        (["upscale", "--help"], "--consistency"),
        (["degrade", "-h"], "--gap_mm"),
        (["pacs", "-h"], "listen"),
    ],
)
def test_help_is_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert medsr(monkeypatch, *arguments) == 0
    out, error = capsys.readouterr()
    assert said in out + error and "Traceback" not in error and "FIRE_METADATA" not in out + error


@pytest.mark.usefixtures("small_network")
def test_one_bad_file_does_not_stop_the_others(
    scan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    for name in ("a.nii.gz", "c.nii.gz"):
        (folder / name).write_bytes(scan.read_bytes())
    (folder / "b.nii.gz").write_bytes(b"")
    assert medsr(monkeypatch, "upscale", folder, tmp_path / "out") == 2
    assert "b.nii.gz: empty file" in capsys.readouterr().err
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["a_sr.nii.gz", "c_sr.nii.gz"]


@pytest.mark.parametrize("profile", ["box", "gaussian", "kspace"])
def test_degrade_measures_on_the_coarser_grid(
    scan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, profile: str
) -> None:
    output = tmp_path / "lr.nii.gz"
    command = ["degrade", scan, output, "--scale", "1,2,3.5", "--profile", profile, "--noise", 0.02]
    assert medsr(monkeypatch, *command) == 0
    lr = nib.load(output)
    assert lr.shape == (9, 4, 2)
    assert corner_error_mm(Grid(lr.shape, lr.affine), Grid((9, 8, 7), OBLIQUE)) <= 1e-3


def test_degrade_refuses_what_is_no_number(
    scan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for option, value in (
        ("--scale", "abc"),
        ("--noise", "loud"),
        ("--scale", 0),
        ("--gap_mm", -1),
        ("--noise", -0.1),
        ("--seed", -1),
    ):
        assert medsr(monkeypatch, "degrade", scan, tmp_path / "lr.nii.gz", option, value) == 2
        assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "lr.nii.gz").exists()


@pytest.mark.usefixtures("small_network")
def test_a_file_name_is_a_name_and_not_code(scan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert medsr(monkeypatch, "upscale", scan, "scan#1.nii.gz") == 2
    for name in ("$print(1).nii.gz", "@input.nii.gz", "1_0.nii.gz"):
        (tmp_path / name).write_bytes(scan.read_bytes())
        assert medsr(monkeypatch, "upscale", name, "out/") == 0
        assert (tmp_path / "out" / name.replace(".nii.gz", "_sr.nii.gz")).is_file()


def test_the_example_needs_no_pytest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from medsr_monai.volumes import write_example

    monkeypatch.setitem(sys.modules, "nibabel.testing", None)
    assert write_example(tmp_path / "example.nii.gz").is_file()


def test_bundles_lists_the_checkout_and_a_folder_named_by_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    configs = tmp_path / "mine" / "configs"
    configs.mkdir(parents=True)
    (configs / "metadata.json").write_text('{"version": "7.7", "task": "Nothing yet"}')
    monkeypatch.setenv("MEDSR_BUNDLES", str(tmp_path))
    assert medsr(monkeypatch, "bundles") == 0
    listed = capsys.readouterr().out
    assert "brain_mri_super_resolution" in listed and "mine  7.7  Nothing yet" in listed


@pytest.mark.usefixtures("small_network")
def test_demo_leaves_a_volume_and_a_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert medsr(monkeypatch, "demo", "--output_dir", tmp_path / "demo") == 0
    source, result = nib.load(tmp_path / "demo/input.nii.gz"), nib.load(tmp_path / "demo/sr.nii.gz")
    assert source.shape == (128, 96, 24) and result.shape == (256, 192, 48)
    assert (tmp_path / "demo/comparison.png").read_bytes().startswith(b"\x89PNG")
    said = capsys.readouterr().out
    assert "not the contrast" in said and "Research use only" in said
