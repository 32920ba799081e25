"""Stands in for pydicom-seg, which MONAI Label imports for its label maps and which knows pydicom 2 only.

This app serves images and no label maps, so nothing here is ever used; an installed pydicom-seg goes first.
"""
