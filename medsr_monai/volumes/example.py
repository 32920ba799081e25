"""A real scan that needs no download."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from medsr_monai.geometry import Grid
from medsr_monai.volumes.slab_writing import write_volume


def write_example(path: str | Path) -> Path:
    """Write the first volume of the EPI series that nibabel carries among its test data (128x96x24, 2.0x2.0x2.2 mm)."""
    import nibabel

    # nibabel.testing knows this folder too, but imports pytest.
    series = nibabel.nifti1.load(Path(nibabel.__file__).parent / "tests" / "data" / "example4d.nii.gz")
    first = series.slicer[..., 0]
    data = np.asarray(first.dataobj, dtype=np.float32)
    write_volume(path, data, Grid(data.shape, np.asarray(first.affine, dtype=np.float64)))
    return Path(path)
