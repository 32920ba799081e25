"""DICOM's own words: classes of images, encodings, UIDs, and how a file begins.

It needs nothing but Python, so that a program which only passes files on loads nothing else.
"""

from __future__ import annotations

import re

MAX_UID = 64
_UID = re.compile(r"[0-9]+(\.[0-9]+)*")

STORAGE = "1.2.840.10008.5.1.4.1.1."
CT, MR, PET = (STORAGE + tail for tail in ("2", "4", "128"))
CLASSIC = {
    CT: CT,
    STORAGE + "2.1": CT,  # enhanced
    STORAGE + "2.2": CT,  # legacy converted
    MR: MR,
    STORAGE + "4.1": MR,
    STORAGE + "4.4": MR,
    PET: PET,
    STORAGE + "130": PET,
    STORAGE + "128.1": PET,
}
"""The images that can be a volume, which cannot do without rows and columns: the classic class of each."""

IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
BIG_ENDIAN = "1.2.840.10008.1.2.2"
DEFLATED = "1.2.840.10008.1.2.1.99"
RLE = "1.2.840.10008.1.2.5"
_JPEG = "1.2.840.10008.1.2.4."
LOSSY = tuple(_JPEG + tail for tail in ("81", "50", "51"))  # JPEG-LS near lossless, JPEG baseline and extended
COMPRESSED = (*(_JPEG + tail for tail in ("70", "57", "80", "90", "91")), RLE, *LOSSY)
"""Encodings of pixels that can be decoded: JPEG lossless, JPEG-LS, JPEG 2000, RLE, and the lossy ones."""

PREAMBLE = 128
MAGIC = b"DICM"
"""Behind the preamble of every file."""

MAKER = "medsr-monai"
"""How derived series name what made them (ContributingEquipmentSequence, Manufacturer)."""


def is_uid(text: str) -> bool:
    """Whether a text can be a UID: digits and dots, at most 64; leading zeros are met in practice."""
    return len(text) <= MAX_UID and _UID.fullmatch(text) is not None
