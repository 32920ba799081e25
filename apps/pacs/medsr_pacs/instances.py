"""One DICOM instance as it travels: who it is, whether it is whole, and how it reaches the disk."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import pydicom
from pydicom.filereader import read_dataset
from pydicom.tag import Tag
from pydicom.uid import UID
from pynetdicom.dsutils import create_file_meta, encode_file_meta

from medsr_monai.system.errors import InputError
from medsr_monai.volumes.dicom.headers import quietly
from medsr_monai.volumes.dicom.members import files_below, is_dicom_file
from medsr_monai.volumes.dicom.vocabulary import CLASSIC, COMPRESSED, EXPLICIT, IMPLICIT, MAGIC, MAKER, PREAMBLE
from medsr_pacs.identifiers import is_uid, normal_uid

# What the listener takes.
VOLUMES = tuple(CLASSIC)
PLAIN = (EXPLICIT, IMPLICIT)
# Deflated data sets are left out: they can unpack to a thousand times their size before any limit applies.
ENCODINGS = (*PLAIN, *COMPRESSED)
FLOAT_PIXELS = 0x7FE00008  # the first of the tags that hold pixel data
ELEMENT_HEADER = 8  # tag and length; with an explicit VR it is 12
IDENTITY = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
SIZE = ("Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "BitsAllocated")
TAGS: tuple[Any, ...] = (*IDENTITY, *SIZE, "ContributingEquipmentSequence")


@dataclass(frozen=True)
class Instance:
    """Who an instance is, by UIDs whose grammar was checked.

    `is_own_result`: this program made it; upscaled once more it would double again, without end.
    """

    sop_class: str
    sop_instance: str
    study: str
    series: str
    encoding: str
    is_own_result: bool = False


def read_instance(file: str | Path) -> Instance:
    """Who a DICOM file is; its pixel data is not read.

    Raises:
        InputError: no DICOM, broken, or without valid UIDs; names the file, and the tag but never its value.
    """
    try:
        with quietly():
            dataset = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=[*TAGS])
            return identify(dataset, str(dataset.file_meta.get("TransferSyntaxUID", "")))
    except InputError as error:
        raise InputError(f"{file}: {error}") from None
    except Exception as error:  # a parser fed with anything fails with anything
        raise InputError(f"{file}: cannot be read as DICOM ({type(error).__name__})") from None


def parse_instance(stream: BinaryIO, encoding: str) -> Instance:
    """Who a data set is that came over the network, and whether its pixel data is as long as it claims.

    Raises:
        InputError: broken, without valid UIDs, or shorter than it claims.
    """
    syntax = UID(encoding)
    size = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    try:
        with quietly():
            dataset = read_dataset(
                stream,
                syntax.is_implicit_VR,
                syntax.is_little_endian,
                stop_when=lambda tag, vr, length: tag >= FLOAT_PIXELS,
                specific_tags=[Tag(keyword) for keyword in TAGS],
            )
            instance = identify(dataset, encoding)
            _refuse_short(dataset, encoding, size - stream.tell())
            return instance
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"cannot be read as DICOM ({type(error).__name__})") from None


def identify(dataset: Any, encoding: str) -> Instance:
    """The UIDs of a data set, checked."""
    sop_class, sop_instance, study, series = uids = [normal_uid(dataset.get(tag, "")) for tag in IDENTITY]
    for tag, uid in zip(IDENTITY, uids, strict=True):
        if not is_uid(uid):
            raise InputError(f"{tag} is {'no valid UID' if uid else 'missing'}")
    makers = dataset.get("ContributingEquipmentSequence") or ()
    names = [str(maker.get(tag, "")) for maker in makers for tag in ("Manufacturer", "ManufacturerModelName")]
    is_own = any(MAKER in name.lower() for name in names)
    return Instance(sop_class, sop_instance, study, series, encoding, is_own)


def _refuse_short(dataset: Any, encoding: str, rest: int) -> None:
    """Pixel data that is not compressed must be there as its header says; for compressed one only decoding tells.

    `rest`: bytes from the beginning of the element that holds it.
    """
    if encoding in COMPRESSED or "Rows" not in dataset:
        return
    rows, columns, frames, samples, bits = (int(dataset.get(tag) or 1) for tag in SIZE)
    needed = (rows * columns * frames * samples * bits + 7) // 8
    if min(rows, columns, frames, samples, bits) < 1 or needed + ELEMENT_HEADER > rest:
        raise InputError(f"its pixel data needs {needed} bytes and {max(rest - ELEMENT_HEADER, 0)} came")


def write_instance(path: Path, instance: Instance, data: Any) -> None:
    """Write a data set that came over the network as a file, and have it on the disk before returning."""
    syntax = UID(instance.encoding)
    meta = create_file_meta(
        sop_class_uid=UID(instance.sop_class), sop_instance_uid=UID(instance.sop_instance), transfer_syntax=syntax
    )
    with open(path, "xb") as file:
        file.write(bytes(PREAMBLE) + MAGIC + encode_file_meta(meta))
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def find_dicom_files(source: str | Path) -> list[Path]:
    """The DICOM files in a folder and those below, or the one file."""
    root = Path(source)
    files = [file for file in (files_below(root) if root.is_dir() else [root]) if is_dicom_file(file)]
    if not files:
        raise InputError(f"{root}: no DICOM files there")
    return files


class SeriesFolders:
    """Instances that are fetched: a folder for each series, named by its checked UID; files are numbered."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._files: dict[str, dict[str, Path]] = {}

    def place(self, instance: Instance) -> Path:
        """The file for an instance; for one that came before, the same, which is removed first."""
        folder, files = self._root / instance.series, self._files.setdefault(instance.series, {})
        folder.mkdir(parents=True, exist_ok=True)
        file = files.setdefault(instance.sop_instance, folder / f"{len(files) + 1:04d}.dcm")
        file.unlink(missing_ok=True)
        return file

    def keep(self, instance: Instance, data: Any, connection: Any = None) -> None:
        """Write an instance that came over the network."""
        write_instance(self.place(instance), instance, data)

    @property
    def folders(self) -> dict[str, Path]:
        """The folder of each series UID that came."""
        return {series: self._root / series for series in self._files}

    @property
    def n_instances(self) -> int:
        """How many different instances came."""
        return sum(map(len, self._files.values()))
