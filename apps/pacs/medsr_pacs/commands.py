"""``medsr pacs echo``, ``find``, ``fetch``, ``send``, ``upscale`` and ``listen``: parse, call, print."""

from __future__ import annotations

import re
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from fire.decorators import SetParseFns

from medsr_monai.system.errors import InputError
from medsr_monai.system.optional import require
from medsr_pacs.identifiers import checked_uid

if TYPE_CHECKING:
    from medsr_pacs.remote import Remote
    from medsr_pacs.settings import Settings

RESEARCH_USE = "Research use only: not a medical device; detail finer than the input is a guess."


def _configured(config: str | None) -> Settings:
    for needed in ("pydicom", "pynetdicom", "requests", "dicomweb_client"):
        require(needed, "dicom")
    from medsr_pacs.configuration import read_configuration
    from medsr_pacs.journal import silence_libraries

    silence_libraries()
    return read_configuration(config)


def _opened(config: str | None, remote: str | None) -> Remote:
    from medsr_pacs.configuration import open_remote

    return open_remote(_configured(config), remote)


@SetParseFns(remote=str, config=str)
def echo(*, remote: str | None = None, config: str | None = None) -> None:
    """Find out whether an archive answers.

    Args:
        remote: its name in the configuration, where there are several.
        config: the configuration; default is what MEDSR_PACS_CONFIG names, or pacs.toml in the working folder.
    """
    archive = _opened(config, remote)
    archive.echo()
    print(f"{archive.name}  answers")


@SetParseFns(study=str, patient_id=str, accession=str, date=str, modality=str, remote=str, config=str)
def find(
    *,
    study: str | None = None,
    patient_id: str | None = None,
    accession: str | None = None,
    date: str | None = None,
    modality: str | None = None,
    remote: str | None = None,
    config: str | None = None,
) -> None:
    """List the studies of an archive, or with ``--study`` the series of one: UIDs, dates and numbers, no names.

    Args:
        study: UID of the study whose series are listed.
        patient_id: only studies of this patient.
        accession: only the studies with this accession number.
        date: only studies of this day or range, as 20240131, 20240101-20240131 or 20240101-.
        modality: only studies or series of this modality, as CT.
        remote: name of the archive in the configuration, where there are several.
        config: the configuration; default is what MEDSR_PACS_CONFIG names, or pacs.toml in the working folder.
    """
    if date is not None and not re.fullmatch(r"\d{8}(-(\d{8})?)?|-\d{8}", date):
        raise InputError(f"--date {date}: must be a day or a range, as 20240131 or 20240101-20240131")
    modality = modality and modality.upper()
    if study is not None:
        checked_uid("study", study)
        unused = {"patient_id": patient_id, "accession": accession, "date": date}
        given = [f"--{name}" for name, value in unused.items() if value is not None]
        if given:
            raise InputError(f"{', '.join(given)}: chooses studies; with --study, only --modality chooses series")
        level, query = "series", {"StudyInstanceUID": study, "Modality": modality}
    else:
        chosen = {"PatientID": patient_id, "AccessionNumber": accession, "StudyDate": date}
        level, query = "study", {**chosen, "ModalitiesInStudy": modality}
    archive = _opened(config, remote)
    found = archive.find(level, {keyword: value for keyword, value in query.items() if value is not None})
    for item in sorted(found, key=lambda item: (item.date, item.study, item.series)):
        counted = f"{'?' if item.number is None else item.number} {'series' if level == 'study' else 'images'}"
        print("  ".join(filter(None, (item.series or item.study, item.date, item.modalities or "?", counted))))
    print(f"{len(found)} {'studies' if level == 'study' else 'series'} at {archive.name}")


@SetParseFns(out=str, study=str, series=str, remote=str, config=str)
def fetch(
    out: str, *, study: str, series: str | None = None, remote: str | None = None, config: str | None = None
) -> None:
    """Copy a study, or one series of it, from an archive into a folder.

    Args:
        out: a new or empty folder; it gets a folder for each series, named by its UID.
        study: UID of the study.
        series: UID of a series; default is all.
        remote: name of the archive in the configuration, where there are several.
        config: the configuration; default is what MEDSR_PACS_CONFIG names, or pacs.toml in the working folder.
    """
    from medsr_monai.system.atomic import replacing_folder

    checked_uid("study", study)
    if series is not None:
        checked_uid("series", series)
    target = Path(out).expanduser()
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise InputError(f"{out}: is there already and not an empty folder; name a new one")
    archive = _opened(config, remote)
    with replacing_folder(target) as folder:
        got = archive.fetch(study, series, folder)
        if not got.n_instances:
            raise InputError(f"{archive.name}: has no instances of {'this series' if series else 'this study'}")
    for uid in sorted(got.folders):
        print(f"{uid}  {len(list((target / uid).iterdir()))} instances")
    print(f"{got.n_instances} instances from {archive.name}  {target}")


@SetParseFns(source=str, remote=str, config=str)
def send(source: str, *, remote: str | None = None, config: str | None = None) -> None:
    """Send DICOM files to an archive.

    Args:
        source: a file, or a folder with files in it or in folders below.
        remote: name of the archive in the configuration, where there are several.
        config: the configuration; default is what MEDSR_PACS_CONFIG names, or pacs.toml in the working folder.
    """
    from medsr_pacs.instances import find_dicom_files

    archive = _opened(config, remote)
    files = find_dicom_files(source)
    sent: list[Path] = []
    try:
        archive.send(files, sent.append)
    except InputError as error:
        raise InputError(f"{error}; {len(sent)} of {len(files)} instances were sent") from error
    print(f"{len(sent)} instances sent to {archive.name}")


@SetParseFns(study=str, series=str, destination=str, remote=str, config=str)
def upscale(
    *,
    study: str,
    series: str | None = None,
    destination: str | None = None,
    remote: str | None = None,
    config: str | None = None,
) -> None:
    """Fetch a study, upscale its series, and send the derived series back.

    Args:
        study: UID of the study.
        series: UID of a series; default is all of the study that are volumes.
        destination: name of the archive that gets the results; default is the one that had the study.
        remote: name of the archive that has the study, where there are several.
        config: the configuration; default is what MEDSR_PACS_CONFIG names, or pacs.toml in the working folder.
    """
    from medsr_pacs.configuration import open_remote
    from medsr_pacs.round_trip import upscale_study
    from medsr_pacs.upscaling import UpscaleProcess

    configuration = _configured(config)
    archive = open_remote(configuration, remote)
    target = archive if destination is None else open_remote(configuration, destination)
    process = UpscaleProcess(configuration.upscale.model_dump(exclude_none=True))

    def upscale_aloud(source: Path, result: Path) -> None:
        print(f"{source.name}  fetched, upscaling (minutes for a CT) ...", file=sys.stderr, flush=True)
        process(source, result)

    outcomes = []
    print(f"fetching from {archive.name} ...", file=sys.stderr, flush=True)
    for outcome in upscale_study(archive, target, study, upscale_aloud, series):
        outcomes.append(outcome)
        said = f"{outcome.n_sent} images sent to {target.name}" if not outcome.reason else outcome.reason
        print(f"{outcome.series}  {outcome.n_images} images: {said}", flush=True)
    print(RESEARCH_USE)
    failed = sum(outcome.is_error for outcome in outcomes)
    if failed or not any(outcome.n_sent for outcome in outcomes):
        what = f"{failed} of {len(outcomes)} series failed" if failed else "no series to upscale"
        raise InputError(f"study {study}: {what}")


@SetParseFns(config=str)
def listen(*, config: str | None = None) -> None:
    """Take the series that are sent here, upscale each when it is complete, and send the result on.

    Args:
        config: the configuration; default is what MEDSR_PACS_CONFIG names, or pacs.toml in the working folder.
    """
    configuration = _configured(config)
    from medsr_pacs.journal import say
    from medsr_pacs.service import Service

    with Service(configuration) as service:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: service.stop())
        say(RESEARCH_USE)
        service.run()
    say("stopped")


COMMANDS = {"echo": echo, "find": find, "fetch": fetch, "send": send, "upscale": upscale, "listen": listen}
