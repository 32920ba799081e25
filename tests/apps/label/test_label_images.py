"""What the server answers with is the image that `medsr upscale` writes, for every way to ask."""

from __future__ import annotations

import json
import re
import sys
import types
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medsr_label import client as label
from medsr_monai.bundle.workflows import bundle_root, run_inference
from medsr_monai.geometry import Grid, corner_error_mm
from medsr_monai.volumes import read_info, read_volume
from tests.apps.label.server_process import BUNDLE, ROOT, LabelServer

pytestmark = [pytest.mark.label, pytest.mark.usefixtures("workflow_leaves_no_trace")]


def upscaled_here(source: Path, output: Path, **settings: Any) -> Path:
    """The reference: the bundle's workflow, without a server."""
    files = {"input": str(source), "output_dir": str(output.parent), "output_file": str(output)}
    run_inference(bundle_root(BUNDLE), **files, progress=False, **settings)
    return output


def assert_same_image(received: Path, reference: Path) -> None:
    got, wanted = read_volume(received), read_volume(reference)
    assert read_info(received).dtype == np.float32
    assert got.data.shape == wanted.data.shape
    assert corner_error_mm(got.grid, wanted.grid) <= 1e-3
    assert np.abs(got.data - wanted.data).max() == 0


@pytest.mark.parametrize("image", ["scan", "scan.nii.gz", "$odd [1] näme", "twice.nii"])
def test_plain_post_gives_the_image_at_the_size_and_place_of_the_result(
    server: LabelServer, studies: Path, tmp_path: Path, image: str
) -> None:
    status, body = server.post(image)
    assert status == 200
    (tmp_path / "got.nii.gz").write_bytes(body)
    got, lr = read_volume(tmp_path / "got.nii.gz"), read_volume(studies / "scan.nii.gz")
    assert got.data.shape == (24, 22, 20)
    assert corner_error_mm(got.grid, lr.grid) <= 1e-3  # the same field of view, so another affine
    assert np.allclose(got.grid.affine[:3, :3], lr.grid.affine[:3, :3] / 2, atol=1e-6)
    assert_same_image(tmp_path / "got.nii.gz", upscaled_here(studies / "scan.nii.gz", tmp_path / "sr.nii.gz"))


@pytest.mark.parametrize(
    "settings",
    [{"perception": 0.5}, {"consistency": 0.1}, {"consistency": "none", "profile": "gaussian"}, {"device": "cpu"}],
    ids=str,
)
def test_settings_reach_the_workflow(
    server: LabelServer, studies: Path, tmp_path: Path, settings: dict[str, Any]
) -> None:
    status, body = server.post("scan", params=settings)
    assert status == 200
    (tmp_path / "got.nii.gz").write_bytes(body)
    assert_same_image(
        tmp_path / "got.nii.gz", upscaled_here(studies / "scan.nii.gz", tmp_path / "sr.nii.gz", **settings)
    )
    plain = read_volume(upscaled_here(studies / "scan.nii.gz", tmp_path / "plain.nii.gz")).data
    assert ("device" in settings) == bool(np.array_equal(plain, read_volume(tmp_path / "got.nii.gz").data))


@pytest.mark.parametrize("suffix", [".nii", ".nrrd", ".mha"])
def test_client_asks_for_the_format_of_its_output(
    server: LabelServer, studies: Path, tmp_path: Path, suffix: str
) -> None:
    written = label.fetch_upscaled(server.url, "scan", tmp_path / f"new folder/got{suffix}", perception=0.25)
    reference = upscaled_here(studies / "scan.nii.gz", tmp_path / f"sr{suffix}", perception=0.25)
    assert_same_image(written, reference)


def test_an_uploaded_file_is_upscaled_and_forgotten(server: LabelServer, studies: Path, tmp_path: Path) -> None:
    status, body = server.post(file=("mine.nii.gz", (studies / "scan.nii.gz").read_bytes()))
    assert status == 200
    (tmp_path / "got.nii.gz").write_bytes(body)
    assert_same_image(tmp_path / "got.nii.gz", upscaled_here(studies / "scan.nii.gz", tmp_path / "sr.nii.gz"))
    assert server.left_behind() == []


def test_a_stock_client_gets_the_image_in_a_multipart_answer(server: LabelServer) -> None:
    """Slicer asks so: parameters of label maps, and no `output`."""
    stock = {"result_extension": ".nrrd", "result_dtype": "uint8", "result_compress": False, "restore_label_idx": False}
    config = json.loads(server.ask("/info/")[1])["models"][BUNDLE]["config"]
    status, body = server.post("scan", params={**config, **stock}, output="all")
    assert status == 200
    assert b"type: float" in body and b"sizes: 24 22 20" in body
    assert server.left_behind() == []


def test_info_says_what_the_result_will_be(server: LabelServer) -> None:
    said = label.server_info(server.url)
    model = said["models"][BUNDLE]
    assert (model["scale"], model["modality"], model["type"]) == ([2, 2, 2], "MR", "others")
    assert model["bundle"] == BUNDLE
    assert model["version"] == json.loads((bundle_root(BUNDLE) / "configs/metadata.json").read_text())["version"]
    assert "not a medical device" in model["research_use"]
    assert {"scan", "twice.nii", "twice.nii.gz"} <= set(said["datastore"]["images"])
    assert "notes" not in str(said["datastore"])


def test_requests_at_once_are_all_answered(server: LabelServer) -> None:
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: server.post("scan"), range(4)))
    assert [status for status, _ in answers] == [200] * 4
    assert len({body for _, body in answers}) == 1
    assert server.left_behind() == []


def test_an_image_that_comes_later_is_found(server: LabelServer, studies: Path) -> None:
    late = studies / "late.nii.gz"
    assert server.post("late")[0] == 404
    late.write_bytes((studies / "scan.nii.gz").read_bytes())
    assert server.post("late")[0] == 200
    late.unlink()
    assert server.post("late")[0] == 404


def test_slicer_snippet_of_the_documentation_loads_a_volume(
    server: LabelServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a stand-in for Slicer that reads the file as Slicer would: as an image."""
    page = (ROOT / "docs" / "label.md").read_text()
    [snippet] = re.findall(r"^```py\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert len(snippet.splitlines()) <= 30
    loaded: list[tuple[Grid, str]] = []
    slicer = types.ModuleType("slicer")
    slicer.util = types.SimpleNamespace(  # type: ignore[attr-defined]
        loadVolume=lambda path, properties: loaded.append((read_volume(path).grid, properties["name"]))
    )
    monkeypatch.setitem(sys.modules, "slicer", slicer)
    exec(compile(snippet.replace("http://127.0.0.1:8000", server.url), "label.md", "exec"), {})
    [(grid, name)] = loaded
    assert grid.shape == (24, 22, 20) and name == "scan super-resolution"
