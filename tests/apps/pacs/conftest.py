"""What the tests of the PACS share: a real archive where one is installed, and a configuration that names it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

for needed in ("pydicom", "pynetdicom", "dicomweb_client", "pydantic"):
    try:
        __import__(needed)
    except ImportError:
        collect_ignore_glob = ["test_*.py"]
else:
    from tests import orthanc as orthanc_server
    from tests.orthanc import Orthanc


@pytest.fixture(scope="session")
def running_orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    if orthanc_server.MISSING:
        pytest.skip(orthanc_server.MISSING)
    server = Orthanc(tmp_path_factory.mktemp("orthanc"))
    yield server
    server.stop()


@pytest.fixture
def orthanc(running_orthanc: Orthanc, monkeypatch: pytest.MonkeyPatch) -> Orthanc:
    """An empty archive; its user and password are in the environment."""
    running_orthanc.wipe()
    monkeypatch.setenv("MEDSR_TEST_USER", orthanc_server.USER)
    monkeypatch.setenv("MEDSR_TEST_PASSWORD", orthanc_server.PASSWORD)
    return running_orthanc


@pytest.fixture
def pacs_toml(orthanc: Orthanc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration that names the archive as `dimse`, `move` and `web`, found without being named."""
    file = tmp_path / "pacs.toml"
    file.write_text(orthanc.remotes())
    monkeypatch.setenv("MEDSR_PACS_CONFIG", str(file))
    return file
