"""Which kinds of DICOM objects are exchanged, and in which encodings."""

from __future__ import annotations

from medsr_monai.volumes.dicom.vocabulary import CLASSIC, COMPRESSED, EXPLICIT, IMPLICIT

# What the listener takes.
VOLUMES = tuple(CLASSIC)
PLAIN = (EXPLICIT, IMPLICIT)
# Deflated data sets are left out: they can unpack to a thousand times their size before any limit applies.
ENCODINGS = (*PLAIN, *COMPRESSED)
# A requestor may propose 128 presentation contexts (their numbers are the odd ones below 256).
MOST_CONTEXTS = 128
