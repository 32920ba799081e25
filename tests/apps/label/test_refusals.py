"""What cannot be done is said in one clear line, and the server stays up and keeps to its folders."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.apps.label.server_process import ROOT, LabelServer

pytestmark = pytest.mark.label


def assert_refused(answer: tuple[int, bytes], status: int, words: str) -> None:
    assert answer[0] == status, answer[1][:300]
    said = json.loads(answer[1])["detail"]
    assert words in said and "\n" not in said and "Traceback" not in said


@pytest.mark.parametrize(
    "image", ["nope", "/etc/passwd", "../studies/scan", "..", "subfolder", "notes", "notes.txt", "a\0b", "x" * 5000]
)
def test_an_image_that_is_none_of_the_studies(server: LabelServer, image: str) -> None:
    assert_refused(server.post(image), 404, "image")


def test_a_path_of_the_server_is_no_image(server: LabelServer, studies: Path) -> None:
    assert_refused(server.post(str(studies / "scan.nii.gz")), 404, "not among the studies")


def test_an_id_that_two_files_have(server: LabelServer) -> None:
    assert_refused(server.post("twice"), 409, "twice.nii, twice.nii.gz")


@pytest.mark.parametrize(
    ("image", "words"), [("cut", "damaged"), ("empty", "empty file"), ("text", "NIfTI"), ("hash#tag", "'#'")]
)
def test_a_file_that_cannot_be_read(server: LabelServer, studies: Path, image: str, words: str) -> None:
    answer = server.post(image)
    assert_refused(answer, 422, words)
    assert image in str(answer[1]) and str(studies) not in str(answer[1])


def test_a_model_that_is_not_there(server: LabelServer) -> None:
    assert_refused(server.post("scan", model="deepedit"), 404, "there are brain_mri_super_resolution")


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ("{bad", "not JSON"),
        ("[1]", "JSON object"),
        ("null", "JSON object"),
        ({"image": "/etc/passwd"}, "'image' is no parameter"),
        ({"model": "x"}, "'model' is no parameter"),
        ({"profil": "box"}, "'profil': unknown"),
        ({"output_file": "x.nii"}, "'output_file': unknown"),
        ({"checkpoint": "x.pt"}, "'checkpoint': unknown"),
        ({"consistency": -1}, "consistency '-1'"),
        ({"consistency": "$exit()"}, "consistency"),
        ({"consistency": {"a": 1}}, "consistency"),
        ({"profile": "hamming"}, "box, gaussian, kspace"),
        ({"profile": ["box", "box", "box"]}, "one word"),
        ({"perception": 2}, "from 0 to 1"),
        ({"perception": "high"}, "from 0 to 1"),
        ('{"perception": NaN}', "from 0 to 1"),
        ({"device": "cuda:77"}, "not available here"),
        ({"device": "@network"}, "not available here"),
        ({"device": ["cpu"]}, "one word"),
        ({"result_extension": "/../../x.nii"}, "result_extension"),
        ({"result_extension": [".nii"]}, "result_extension"),
        ({"result_extension": ".ome.zarr"}, ".zip"),
    ],
    ids=str,
)
def test_a_parameter_that_cannot_serve(server: LabelServer, params: Any, words: str) -> None:
    assert_refused(server.post("scan", params=params), 400, words)


def test_a_volume_has_no_series_to_derive_from(server: LabelServer) -> None:
    status, body = server.post("scan", params={"result_extension": ".zip"})
    assert status == 422 and json.loads(body)["detail"]


def test_a_label_map_is_not_to_be_had(server: LabelServer) -> None:
    assert_refused(server.post("scan", output="dicom_seg"), 400, "no label map")


def test_a_request_without_an_image(server: LabelServer) -> None:
    assert_refused(server.post(), 400, "needs the ID of an image")
    assert_refused(server.post(session_id="../studies"), 404, "no such session")


def test_an_upload_that_is_no_image(server: LabelServer) -> None:
    assert_refused(server.post(file=("mine.nii.gz", b"no image")), 422, "the uploaded image")
    assert_refused(server.post(file=("mine", b"no image")), 422, "the uploaded image")
    assert server.left_behind() == []


@pytest.mark.parametrize(
    "path", ["/train/x", "/batch/infer/x", "/model/x", "/logs/", "/scoring/", "/infer/wsi/x", "/reload"]
)
def test_endpoints_that_images_do_not_need_are_not_there(server: LabelServer, path: str) -> None:
    assert server.ask(path, b"")[0] in (400, 404, 405, 422)


def test_the_studies_are_only_read(server: LabelServer, studies: Path) -> None:
    before = sorted(studies.rglob("*"))
    form = b'--x\r\nContent-Disposition: form-data; name="file"; filename="e.nii"\r\n\r\nevil\r\n--x--\r\n'
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    assert_refused(server.ask("/datastore/image?image=../../evil", form, headers, "PUT"), 405, "only read")
    assert_refused(server.ask("/datastore/image?id=scan", method="DELETE"), 405, "only read")
    assert_refused(server.ask("/proxy/dicom/stow/studies", b"", method="POST"), 405, "only read")
    assert server.post("scan")[0] == 200
    assert sorted(studies.rglob("*")) == before


def test_archives_of_clients_are_not_unpacked(server: LabelServer) -> None:
    """A tar may name files anywhere."""
    evil = io.BytesIO()
    with tarfile.open(fileobj=evil, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("../../evil"))
    head = b'--x\r\nContent-Disposition: form-data; name="files"; filename="e.tar"\r\n\r\n'
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    form = head + evil.getvalue() + b"\r\n--x--\r\n"
    assert_refused(server.ask("/session/?uncompress=true", form, headers, "PUT"), 400, "not unpacked")
    assert not list(server.temporary.parent.rglob("evil"))


def test_other_web_pages_may_not_read_the_answers(server: LabelServer) -> None:
    from urllib.request import ProxyHandler, Request, build_opener

    request = Request(server.url + "/info/", headers={"Origin": "http://elsewhere.example"})
    with build_opener(ProxyHandler({})).open(request, timeout=60) as answer:
        assert answer.headers.get("Access-Control-Allow-Origin") is None


def test_the_server_is_up_after_all_that(server: LabelServer) -> None:
    assert server.process.poll() is None
    assert server.post("scan")[0] == 200
    assert "Traceback" not in server.log.read_text()
    assert server.left_behind() == []


@pytest.mark.parametrize(
    ("studies_argument", "words"), [("no/such/folder", "no such folder"), ("http://a:b@127.0.0.1/dicom-web", "no user")]
)
def test_bad_studies_end_the_start_with_one_line(studies_argument: str, words: str) -> None:
    command = [sys.executable, str(ROOT / "apps/monailabel/serve.py"), "--studies", studies_argument]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 2 and words in ended.stderr and "Traceback" not in ended.stderr


def test_nothing_is_left_when_it_ends(studies: Path, tmp_path: Path) -> None:
    ending = LabelServer(studies, tmp_path)
    assert ending.post("scan")[0] == 200
    assert list(ending.temporary.iterdir())
    ending.stop()
    assert list(ending.temporary.iterdir()) == []
