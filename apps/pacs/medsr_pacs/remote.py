"""An archive, whichever way it speaks: what can be asked of it, and how it fails."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from medsr_monai.system.errors import InputError
from medsr_pacs.configuration import Configuration, DimseSettings
from medsr_pacs.instances import SeriesFolders


class UnreachableError(InputError):
    """The archive does not answer, or has no room now: the same may work later."""


class RefusedError(InputError):
    """The archive answered, and does not do what was asked: trying again is of no use."""


@dataclass(frozen=True)
class Found:
    """A study or a series that an archive has; None where it does not say. No patient's data but the date.

    `series` and `modality` are empty for a study, `modalities` and `n_series` for a series.
    """

    study: str
    series: str = ""
    modality: str = ""
    modalities: tuple[str, ...] = ()
    date: str = ""
    n_series: int | None = None
    n_instances: int | None = None


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


def open_remote(configuration: Configuration, name: str | None = None) -> Remote:
    """The archive of this name, ready to be asked; nothing is sent yet.

    Raises:
        InputError: no such archive, a certificate that is none, or a secret that is not in the environment.
    """
    settings = configuration.remote(name)
    if isinstance(settings, DimseSettings):
        from medsr_pacs.dimse import DimseRemote

        return DimseRemote(settings, configuration.network)
    from medsr_pacs.dicomweb import WebRemote

    return WebRemote(settings)
