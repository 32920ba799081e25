"""Stands in for itk, 1.5 GB that MONAI Label imports for writing label maps.

This app writes its images with nibabel and SimpleITK, so nothing here is ever used; an installed itk goes first.
"""
