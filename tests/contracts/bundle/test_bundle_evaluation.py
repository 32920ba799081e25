"""Every bundle evaluates: by its configuration and by `medsr evaluate`, with one result; bad input is one line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from bundle_contract import (
    TINY_NETWORK,
    config_files,
    monai_bundle,
    parser_of,
    refused,
    run_arguments,
    those_known,
    workflow_of,
    write_subjects,
)

from medsr_monai.bundle.commands import cli

CREATED_BUNDLES = ("pictures",)  # of two axes: one slice of each case
METHODS = ["cubic", "sr", "sr@1+none"]


@pytest.fixture(scope="module")
def settings(bundle, tiny_weights, tiny_weights_gan, tmp_path_factory) -> dict:
    """Two subjects, and a network that takes no time."""
    folder = write_subjects(tmp_path_factory.mktemp("evaluated"), count=2)
    known = those_known(parser_of(bundle, "train", "evaluate"), TINY_NETWORK)
    return {
        **known,
        "cases": sorted(map(str, folder.iterdir())),
        "weights": str(tiny_weights),
        "weights_gan": str(tiny_weights_gan),
        "workers": 1,
        "resamples": 100,
        "progress": False,
    }


@pytest.fixture
def tiny_bundle(settings, monkeypatch) -> None:
    """`medsr evaluate` with that network."""
    run = cli.run_evaluation
    fixed = {
        key: value for key, value in settings.items() if "#" in key or key.startswith("weights") or key == "resamples"
    }
    monkeypatch.setattr(cli, "run_evaluation", lambda root, overlays, **given: run(root, overlays, **given, **fixed))


def medsr(monkeypatch, *arguments: object) -> int:
    """Run the command; its exit status."""
    monkeypatch.setattr("sys.argv", ["medsr", *map(str, arguments)])
    try:
        cli.main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def rows_of(folder) -> list[dict]:
    rows = json.loads((folder / "cases.json").read_text())["rows"]
    return [{key: value for key, value in row.items() if key not in ("seconds", "peak_mib")} for row in rows]


@pytest.mark.usefixtures("tiny_bundle")
def test_the_command_and_the_configuration_give_one_result(bundle, settings, tmp_path, monkeypatch, capsys):
    arguments = run_arguments(
        bundle,
        config_files(bundle, "train", "evaluate"),
        **{**settings, "methods": METHODS, "degradations": ["box", "kspace"], "noises": [0, 0.02]},
        output_dir=tmp_path / "configured",
        device="cpu",
    )
    monai_bundle(monkeypatch, *arguments[1:])
    folder = os.path.dirname(settings["cases"][0])
    command = ["evaluate", "--hr", folder, "--out", tmp_path / "commanded", "--bundle", bundle, "--workers", 1]
    command += ["--methods", "bicubic,sr,sr@1+none", "--degradation", "box,kspace", "--noise", "0,0.02"]
    capsys.readouterr()
    assert medsr(monkeypatch, *command, "--device", "cpu", "--progress", "False") == 0
    out = capsys.readouterr().out
    configured, commanded = rows_of(tmp_path / "configured"), rows_of(tmp_path / "commanded")
    assert configured == commanded and len(commanded) == 2 * 3 * 4
    assert "## kspace_noise0.02" in out and out.count("| sr@1+none |") == 4
    manifest = json.loads((tmp_path / "commanded" / "run.json").read_text())
    assert manifest["bundle"]["folder"] == bundle.name and manifest["status"] == "completed"


def test_the_old_keys_choose_one_condition_and_the_dial(bundle, settings, tmp_path):
    chosen = {"output_dir": str(tmp_path), "profile": "gaussian", "noise": 0.01, "perception": 0.5}
    workflow_of(bundle, "train", "evaluate", **{**settings, **chosen}).run()
    content = json.loads((tmp_path / "cases.json").read_text())
    assert [c["name"] for c in content["conditions"]] == ["gaussian_noise0.01"]
    assert {name: method["perception"] for name, method in content["methods"].items()} == {"cubic": None, "sr": 0.5}


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"perception": 2}, "perception '2'"),
        ({"workers": 0}, "workers '0'"),
        ({"resume": "no"}, "resume 'no'"),
        ({"methods": ["foo"]}, "method 'foo'"),
        ({"weights": "/nowhere.pt"}, "/nowhere.pt: no such weights"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_settings_are_checked_before_anything_is_written(bundle, settings, tmp_path, wrong, said):
    with refused(said):
        workflow_of(bundle, "train", "evaluate", **{**settings, "output_dir": str(tmp_path / "eval"), **wrong}).run()
    assert not (tmp_path / "eval").exists()


@pytest.mark.usefixtures("tiny_bundle")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--hr", "{tmp}/missing"], "missing: no such file or folder"),
        (["--noise", "loud"], "--noise loud"),
        (["--methods", "foo"], "method 'foo': known are nearest"),
        (["--degradation", "blur"], "degradation 'blur'"),
        (["--config", "missing.json"], "missing.json: no such file"),
        (["--bundle", "nobody"], "bundle 'nobody'"),
        (["--subjects", "{'x.nii.gz':'S1'}"], "no training image is called 'x.nii.gz'"),
        (["--methds", "cubic"], "unknown option --methds"),
        (["--mask", "{tmp}/masks"], "masks: no such file or folder"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else None,
)
def test_bad_arguments_are_one_line_and_status_2(bundle, settings, tmp_path, monkeypatch, capsys, arguments, said):
    given = {"--hr": os.path.dirname(settings["cases"][0]), "--out": tmp_path / "out", "--bundle": bundle}
    option, value = (part.replace("{tmp}", str(tmp_path)) for part in arguments)
    given[option] = value
    command = [part for pair in given.items() for part in pair]
    assert medsr(monkeypatch, "evaluate", *command) == 2
    error = capsys.readouterr().err
    assert said in error and "Traceback" not in error
    assert len([line for line in error.splitlines() if line.startswith("error:")]) == 1
    assert not (tmp_path / "out").exists()


def processes_of_group(group: int) -> list[str]:
    """Those that still run; one that nobody has asked for its status does not."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, of_group = path.read_text().rpartition(")")[2].split()[:3]
        except OSError:  # ended meanwhile
            continue
        if int(of_group) == group and state != "Z":
            found.append(path.parent.name)
    return found


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="no /proc to look for processes in")
def test_ctrl_c_leaves_no_process_and_the_next_run_goes_on(bundle, settings, tmp_path):
    given = {**settings, "workers": 2, "methods": METHODS, "noises": [n / 1000 for n in range(20)], "pictures": 0}
    arguments = run_arguments(bundle, config_files(bundle, "train", "evaluate"), **given, output_dir=tmp_path / "run")
    command = [sys.executable, "-m", *arguments, "--device", "cpu"]
    process = subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # A shell gives its background jobs a Ctrl-C that does nothing; a user's terminal does not.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL) and None,
    )
    while not list(tmp_path.glob("run/results/*/*/*.json")) and process.poll() is None:
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in error
    deadline = time.monotonic() + 10
    while (left := processes_of_group(process.pid)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert left == []
    done = {path: path.stat().st_mtime_ns for path in tmp_path.glob("run/results/*/*/*.json")}
    assert done and not list((tmp_path / "run").rglob(".medsr-*")) and not (tmp_path / "run" / "cases.json").exists()
    subprocess.run(command, check=True, capture_output=True)
    assert len(rows_of(tmp_path / "run")) == 2 * 3 * 20
    assert {path: path.stat().st_mtime_ns for path in done} == done
