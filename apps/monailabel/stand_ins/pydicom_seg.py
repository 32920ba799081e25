"""Stands in for pydicom-seg, which MONAI Label imports for its label maps and which knows pydicom 2 only.

This app serves images and no label maps, so nothing here is ever used; an installed pydicom-seg goes first.
"""

from __future__ import annotations

from typing import NoReturn


def __getattr__(name: str) -> NoReturn:
    raise AttributeError(f"pydicom_seg.{name}: this server returns images; DICOM SEG needs pydicom-seg installed")
