"""Where the files of a DICOM series lie: in folders, or in a zip that is read member by member and never unpacked."""

from __future__ import annotations

import os
import stat
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from medsr_monai.system.atomic import TEMPORARY
from medsr_monai.system.errors import InputError
from medsr_monai.volumes.dicom.vocabulary import MAGIC, PREAMBLE

# A zip that claims more than this, in all or in number, is none that an archive or a scanner exports.
MAX_ZIP_BYTES = 1 << 36
MAX_ZIP_MEMBERS = 1 << 18
# Empty slices shrink a thousandfold; only where much is claimed does that say anything about the whole archive.
_SUSPICIOUS_BYTES = 1 << 28
_MAX_RATIO = 200


Stamp = tuple[int, int]
"""Size and time of change of a file, of a member that of its zip: it tells whether the file is still the same."""


@dataclass(frozen=True, order=True)
class Member:
    """A file on disk; or, with a name within it, a member of a zip."""

    path: Path
    inner: str = ""

    def __str__(self) -> str:
        return f"{self.path}: {self.inner}" if self.inner else str(self.path)


class Opener(ExitStack):
    """Opens members; a zip's directory is read, and checked, once. It closes them as a context manager."""

    def __init__(self) -> None:
        super().__init__()
        self._zips: dict[Path, zipfile.ZipFile] = {}

    def archive(self, path: Path) -> zipfile.ZipFile:
        """The zip's directory.

        Raises:
            InputError: no zip, or one that no honest program writes.
        """
        if path not in self._zips:
            try:
                opened = self.enter_context(zipfile.ZipFile(path))
            except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError) as error:
                raise InputError(f"{path}: damaged zip ({type(error).__name__}); copy or download it again") from error
            _check_archive(path, opened.infolist())
            self._zips[path] = opened
        return self._zips[path]

    @contextmanager
    def open(self, member: Member, stamp: Stamp | None = None) -> Iterator[IO[bytes]]:
        """Open a member to read; within, what the disk or a damaged zip raises becomes an input error.

        Raises:
            InputError: it cannot be opened or read, or has another stamp than that given.
        """
        try:
            with self.archive(member.path).open(member.inner) if member.inner else member.path.open("rb") as file:
                if stamp is not None and self.stamp(member, file) != stamp:
                    raise InputError(f"{member}: was changed while it was read; try again")
                yield file
        # The last two: the zip was replaced, or packs by a method that Python lacks.
        except (OSError, EOFError, zipfile.BadZipFile, zlib.error, KeyError, RuntimeError) as error:
            reason = getattr(error, "strerror", None) or type(error).__name__
            raise InputError(f"{member}: cannot be read ({reason}); check it and its permissions") from error

    def stamp(self, member: Member, file: IO[bytes]) -> Stamp:
        """The stamp of a member that was just opened as `file`."""
        container = self.archive(member.path).fp if member.inner else file
        assert container is not None
        status = os.fstat(container.fileno())
        return status.st_size, status.st_mtime_ns

    def n_bytes(self, member: Member) -> int:
        """Size of a member, unpacked."""
        if member.inner:
            return self.archive(member.path).getinfo(member.inner).file_size
        return member.path.stat().st_size


def _check_archive(path: Path, infos: Sequence[zipfile.ZipInfo]) -> None:
    if len(infos) > MAX_ZIP_MEMBERS:
        raise InputError(f"{path}: {len(infos)} members, more than {MAX_ZIP_MEMBERS}; zip one study at a time")
    total = sum(info.file_size for info in infos)
    if total > MAX_ZIP_BYTES or (total > _SUSPICIOUS_BYTES and total > _MAX_RATIO * path.stat().st_size):
        raise InputError(f"{path}: claims {total} unpacked bytes, a zip bomb or damaged; give the files in a folder")
    for info in infos:
        name = info.orig_filename.replace("\\", "/")
        parts = PurePosixPath(name).parts
        if name.startswith("/") or ".." in parts or "\0" in name or (parts and parts[0].endswith(":")):
            raise InputError(f"{path}: a member's name leads out of the archive; zip the files again without ../ or /")
        if stat.S_ISLNK(info.external_attr >> 16):
            raise InputError(f"{path}: holds a symbolic link; zip the files themselves")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # Python unpacks others unbounded
            raise InputError(f"{path}: packed by an unusual method; zip the files again with deflate")
        if info.flag_bits & 1:
            raise InputError(f"{path}: encrypted; give it without a password")


def is_zip(path: Path) -> bool:
    """Whether a file begins as a zip does."""
    return path.is_file() and _begins(path, b"PK\x03\x04", 0)


def is_dicom_file(path: Path) -> bool:
    """Whether a file on disk begins as DICOM files do; False where it cannot be read."""
    return path.is_file() and _begins(path, MAGIC, PREAMBLE)


def _begins(path: Path, magic: bytes, offset: int) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(offset + len(magic))[offset:] == magic
    except OSError:
        return False


def files_below(folder: Path) -> Iterator[Path]:
    """The regular files of a folder, in the order of their names; links to folders are not followed.

    What a killed process left of a series that it was writing is passed over.
    """
    for here, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith(TEMPORARY))
        for name in sorted(names):
            path = Path(here, name)
            if path.is_file():  # a pipe or a socket would wait for ever
                yield path


def members_of(source: str | Path | Sequence[str | Path], opener: Opener) -> Iterator[tuple[Member, IO[bytes]]]:
    """Each DICOM file of a source, opened at its beginning; other files are passed over.

    Raises:
        InputError: nothing of that name, or a zip that is refused.
    """
    for member in _candidates(source, opener):
        with opener.open(member) as file:
            if file.read(PREAMBLE + len(MAGIC))[PREAMBLE:] == MAGIC:
                file.seek(0)
                yield member, file


def _candidates(source: str | Path | Sequence[str | Path], opener: Opener) -> Iterator[Member]:
    if not isinstance(source, str | Path):
        for path in sorted({Path(one) for one in source}):
            if not path.is_file():
                raise InputError(f"{path}: no such file")
            yield Member(path)
        return
    path = Path(source)
    if path.is_dir():
        yield from (Member(file) for file in files_below(path))
    elif is_dicom_file(path):
        yield Member(path)
    elif path.is_file() and (is_zip(path) or path.suffix.lower() == ".zip"):
        yield from (Member(path, info.filename) for info in opener.archive(path).infolist() if not info.is_dir())
    else:
        problem = "neither DICOM nor a zip" if path.exists() else "no such file or folder"
        raise InputError(f"{path}: {problem}; give a folder, a zip or a DICOM file")


def read_at(file: IO[bytes], offset: int, n_bytes: int) -> bytes:
    """Read a piece of a file; fewer bytes where it ends before."""
    file.seek(offset)
    return file.read(n_bytes)
