"""Read the header of a DICOM file, and values in it, without trusting either."""

from __future__ import annotations

import logging
import math
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from types import ModuleType
from typing import IO, Any

from medsr_monai.system.errors import InputError
from medsr_monai.system.optional import require
from medsr_monai.volumes.dicom.members import Member, Stamp
from medsr_monai.volumes.dicom.vocabulary import DEFLATED, MAGIC, MAX_UID, PREAMBLE, is_uid

_META_GROUP = 0x0002


def load_pydicom(module: str = "pydicom") -> ModuleType:
    """pydicom, or a module of it, or which extra to install."""
    return require(module, "dicom")


class _Quiet:
    lock = threading.Lock()
    depth = 0
    restored = ExitStack()


@contextmanager
def quietly() -> Iterator[None]:
    """Within it pydicom neither warns nor logs: it quotes values, and a value may be a name.

    Threads may be within it at the same time; the last to leave restores.
    """
    with _Quiet.lock:
        _Quiet.depth += 1
        if _Quiet.depth == 1:
            _Quiet.restored.enter_context(warnings.catch_warnings())
            warnings.simplefilter("ignore")
            logger = logging.getLogger("pydicom")
            _Quiet.restored.callback(logger.setLevel, logger.level)
            logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        with _Quiet.lock:
            _Quiet.depth -= 1
            if _Quiet.depth == 0:
                _Quiet.restored.close()


@dataclass(frozen=True, eq=False)
class Header:
    """A header, or an item of a sequence in it (a pydicom dataset), whose values are checked when they are asked for.

    Raises:
        InputError: by each method, a value that is not of its kind, or cannot be parsed; it names the member.
    """

    member: Member
    dataset: Any = field(repr=False)  # it names the patient

    def value(self, keyword: str) -> Any:
        """The value as pydicom gives it; None where the element is absent or empty."""
        try:
            with quietly():
                value = self.dataset.get(keyword)
        except Exception:  # pydicom lets anything through; what it says may quote values
            raise InputError(f"{self.member}: {keyword} is damaged; repair the file or export it again") from None
        return None if value is None or value == "" or (is_list(value) and not len(value)) else value

    def meta(self, keyword: str) -> str:
        """A value of the file's meta information, as text; "" where there is none."""
        return Header(self.member, self.dataset.file_meta).text(keyword)

    def text(self, keyword: str) -> str:
        """The value as text, several joined by backslashes; "" where there is none."""
        value = self.value(keyword)
        if value is None:
            return ""
        return "\\".join(str(item).strip() for item in value) if is_list(value) else str(value).strip()

    def uid(self, keyword: str) -> str:
        """A UID, which has to be there."""
        uid = self.text(keyword)
        if not uid:
            raise InputError(f"{self.member}: no {keyword}; a damaged or incomplete DICOM file, export it again")
        if not is_uid(uid):
            raise InputError(f"{self.member}: {keyword} is no UID (digits and dots, at most {MAX_UID}); repair it")
        return uid

    def numbers(self, keyword: str, n: int) -> tuple[float, ...] | None:
        """Finite numbers, that many; None where the element is absent or empty."""
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

    def whole(self, keyword: str) -> int | None:
        """One whole number; None where the element is absent or empty."""
        numbers = self.numbers(keyword, 1)
        if numbers is None:
            return None
        if not numbers[0].is_integer():
            raise InputError(f"{self.member}: {keyword} is no whole number; repair it")
        return int(numbers[0])

    def items(self, keyword: str) -> list[Header]:
        """The items of a sequence; none where it is absent."""
        value = self.value(keyword)
        if value is None:
            return []
        if not is_list(value) or not all(hasattr(item, "elements") for item in value):
            raise InputError(f"{self.member}: {keyword} is no sequence; repair it")
        return [Header(self.member, item) for item in value]

    def items_of_all(self) -> list[Header]:
        """The items of every public sequence, one after the other."""
        try:
            with quietly():
                sequences = [one for one in self.dataset if one.VR == "SQ" and not one.tag.is_private]
                return [Header(self.member, item) for sequence in sequences for item in sequence.value]
        except Exception:  # as above
            raise InputError(f"{self.member}: a damaged sequence in its header; export it again") from None


@dataclass(frozen=True, eq=False)
class FileHeader(Header):
    """The header of a file, read once and carried along."""

    end: int  # where it ends in the file and the pixel data begin, in bytes
    stamp: Stamp  # of the file when the header was read; see `Opener.open`


def is_list(value: Any) -> bool:
    """Whether a value holds several."""
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def read_header(member: Member, file: IO[bytes], stamp: Stamp, keywords: Sequence[str] | None = None) -> FileHeader:
    """Read the header of an opened file up to the pixel data.

    Args:
        keywords: only these elements; None for all but those that nothing here reads: private ones, curves, overlays.

    Raises:
        InputError: a damaged file.
    """
    pydicom, reader = load_pydicom(), load_pydicom("pydicom.filereader")
    try:
        with quietly():
            file.seek(PREAMBLE + len(MAGIC))
            meta = reader.read_dataset(file, False, True, stop_when=lambda tag, vr, length: tag >> 16 != _META_GROUP)
            if meta.get("TransferSyntaxUID") == DEFLATED:  # pydicom would inflate it whole, however large
                raise InputError(f"{member}: deflated as a whole; convert it first (dcmconv +te)")
            file.seek(0)
            only = None if keywords is None else list(keywords)
            dataset = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=only)
            # Private elements, curves and overlays may be many times as long as the rest.
            for tag in list(dataset.keys()):
                if tag.is_private or tag.group & 0xFF00 in (0x5000, 0x6000):
                    del dataset[tag]
        return FileHeader(member, dataset, file.tell(), stamp)
    except InputError:
        raise
    except Exception as error:  # as above
        raise InputError(
            f"{member}: damaged DICOM file ({type(error).__name__} in its header); export or copy it again"
        ) from None
