"""The size that a compressed image claims of itself: a decoder allocates by it, whatever the DICOM header says."""

from __future__ import annotations

import struct

_SOI = b"\xff\xd8"
_J2K = b"\xff\x4f\xff\x51"
_JP2_BOX = b"jP  "
_NO_FRAME = {0xC4, 0xC8, 0xCC}  # tables, not the header of a frame
_JPEG_LS = 0xF7
_ALONE = {0x01, *range(0xD0, 0xD9)}  # markers without a length


def codestream_shape(data: bytes) -> tuple[int, int] | None:
    """Rows and columns that a JPEG, JPEG-LS or JPEG 2000 codestream claims; None where it has no such header."""
    if data.startswith(_SOI):
        return _jpeg_shape(data)
    begin = data.find(_J2K, 0, 1 << 16) if data[4:8] == _JP2_BOX else 0
    if begin >= 0 and data.startswith(_J2K, begin):
        return _jpeg2000_shape(data[begin:])
    return None


def _jpeg_shape(data: bytes) -> tuple[int, int] | None:
    place = 2
    while place + 9 <= len(data) and data[place] == 0xFF:
        marker = data[place + 1]
        if marker == 0xFF:  # fill
            place += 1
        elif marker in _ALONE:
            place += 2
        elif (0xC0 <= marker <= 0xCF and marker not in _NO_FRAME) or marker == _JPEG_LS:
            rows, columns = struct.unpack(">HH", data[place + 5 : place + 9])
            return rows, columns
        else:
            place += 2 + struct.unpack(">H", data[place + 2 : place + 4])[0]
    return None


def _jpeg2000_shape(data: bytes) -> tuple[int, int] | None:
    if len(data) < 24:
        return None
    width, height, left, top = struct.unpack(">IIII", data[8:24])
    return height - top, width - left
