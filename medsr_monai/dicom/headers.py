"""Read the header of a DICOM file, and values in it, without trusting either."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import IO, Any

from medsr_monai.dicom.members import Member
from medsr_monai.errors import InputError
from medsr_monai.optional import require

MAX_UID = 64
_UID = re.compile(r"[0-9]+(\.[0-9]+)*")


def load_pydicom(module: str = "pydicom") -> ModuleType:
    """pydicom, or a module of it, or which extra to install."""
    return require(module, "dicom")


def is_uid(text: str) -> bool:
    """Whether a text keeps to the grammar of UIDs: digits and dots, at most 64."""
    return len(text) <= MAX_UID and _UID.fullmatch(text) is not None


@contextmanager
def quietly() -> Iterator[None]:
    """Within it pydicom's warnings are not shown: they quote values, and a value may be a name."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@dataclass(frozen=True, eq=False)
class Header:
    """A header, or an item of a sequence in it, whose values are checked when they are asked for.

    Args:
        member: where it was read, to name in messages.
        dataset: pydicom's.
    """

    member: Member
    dataset: Any

    def value(self, keyword: str) -> Any:
        """The value as pydicom gives it; None where the element is absent or empty.

        Raises:
            InputError: a value that cannot be parsed.
        """
        try:
            with quietly():
                value = self.dataset.get(keyword)
        except Exception:  # pydicom lets anything through; what it says may quote values
            raise InputError(f"{self.member}: {keyword} is damaged; repair the file or export it again") from None
        return None if value is None or value == "" or (is_list(value) and not len(value)) else value

    def text(self, keyword: str) -> str:
        """The value as text, several joined by backslashes; "" where there is none."""
        value = self.value(keyword)
        if value is None:
            return ""
        return "\\".join(str(item).strip() for item in value) if is_list(value) else str(value).strip()

    def uid(self, keyword: str) -> str:
        """A UID.

        Raises:
            InputError: none, or none that keeps to the grammar of UIDs.
        """
        uid = self.text(keyword)
        if not uid:
            raise InputError(f"{self.member}: no {keyword}; a damaged or incomplete DICOM file, export it again")
        if not is_uid(uid):
            raise InputError(f"{self.member}: {keyword} is no UID (digits and dots, at most {MAX_UID}); repair it")
        return uid

    def numbers(self, keyword: str, n: int) -> tuple[float, ...] | None:
        """Finite numbers; None where the element is absent or empty.

        Raises:
            InputError: another number of them, or no finite numbers.
        """
        value = self.value(keyword)
        if value is None:
            return None
        try:
            numbers = tuple(float(item) for item in (value if is_list(value) else [value]))
        except (TypeError, ValueError):
            numbers = ()
        if len(numbers) != n or not all(map(math.isfinite, numbers)):
            raise InputError(f"{self.member}: {keyword} does not hold {n} finite number{'s' * (n > 1)}; repair it")
        return numbers

    def number(self, keyword: str) -> float | None:
        """One finite number, or None; raises as `numbers`."""
        numbers = self.numbers(keyword, 1)
        return None if numbers is None else numbers[0]

    def whole(self, keyword: str) -> int | None:
        """One whole number, or None.

        Raises:
            InputError: anything else.
        """
        number = self.number(keyword)
        if number is not None and not number.is_integer():
            raise InputError(f"{self.member}: {keyword} is no whole number; repair it")
        return None if number is None else int(number)

    def items(self, keyword: str) -> list[Header]:
        """The items of a sequence; none where it is absent.

        Raises:
            InputError: no sequence.
        """
        value = self.value(keyword)
        if value is None:
            return []
        if not is_list(value) or not all(hasattr(item, "elements") for item in value):
            raise InputError(f"{self.member}: {keyword} is no sequence; repair it")
        return [Header(self.member, item) for item in value]


def is_list(value: Any) -> bool:
    """Whether a value holds several."""
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def read_header(member: Member, file: IO[bytes], keywords: Sequence[str] | None = None) -> Header:
    """Read a header up to the pixel data; the file is left where these begin.

    Args:
        member: to name in messages.
        file: opened, at its beginning.
        keywords: only these elements; None for all.

    Returns:
        The header; its dataset has `file_meta`.

    Raises:
        InputError: a damaged file.
    """
    pydicom = load_pydicom()
    try:
        with quietly():
            only = None if keywords is None else list(keywords)
            return Header(member, pydicom.dcmread(file, stop_before_pixels=True, specific_tags=only))
    except Exception as error:  # as above
        raise InputError(
            f"{member}: damaged DICOM file ({type(error).__name__} in its header); export or copy it again"
        ) from None
