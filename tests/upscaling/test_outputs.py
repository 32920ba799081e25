"""Outputs are named after their sources, and overwrite neither these nor each other."""

from __future__ import annotations

from pathlib import Path

import pytest

from medsr_monai.system.errors import InputError
from medsr_monai.upscaling import OutputNames


@pytest.mark.parametrize(
    ("names", "label", "expected"),
    [
        (OutputNames("out"), "", "out/scan_sr.nii.gz"),
        (OutputNames("out", postfix=""), "", "out/scan.nii.gz"),
        (OutputNames("out", postfix="x4", suffix=".mha"), "std", "out/scan_x4_std.mha"),
        (OutputNames("out", suffix=".dcm"), "", "out/scan_sr"),
        (OutputNames("out", output_file="deep/own.ome.zarr"), "", "deep/own.ome.zarr"),
        (OutputNames("out", output_file="deep/own.nii.gz"), "std", "deep/own_std.nii.gz"),
    ],
)
def test_names(names: OutputNames, label: str, expected: str) -> None:
    assert names.path("in/scan.nii.gz", label) == Path(expected)


def test_inputs_are_never_overwritten(tmp_path: Path) -> None:
    source = tmp_path / "scan.nii.gz"
    source.write_bytes(b"precious")
    (tmp_path / "link.nii.gz").symlink_to(source)
    for names in (
        OutputNames(tmp_path, postfix=""),
        OutputNames(output_file=source),
        OutputNames(output_file=tmp_path / "x" / ".." / "scan.nii.gz"),
        OutputNames(output_file=tmp_path / "link.nii.gz"),
    ):
        with pytest.raises(InputError, match="overwrite the input"):
            names.path(source)


def test_two_inputs_of_one_name_do_not_share_an_output(tmp_path: Path) -> None:
    names = OutputNames(tmp_path / "out")
    first = names.path(tmp_path / "1" / "T1.nii")
    assert names.path(tmp_path / "1" / "T1.nii") == first, "the same again is fine"
    with pytest.raises(InputError, match="already written"):
        names.path(tmp_path / "2" / "T1.nii")


def test_an_unknown_suffix_is_refused() -> None:
    with pytest.raises(InputError, match=r"suffix \.png"):
        OutputNames(suffix=".png")
