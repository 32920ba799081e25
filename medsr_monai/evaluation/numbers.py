"""Numbers as a reader wants them: one count of decimals per column, a true minus, no digits that mean nothing."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

MISSING = "–"
SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
MOST_DECIMALS, DECIMALS_OF_DB = 5, 2
DIGITS, DIGITS_BELOW_A_TENTH = 4, 3


def scientific(value: float) -> str:
    """``2.1×10⁻⁷``."""
    mantissa, _, exponent = f"{value:.1e}".partition("e")
    return f"{mantissa}×10{str(int(exponent)).translate(SUPERSCRIPT)}".replace("-", "−")


@dataclass(frozen=True)
class Format:
    """How the numbers of one column are written.

    Args:
        decimals: of each number.
        is_plain: never in powers of ten: what is below the last decimal is zero.
    """

    decimals: int
    is_plain: bool = False

    @classmethod
    def of(cls, values: Iterable[float | None], unit: str = "") -> Format:
        """Enough decimals for the median of the values."""
        sizes = sorted(abs(value) for value in values if value)
        if unit == "dB" or not sizes:
            return cls(DECIMALS_OF_DB)
        magnitude = math.floor(math.log10(sizes[len(sizes) // 2]))
        digits = DIGITS if magnitude >= -1 else DIGITS_BELOW_A_TENTH
        return cls(min(max(digits - 1 - magnitude, 0), MOST_DECIMALS))

    def __call__(self, value: float | None, sign: bool = False) -> str:
        """The number; with ``sign`` also a plus."""
        if value is None:
            return MISSING
        if not self.is_plain and value and not 5 * 10.0 ** -(self.decimals + 1) <= abs(value) < 1e6:
            return ("+" if sign and value > 0 else "") + scientific(value)
        value = round(value, self.decimals) + 0.0  # no -0.00
        return ("+" if sign and value > 0 else "") + f"{value:.{self.decimals}f}".replace("-", "−")

    def interval(self, low: float | None, high: float | None, sign: bool = False) -> str:
        """``[low, high]``, or nothing where there is no interval."""
        return "" if low is None or high is None else f"[{self(low, sign)}, {self(high, sign)}]"

    def estimate(self, value: float | None, low: float | None, high: float | None, sign: bool = False) -> str:
        """A number and its interval, if there is one."""
        return f"{self(value, sign)} {'' if value is None else self.interval(low, high, sign)}".rstrip()
