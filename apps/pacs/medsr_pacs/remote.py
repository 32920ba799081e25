"""An archive, whichever way it speaks: what can be asked of it, and how it fails."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from medsr_monai.system.errors import InputError
from medsr_pacs.identifiers import normal_uid
from medsr_pacs.instances import SeriesFolders

# What is asked of each level, by keyword.
ASKED = {
    "study": ("StudyInstanceUID", "StudyDate", "ModalitiesInStudy", "NumberOfStudyRelatedSeries"),
    "series": ("StudyInstanceUID", "SeriesInstanceUID", "Modality", "NumberOfSeriesRelatedInstances"),
}


class UnreachableError(InputError):
    """The archive does not answer, or has no room now: the same may work later."""


class RefusedError(InputError):
    """The archive answered, and does not do what was asked: trying again is of no use."""


@dataclass(frozen=True)
class Found:
    """A study or a series that an archive has: `number` of its series or its images, None where it does not say.

    No patient's data but the date; `series` is empty for a study.
    """

    study: str
    series: str
    modalities: str
    date: str
    number: int | None


# Called with each file when the archive has confirmed that it stored it.
Confirmed = Callable[[Path], None]


class Remote(Protocol):
    """What an archive can be asked, by DIMSE or by DICOMweb alike.

    Every method raises UnreachableError or RefusedError, one line that names the archive.
    """

    name: str

    def echo(self) -> None:
        """Find out whether it answers."""

    def find(self, level: str, query: Mapping[str, str]) -> list[Found]:
        """Studies or series (`level`: ``study``, ``series``) that match; `query`: values by DICOM keyword."""

    def fetch(self, study: str, series: str | None, folder: Path) -> SeriesFolders:
        """Copy a study, or one series of it, into `folder`."""

    def send(self, files: Sequence[Path], confirmed: Confirmed) -> None:
        """Store files there, in the order given."""

    def holds(self, study: str, series: str, sop_instance: str) -> bool | None:
        """Whether it has this instance; None where it cannot be asked."""


def read_found(answer: Any) -> Found:
    """What an answer of C-FIND says, or one of QIDO-RS."""

    def text(keyword: str) -> str:
        value = answer.get(keyword) or ""
        many = isinstance(value, Sequence) and not isinstance(value, str)
        return ",".join(map(str, value)) if many else normal_uid(value)

    number = text("NumberOfStudyRelatedSeries") or text("NumberOfSeriesRelatedInstances")
    return Found(
        study=text("StudyInstanceUID"),
        series=text("SeriesInstanceUID"),
        modalities=text("Modality") or text("ModalitiesInStudy"),
        date=text("StudyDate"),
        number=int(number) if number.isdecimal() else None,
    )
