"""What the tests of the reader study share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.apps.reader_study.small_run import write_run


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path / "run")
