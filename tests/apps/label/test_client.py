"""The client of a MONAI Label server, against a server that plays its part and its failures."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from medsr_label.client import fetch_upscaled, server_info
from medsr_monai.bundle.commands import cli
from medsr_monai.system.errors import InputError

INFO = {
    "name": "medsr-monai",
    "version": "9.9",
    "description": "Research use only",
    "models": {"brain": {"version": "1.2", "scale": [2, 2, 1], "modality": "MR", "result": "image", "config": {}}},
    "datastore": {"total": 2, "images": ["one", "two"]},
}


@pytest.fixture(autouse=True, scope="module")
def needs_monai_label() -> None:
    """The client does not need it."""


class Played(BaseHTTPRequestHandler):
    """Answers by the image that is asked for."""

    asked: list[tuple[str, dict[str, list[str]], dict[str, Any]]] = []

    def log_message(self, *_: Any) -> None:
        pass

    def _send(self, status: int, body: bytes, claimed: int | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) if claimed is None else claimed))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        self._send(200, json.dumps(INFO).encode() if self.path == "/info/" else b"<html>")

    def do_POST(self) -> None:
        form = self.rfile.read(int(self.headers["Content-Length"])).decode()
        params = json.loads(parse_qs(form)["params"][0])
        address = urlsplit(self.path)
        query = parse_qs(address.query)
        self.asked.append((address.path, query, params))
        image = query["image"][0]
        if image == "broken":
            self._send(200, b"half", claimed=100)
        elif image == "gone":
            self._send(404, b'{"detail": "image \'gone\': not\\n among the studies"}')
        elif image == "crash":
            self._send(500, b"Internal Server Error")
        else:
            self._send(200, b"an image")


@pytest.fixture
def server() -> Iterator[str]:
    Played.asked = []
    played = ThreadingHTTPServer(("127.0.0.1", 0), Played)
    Thread(target=played.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{played.server_port}"
    played.shutdown()
    played.server_close()


def test_what_is_asked_for(server: str, tmp_path: Path) -> None:
    written = fetch_upscaled(
        server + "/", "a b/c", tmp_path / "new" / "out.nii.gz", "bundle/x", perception=0.5, device=None
    )
    assert written.read_bytes() == b"an image"
    [(path, query, params)] = Played.asked
    assert path == "/infer/bundle%2Fx"
    assert query == {"image": ["a b/c"], "output": ["image"]}
    assert params == {"perception": 0.5, "result_extension": ".nii.gz"}


@pytest.mark.parametrize(
    ("image", "words"),
    [("gone", "image 'gone': not among"), ("crash", "Internal Server Error"), ("broken", "broke off")],
)
def test_a_refusal_is_passed_on_and_leaves_no_file(server: str, tmp_path: Path, image: str, words: str) -> None:
    (tmp_path / "out.nii.gz").write_text("old")
    with pytest.raises(InputError, match=words) as raised:
        fetch_upscaled(server, image, tmp_path / "out.nii.gz")
    assert server in str(raised.value) and "\n" not in str(raised.value)
    assert [f.name for f in tmp_path.iterdir()] == ["out.nii.gz"]
    assert (tmp_path / "out.nii.gz").read_text() == "old"


@pytest.mark.parametrize("address", ["127.0.0.1:8000", "file:///etc/passwd", "ftp://x/", "http://", ""])
def test_an_address_that_is_none(address: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="must be an address"):
        fetch_upscaled(address, "one", tmp_path / "out.nii")


def test_nobody_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="make label-server"):
        fetch_upscaled("http://127.0.0.1:1", "one", tmp_path / "out.nii")


def test_an_output_that_cannot_be(server: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unknown suffix"):
        fetch_upscaled(server, "one", tmp_path / "out.png")
    (tmp_path / "folder.zip").mkdir()
    with pytest.raises(InputError, match="folder is in the way"):
        fetch_upscaled(server, "one", tmp_path / "folder.zip")
    assert Played.asked == []


def test_info_of_something_else(server: str) -> None:
    assert server_info(server) == INFO
    with pytest.raises(InputError, match="no MONAI Label server"):
        server_info(server + "/elsewhere")


def test_commands(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out.nii.gz"
    monkeypatch.setattr(
        "sys.argv", f"medsr label upscale --server {server} --image 007 {output} --consistency none".split()
    )
    cli.main()
    assert output.read_bytes() == b"an image"
    assert Played.asked[0][1]["image"] == ["007"]
    assert Played.asked[0][2] == {"consistency": "none", "result_extension": ".nii.gz"}
    monkeypatch.setattr("sys.argv", f"medsr label info --server {server}".split())
    cli.main()
    said = capsys.readouterr().out
    assert "scale 2x2x1  MR" in said and "one, two" in said and "Research use only" in said
