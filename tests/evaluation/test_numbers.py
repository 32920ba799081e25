"""Numbers in a column: as many decimals as mean something, a true minus, tiny ones in powers of ten."""

from __future__ import annotations

import pytest

from medsr_monai.evaluation.numbers import Format, scientific


@pytest.mark.parametrize(
    ("values", "unit", "written"),
    [
        ([27.876, 24.1], "dB", ["27.88", "24.10"]),
        ([0.85321, 0.9], "", ["0.8532", "0.9000"]),
        ([0.0025104, -0.002], "", ["0.00251", "−0.00200"]),
        ([0.0213, 3.2e-8], "", ["0.0213", "3.2×10⁻⁸"]),
        ([1234.5, 0.0], "MiB", ["1234", "0"]),
        ([None, 3e9], "", ["–", "3.0×10⁹"]),
        ([], "", []),
    ],
)
def test_one_count_of_decimals_per_column(values: list[float | None], unit: str, written: list[str]) -> None:
    assert list(map(Format.of(values, unit), values)) == written


def test_signs_and_intervals() -> None:
    write = Format(2)
    assert write(1.5, sign=True) == "+1.50" and write(-1.5, sign=True) == "−1.50" and write(0.0, sign=True) == "0.00"
    assert write.interval(-0.5, 0.25, sign=True) == "[−0.50, +0.25]"
    assert write.interval(None, 1.0) == "" and write.interval(1.0, None) == ""
    assert scientific(-2.04e-7) == "−2.0×10⁻⁷"


def test_plain_numbers_have_no_power_of_ten_and_no_negative_zero() -> None:
    write = Format(2, is_plain=True)
    assert write(-0.001) == "0.00" and write(1e-9, sign=True) == "0.00" and write(2e7) == "20000000.00"
    assert write.estimate(1.234, 1.0, 2.0) == "1.23 [1.00, 2.00]" and write.estimate(1.0, None, None) == "1.00"
    assert write.estimate(None, 1.0, 2.0) == "–" and write.estimate(0.5, -0.5, 1.0, True) == "+0.50 [−0.50, +1.00]"
