"""Stands in for itk, 1.5 GB that MONAI Label imports for writing label maps.

This app writes its images with nibabel and SimpleITK, so nothing here is ever used; an installed itk goes first.
"""

from __future__ import annotations

from typing import NoReturn


def __getattr__(name: str) -> NoReturn:
    raise AttributeError(f"itk.{name}: this server does without itk; install it for label maps")
