"""The server as users start it: a process of its own, on a free port of this machine."""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import ProxyHandler, Request, build_opener

ROOT = Path(__file__).parents[3]
BUNDLE = "brain_mri_super_resolution"
STARTS_WITHIN_S = 180


class LabelServer:
    """``apps/monailabel/serve.py`` in a folder where whatever it writes can be seen.

    Args:
        studies: folder or DICOMweb address.
        folder: of temporary files and of the log.
        environment: more variables.
    """

    def __init__(self, studies: Path | str, folder: Path, **environment: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.temporary = folder / "tmp"
        self.temporary.mkdir(parents=True)
        self.log = folder / "log.txt"
        here = {"TMPDIR": str(self.temporary), "HOME": str(folder), "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
        command = [sys.executable, str(ROOT / "apps/monailabel/serve.py"), "--studies", str(studies)]
        with open(self.log, "w") as log:
            self.process = subprocess.Popen(
                [*command, "--port", str(self.port)],
                stdout=log,
                stderr=log,
                env={**os.environ, **here, **environment},
                cwd=folder,
            )
        try:
            self._wait()
        except BaseException:
            self.process.kill()
            raise

    def _wait(self) -> None:
        for _ in range(STARTS_WITHIN_S * 5):
            if self.process.poll() is not None:
                break
            with socket.socket() as there:
                if there.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.2)
        raise RuntimeError(self.log.read_text()[-4000:])

    def post(
        self,
        image: str | None = None,
        model: str = BUNDLE,
        params: Any = None,
        file: tuple[str, bytes] | None = None,
        **query: str,
    ) -> tuple[int, bytes]:
        """The plain POST; params may be text that is no JSON. Status and body of the answer."""
        query = {"output": "image", **({} if image is None else {"image": image}), **query}
        boundary = secrets.token_hex(8)
        body = b""
        if params is not None:
            text = params if isinstance(params, str) else json.dumps(params)
            body += f'--{boundary}\r\nContent-Disposition: form-data; name="params"\r\n\r\n{text}\r\n'.encode()
        if file is not None:
            head = f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{file[0]}"\r\n\r\n'
            body += head.encode() + file[1] + b"\r\n"
        body += f"--{boundary}--\r\n".encode()
        headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
        return self.ask(f"/infer/{model}?{urlencode(query)}", body, headers)

    def ask(
        self, path: str, body: bytes | None = None, headers: Any = (), method: str | None = None
    ) -> tuple[int, bytes]:
        """Status and body of the answer."""
        request = Request(self.url + path, body, dict(headers), method=method)
        try:
            with build_opener(ProxyHandler({})).open(request, timeout=300) as answer:
                return answer.status, answer.read()
        except HTTPError as error:
            return error.code, error.read()

    def left_behind(self) -> list[str]:
        """Uploads and results that the server still holds, a moment after its last answer."""
        private = next(self.temporary.glob("medsr-label-*"))
        held: list[str] = []
        for _ in range(100):  # it removes them when the answer is sent, so the client may be faster
            held = [str(file) for file in [*private.glob("tmp*"), *(private / "results").iterdir()]]
            if not held:
                break
            time.sleep(0.1)
        return held

    def stop(self) -> int:
        """Its exit status."""
        self.process.terminate()
        try:
            return self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
