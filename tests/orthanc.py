"""A real Orthanc on loopback, with a fresh folder; nothing of the system's own one is used."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
import urllib.request
from pathlib import Path
from typing import Any

PROGRAM = shutil.which("Orthanc") or shutil.which("Orthanc", path="/usr/sbin:/usr/local/sbin")
PLUGINS = [
    folder / "libOrthancDicomWeb.so"
    for folder in map(Path, ("/usr/share/orthanc/plugins", "/usr/local/share/orthanc/plugins", "/usr/lib/orthanc"))
    if (folder / "libOrthancDicomWeb.so").exists()
]
MISSING = (
    "Orthanc is not installed (apt-get install orthanc orthanc-dicomweb)"
    if not PROGRAM
    else "Orthanc's DICOMweb plugin is not installed (apt-get install orthanc-dicomweb)"
    if not PLUGINS
    else ""
)
USER, PASSWORD = "tester", "not-a-secret"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Orthanc:
    """One server process."""

    def __init__(self, folder: Path) -> None:
        self.dimse_port, self.http_port, self.move_port = free_port(), free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.http_port}"
        settings = {
            "Name": "medsr-tests",
            "StorageDirectory": str(folder / "storage"),
            "IndexDirectory": str(folder / "storage"),
            "TemporaryDirectory": str(folder),
            "Plugins": [str(PLUGINS[0])],
            "HttpPort": self.http_port,
            "DicomPort": self.dimse_port,
            "DicomAet": "ORTHANC",
            "DicomCheckCalledAet": True,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": True,
            "RegisteredUsers": {USER: PASSWORD},
            "DicomAlwaysAllowFind": True,
            "DicomAlwaysAllowGet": True,
            "DicomAlwaysAllowMove": True,
            "DicomModalities": {"medsr": ["MEDSR", "127.0.0.1", self.move_port]},
            "OverwriteInstances": True,
            "ConcurrentJobs": 4,
            "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
        }
        folder.mkdir(exist_ok=True)
        (folder / "orthanc.json").write_text(json.dumps(settings))
        self._log = open(folder / "orthanc.log", "w")  # noqa: SIM115  as long as the process runs
        self._process = subprocess.Popen(
            [str(PROGRAM), str(folder / "orthanc.json")], stdout=self._log, stderr=self._log
        )
        for _ in range(150):
            try:
                self.rest("/system")
                return
            except OSError:
                if self._process.poll() is not None:
                    break
                time.sleep(0.1)
        self.stop()
        raise RuntimeError((folder / "orthanc.log").read_text()[-2000:])

    def rest(self, path: str, data: bytes | None = None, method: str | None = None) -> Any:
        """Orthanc's own interface."""
        passwords = urllib.request.HTTPPasswordMgrWithDefaultRealm()
        passwords.add_password(None, self.url, USER, PASSWORD)
        opener = urllib.request.build_opener(
            urllib.request.HTTPBasicAuthHandler(passwords), urllib.request.ProxyHandler({})
        )
        request = urllib.request.Request(self.url + path, data, method=method)
        with opener.open(request, timeout=20) as answer:
            return json.loads(answer.read() or b"null")

    def wipe(self) -> None:
        for patient in self.rest("/patients"):
            self.rest(f"/patients/{patient}", method="DELETE")

    def add(self, files: list[Path]) -> None:
        for file in files:
            self.rest("/instances", file.read_bytes())

    def series(self) -> dict[str, int]:
        """Number of instances by series UID."""
        described = [self.rest(f"/series/{identifier}") for identifier in self.rest("/series")]
        return {item["MainDicomTags"]["SeriesInstanceUID"]: len(item["Instances"]) for item in described}

    def remotes(self) -> str:
        """The tables of a configuration that name this server in each way."""
        dimse = f'kind = "dimse"\nhost = "127.0.0.1"\nport = {self.dimse_port}\nae_title = "ORTHANC"'
        return f"""
[remotes.dimse]
{dimse}
[remotes.move]
{dimse}
retrieve = "move"
move_port = {self.move_port}
[remotes.web]
kind = "dicomweb"
url = "{self.url}/dicom-web"
user_env = "MEDSR_TEST_USER"
password_env = "MEDSR_TEST_PASSWORD"
"""

    def stop(self) -> None:
        self._process.kill()  # its folder is thrown away; an orderly end takes it three seconds
        self._process.wait()
        self._log.close()
