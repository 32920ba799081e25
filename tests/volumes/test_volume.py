"""Volumes are found by file, folder or pattern, and known by their stem."""

from __future__ import annotations

from pathlib import Path

import pytest

from medsr_monai.system.errors import InputError
from medsr_monai.volumes import find_volumes, volume_stem


def test_finding_volumes(tmp_path: Path) -> None:
    for name in ("b.nii.gz", "a.NII", "c.mha", ".hidden.nii", "notes.txt", "scan[1].nii", "deeper/d.nrrd"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")

    def names(spec: str) -> list[str]:
        return [path.name for path in find_volumes(tmp_path / spec)]

    assert names("") == ["a.NII", "b.nii.gz", "c.mha", "scan[1].nii"]
    assert names("scan[1].nii") == ["scan[1].nii"]
    assert names("*.nii*") == ["b.nii.gz", "scan[1].nii"]
    assert names("**/*.nrrd") == ["d.nrrd"]
    assert find_volumes(str(tmp_path / "c.mha")) == [tmp_path / "c.mha"]
    for spec in ("notes.txt", "none.nii", "*.mhd", "n*"):
        with pytest.raises(InputError) as caught:
            find_volumes(tmp_path / spec)
        assert str(tmp_path / spec) in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(InputError, match="input '': an empty name"):
        find_volumes("")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty: no volume in this folder"):
        find_volumes(tmp_path / "empty")


@pytest.mark.parametrize(
    ("name", "stem"),
    [("a/x.nii.gz", "x"), ("x.NII.GZ", "x"), ("x.1.nii", "x.1"), ("x.mha", "x"), ("x.nrrd", "x"), ("x.y.png", "x.y")],
)
def test_stems(name: str, stem: str) -> None:
    assert volume_stem(name) == stem
