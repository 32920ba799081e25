"""Several files appear together, or none of them does."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from medsr_monai.system import atomic
from medsr_monai.system.atomic import Together, replacing


def write_both(folder: Path, together: Together) -> None:
    for name in ("mean", "deviation"):
        with replacing(folder / name, together=together) as temporary:
            temporary.write_text(f"new {name}")


def test_nothing_appears_before_all_is_complete(tmp_path: Path) -> None:
    with Together() as together:
        write_both(tmp_path, together)
        with replacing(tmp_path / "zarr", together=together, folder=True) as temporary:
            (temporary / "chunk").write_text("new")
        assert all(path.name.startswith(".medsr-") for path in tmp_path.iterdir())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["deviation", "mean", "zarr"]
    assert (tmp_path / "zarr" / "chunk").read_text() == "new"


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_an_error_takes_all_of_them_away(error: type[BaseException], tmp_path: Path) -> None:
    (tmp_path / "mean").write_text("old")
    with pytest.raises(error), Together() as together:
        write_both(tmp_path, together)
        raise error
    assert [path.name for path in tmp_path.iterdir()] == ["mean"] and (tmp_path / "mean").read_text() == "old"


def test_a_folder_in_the_way_of_one_keeps_the_other_back(tmp_path: Path) -> None:
    (tmp_path / "deviation").mkdir()
    with pytest.raises(IsADirectoryError, match="deviation"), Together() as together:
        write_both(tmp_path, together)
    assert [path.name for path in tmp_path.iterdir()] == ["deviation"]


def test_ctrl_c_at_one_renaming_does_not_stop_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(temporary: Path, target: Path) -> None:
        os.rename(temporary, target)
        raise KeyboardInterrupt

    monkeypatch.setattr(atomic.os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt), Together() as together:
        write_both(tmp_path, together)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["deviation", "mean"]
