"""Find a file's pixel data, check that they are what the header claims, and decode single frames."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import IO

import numpy as np

from medsr_monai.system.errors import InputError
from medsr_monai.volumes.dicom.codestream import codestream_shape
from medsr_monai.volumes.dicom.decoding import Undecodable, decode_frame
from medsr_monai.volumes.dicom.headers import FileHeader, Header, load_pydicom
from medsr_monai.volumes.dicom.members import Member, Opener, Stamp, read_at
from medsr_monai.volumes.dicom.vocabulary import BIG_ENDIAN, EXPLICIT, IMPLICIT, RLE

MAX_FRAME_PIXELS = 1 << 25
"""Rows times columns of a compressed frame: what is claimed has to be allocated before it can be checked."""

MAX_FRAMES = 1 << 17
"""Frames of one file."""

_MAX_FRAGMENTS = 1 << 20
_NATIVE = {IMPLICIT: "<", EXPLICIT: "<", BIG_ENDIAN: ">"}
_PIXEL_DATA = (0x7FE0, 0x0010)
_ITEM, _END = 0xFFFEE000, 0xFFFEE0DD
_UNDEFINED = 0xFFFFFFFF
_FIND_CONVERTER = "convert it first (e.g. with gdcmconv or dcmdjpeg)"

Piece = tuple[int, int]
"""Offset and length in the file, in bytes."""


@dataclass(frozen=True, eq=False)
class Pixels:
    """Where the frames of a file are, and how they are stored."""

    member: Member  # the file
    stamp: Stamp  # of the file when its header was read; see `Opener.open`
    syntax: str  # its transfer syntax
    shape: tuple[int, int]  # rows and columns
    allocated: int  # bits of a stored value in the file, 8, 16 or 32
    stored: int  # bits that count
    high_bit: int  # the highest of them
    is_signed: bool  # two's complement
    photometric: str  # MONOCHROME1 or MONOCHROME2
    frames: tuple[tuple[Piece, ...], ...]  # of each frame the pieces of the file that hold it

    @property
    def stored_range(self) -> tuple[int, int]:
        """Least and largest value that can be stored."""
        return (-(1 << self.stored - 1), (1 << self.stored - 1) - 1) if self.is_signed else (0, (1 << self.stored) - 1)

    def read(self, frame: int, opener: Opener) -> np.ndarray:
        """Decode one frame: (rows, columns), integers.

        Raises:
            InputError: damaged, changed since its header was read, or no decoder.
        """
        with opener.open(self.member, self.stamp) as file:
            pieces = [read_at(file, offset, length) for offset, length in self.frames[frame]]
        if any(len(piece) != length for piece, (_, length) in zip(pieces, self.frames[frame], strict=True)):
            raise InputError(f"{self.member}: became shorter while it was read")
        data = b"".join(pieces)
        if self.syntax not in _NATIVE:
            return self._decoded(data)
        kind = np.dtype(f"{_NATIVE[self.syntax]}u{self.allocated // 8}")
        words = np.frombuffer(data, kind, count=self.shape[0] * self.shape[1]).reshape(self.shape)
        signed = words.astype(f"{'i' if self.is_signed else 'u'}{self.allocated // 8}")  # native order, a copy
        # Without the bits that do not count: old files keep overlays there.
        signed <<= self.allocated - 1 - self.high_bit
        signed >>= self.allocated - self.stored
        return signed

    def _decoded(self, data: bytes) -> np.ndarray:
        claimed = codestream_shape(data)
        if claimed is None and self.syntax != RLE:
            raise InputError(f"{self.member}: damaged, no JPEG or JPEG 2000 image in it; export it again")
        if claimed is not None and claimed != self.shape:
            raise InputError(
                f"{self.member}: its compressed image has {claimed[1]}x{claimed[0]} pixels, its header says "
                f"{self.shape[1]}x{self.shape[0]}; export it again"
            )
        name = load_pydicom().uid.UID(self.syntax).name
        options = {
            "rows": self.shape[0],
            "columns": self.shape[1],
            "bits_allocated": self.allocated,
            "bits_stored": self.stored,
            "pixel_representation": int(self.is_signed),
            "photometric_interpretation": self.photometric,
        }
        try:
            decoded = decode_frame(self.syntax, options, data)
        except Undecodable as error:
            said = {
                "missing": f"no decoder for {name}: pip install 'medsr-monai[dicom]'",
                "unsupported": f"no decoder here reads {name} of {self.stored} bits; {_FIND_CONVERTER}, or pip install "
                "pylibjpeg-libjpeg",
            }.get(error.problem, f"damaged {name} pixel data ({error.kind}); export it again")
            raise InputError(f"{self.member}: {said}") from None
        if decoded.shape != self.shape or decoded.dtype.kind not in "iu":
            raise InputError(f"{self.member}: its compressed image is not what its header says; export it again")
        return decoded


def find_pixels(header: FileHeader, opener: Opener) -> Pixels:
    """Find the pixel data behind a header, and check their extent before anything is allocated.

    Raises:
        InputError: no integer grey values, truncated, with more pixels than the file can hold, or changed since its
            header was read.
    """
    member, syntax = header.member, _checked_syntax(header)
    rows, columns, n_frames = (header.whole(name) or 0 for name in ("Rows", "Columns", "NumberOfFrames"))
    n_frames = n_frames or 1
    allocated = header.whole("BitsAllocated") or 0
    stored = header.whole("BitsStored") or allocated
    high_bit = header.whole("HighBit")
    high_bit = stored - 1 if high_bit is None else high_bit
    _check_format(header, rows, columns, n_frames)
    if allocated not in (8, 16, 32) or not 0 < stored <= allocated or not stored - 1 <= high_bit < allocated:
        raise InputError(f"{member}: {stored} of {allocated} bits up to bit {high_bit} is no known storage of pixels")
    if syntax not in _NATIVE and rows * columns > MAX_FRAME_PIXELS:
        raise InputError(f"{member}: claims {columns}x{rows} compressed pixels, more than {MAX_FRAME_PIXELS}")
    with opener.open(member, header.stamp) as file:
        n_bytes = opener.n_bytes(member)
        start, length = _element_extent(header, file, syntax)
        if syntax in _NATIVE:
            frames = _native_frames(member, (rows, columns, n_frames), allocated // 8, (start, length), n_bytes)
        else:
            frames = _encapsulated_frames(member, file, n_frames, start, n_bytes)
    return Pixels(
        member=member,
        stamp=header.stamp,
        syntax=syntax,
        shape=(rows, columns),
        allocated=allocated,
        stored=stored,
        high_bit=high_bit,
        is_signed=header.whole("PixelRepresentation") == 1,
        photometric=header.text("PhotometricInterpretation"),
        frames=frames,
    )


def _checked_syntax(header: Header) -> str:
    pydicom = load_pydicom()
    syntax = header.meta("TransferSyntaxUID")
    uid = pydicom.uid.UID(syntax)
    if not syntax or not uid.is_transfer_syntax or uid.is_private:
        raise InputError(f"{header.member}: unknown transfer syntax; {_FIND_CONVERTER}")
    if syntax not in _NATIVE and not uid.is_compressed:
        raise InputError(f"{header.member}: transfer syntax {uid.name} is not supported; {_FIND_CONVERTER}")
    return syntax


def _check_format(header: Header, rows: int, columns: int, n_frames: int) -> None:
    member, photometric = header.member, header.text("PhotometricInterpretation")
    if rows < 1 or columns < 1 or not 1 <= n_frames <= MAX_FRAMES:
        raise InputError(f"{member}: claims {columns}x{rows} pixels in {n_frames} frames; a damaged header")
    if photometric not in ("MONOCHROME1", "MONOCHROME2") or (header.whole("SamplesPerPixel") or 1) != 1:
        raise InputError(f"{member}: a colour image, but only grey values can be upscaled; choose another series")
    if header.value("ModalityLUTSequence") is not None:
        raise InputError(f"{member}: a modality lookup table instead of a rescale slope is not supported")


def _element_extent(header: FileHeader, file: IO[bytes], syntax: str) -> Piece:
    """Where the value of the pixel data begins, and its length, undefined where it is encapsulated."""
    member, order = header.member, _NATIVE.get(syntax, "<")
    head = read_at(file, header.end, 12)
    if len(head) < 12:
        raise InputError(f"{member}: no pixel data; truncated, or a header alone: export or copy it again")
    tag = struct.unpack(order + "HH", head[:4])
    if tag != _PIXEL_DATA:
        kind = "float pixel data" if tag in ((0x7FE0, 0x0008), (0x7FE0, 0x0009)) else "no pixel data"
        raise InputError(f"{member}: {kind}; only images of whole numbers can be read")
    if syntax == IMPLICIT:
        if head[4:6] in (b"OW", b"OB"):  # no length: those are even
            raise InputError(f"{member}: its pixel data are not stored as its transfer syntax says; export it again")
        file.seek(-4, 1)
        return file.tell(), struct.unpack(order + "I", head[4:8])[0]
    length = struct.unpack(order + "I", head[8:])[0]
    if head[4:6] not in (b"OW", b"OB") or (syntax not in _NATIVE) != (length == _UNDEFINED):
        raise InputError(f"{member}: its pixel data are not stored as its transfer syntax says; export it again")
    return file.tell(), length


def _native_frames(
    member: Member, shape: tuple[int, int, int], n_bytes_each: int, extent: Piece, n_bytes: int
) -> tuple[tuple[Piece, ...], ...]:
    rows, columns, n_frames = shape
    start, length = extent
    frame = rows * columns * n_bytes_each
    if frame * n_frames > min(length, n_bytes - start):
        raise InputError(
            f"{member}: {columns}x{rows} pixels in {n_frames} frames are {frame * n_frames} bytes, but it holds "
            f"{max(0, min(length, n_bytes - start))}; truncated or damaged, copy it again"
        )
    return tuple(((start + k * frame, frame),) for k in range(n_frames))


def _encapsulated_frames(
    member: Member, file: IO[bytes], n_frames: int, start: int, n_bytes: int
) -> tuple[tuple[Piece, ...], ...]:
    table, fragments = _fragments(member, file, start, n_bytes)
    if n_frames == 1 and fragments:
        return (tuple(fragments),)
    if len(fragments) == n_frames:
        return tuple((fragment,) for fragment in fragments)
    # The table counts from the first fragment's own item header, 8 bytes before its value.
    begins = {begin: k for k, begin in enumerate(accumulate((length + 8 for _, length in fragments), initial=0))}
    if len(table) == n_frames and table[0] == 0 and set(table) <= set(begins) and sorted(set(table)) == table:
        bounds = [*(begins[offset] for offset in table), len(fragments)]
        return tuple(tuple(fragments[a:b]) for a, b in pairwise(bounds))
    raise InputError(
        f"{member}: {len(fragments)} pieces of compressed data for {n_frames} frames, and no table that says which "
        f"belong together; {_FIND_CONVERTER}"
    )


def _fragments(member: Member, file: IO[bytes], start: int, n_bytes: int) -> tuple[list[int], list[Piece]]:
    """The basic offset table, and the extents of the fragments after it."""
    table: list[int] | None = None
    fragments: list[Piece] = []
    place = start
    while True:
        head = read_at(file, place, 8)
        if len(head) < 8:
            raise InputError(f"{member}: its compressed pixel data end early; truncated, copy it again")
        group, element, length = struct.unpack("<HHI", head)
        tag = group << 16 | element
        if tag == _END:
            return table or [], fragments
        if tag != _ITEM or length > n_bytes - place - 8 or len(fragments) >= _MAX_FRAGMENTS:
            raise InputError(f"{member}: its compressed pixel data are damaged or truncated; copy it again")
        if table is None:
            table = list(np.frombuffer(read_at(file, place + 8, length // 4 * 4), "<u4").tolist())
        else:
            fragments.append((place + 8, length))
        place += 8 + length
