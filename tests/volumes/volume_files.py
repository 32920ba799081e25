"""What the tests of volumes share: images, grids, and how other libraries read a file."""

from __future__ import annotations

import itertools
from pathlib import Path

import nibabel as nib
import numpy as np
import SimpleITK as sitk
from scipy.spatial.transform import Rotation

from medsr_monai.geometry import Grid, parse_orientation

AXCODES = ["".join(c) for order in itertools.permutations(("LR", "PA", "IS")) for c in itertools.product(*order)]
CORNER_TOLERANCE_MM = 1e-3
SUFFIXES = (".nii", ".nii.gz", ".mha", ".nrrd")


def oblique_grid(axcodes: str, shape: tuple[int, ...], degrees: np.ndarray) -> Grid:
    order = np.zeros((3, 3))
    for axis, (target, flip) in enumerate(parse_orientation(axcodes).astype(int)):
        order[target, axis] = flip
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix() @ order @ np.diag([0.7, 1 / 3, 4.9])
    affine[:3, 3] = (-211.37, 93.011, -512.7)
    return Grid(shape, affine)


def noise(shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(1).normal(size=shape).astype(np.float32)


def grid_by_nibabel(path: Path) -> Grid:
    image = nib.load(path)
    return Grid(image.shape[:3], image.affine)


def grid_by_simpleitk(path: Path) -> Grid:
    image = sitk.ReadImage(str(path))
    n = image.GetDimension()
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (n, n))[:3, :3] * image.GetSpacing()[:3]
    affine[:3, 3] = image.GetOrigin()[:3]
    return Grid(image.GetSize()[:3], np.diag([-1, -1, 1, 1]) @ affine)


def nifti_file(path: Path, data: np.ndarray | None = None, **fields: object) -> Path:
    """Save a NIfTI file with nibabel, and patch raw header fields."""
    image = nib.Nifti1Image(noise((6, 5, 4)) if data is None else data, np.diag([2.0, 2, 3, 1]))
    for name, value in fields.items():
        image.header[name] = value
    # Without an affine of its own, the image leaves the header as it is.
    nib.save(nib.Nifti1Image(image.dataobj, None, image.header), path)
    return path
