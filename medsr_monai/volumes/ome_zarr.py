"""OME-Zarr folders (NGFF 0.5, Zarr 3), written plane by plane."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from medsr_monai.geometry import N_AXES
from medsr_monai.system.optional import require
from medsr_monai.volumes.volume import VolumeInfo, volume_stem

_CHUNK = (16, 256, 256)  # z, y, x: about 4 MB of float32


class OmeZarrPlanes:
    """An OME-Zarr image that grows plane by plane.

    The array has the axes (t,) z, y, x: z, y, x are the file axes k, j, i of a NIfTI file in the same orientation.
    NGFF's transform holds a scale and a translation but no rotation, so it places the voxels along the array's own
    axes, in mm: `scale` is the spacing, `translation` the first voxel centre, measured along the unit vectors of the
    axes from the origin of the patient's space. The whole affine, (i, j, k) -> RAS mm, stands in the group's attributes
    under `medsr: {"affine_ijk_to_ras_mm": [[...], ...]}`, beside what else there is to say.

    Args:
        folder: an empty folder.
        info: what to say.
        is_approximate: say so under `medsr`.

    Raises:
        InputError: zarr or ome-zarr-models is not installed.
        OSError: the folder cannot be written.
    """

    def __init__(self, folder: Path, info: VolumeInfo, is_approximate: bool) -> None:
        zarr = require("zarr", "zarr")
        model = require("ome_zarr_models.v05", "zarr")
        axis = require("ome_zarr_models.v05.axes", "zarr").Axis
        spec = require("pydantic_zarr.v3", "zarr").ArraySpec
        shape, grid, is_series = info.shape, info.grid, info.n_times is not None
        names = ["t", "z", "y", "x"][0 if is_series else 1 :]
        group = zarr.open_group(str(folder), mode="w", zarr_format=3)
        chunks = [min(n, side) for n, side in zip(shape[:N_AXES][::-1], _CHUNK, strict=True)]
        self._array = group.create_array(
            "0",
            shape=shape[::-1],
            chunks=[1, *chunks] if is_series else chunks,
            dtype=info.dtype,
            dimension_names=names,
        )
        directions = grid.affine[:N_AXES, :N_AXES] / grid.spacing_mm
        first_mm = grid.affine[:N_AXES, N_AXES] @ directions
        scale = [*([info.time_step or 1.0] if is_series else []), *grid.spacing_mm[::-1]]
        translation = [*([0.0] if is_series else []), *(float(mm) for mm in first_mm[::-1])]
        axes = [axis(name=n, type="time") if n == "t" else axis(name=n, type="space", unit="millimeter") for n in names]
        image = model.Image.new(
            array_specs=[spec.from_zarr(self._array)],
            paths=["0"],
            axes=axes,
            scales=[scale],
            translations=[translation],
            name=volume_stem(info.path),
        )
        group.attrs.update(image.attributes.model_dump(exclude_none=True))
        group.attrs["medsr"] = {"affine_ijk_to_ras_mm": grid.affine.tolist(), "approximate": is_approximate}
        self._n_planes = shape[N_AXES - 1]
        self._is_series = is_series
        self._depth = chunks[0]
        self._waiting: list[np.ndarray] = []
        self._done = 0  # planes written, over all volumes of a series

    def write(self, planes: np.ndarray) -> None:
        """Append planes.

        Args:
            planes: (X, Y, n), all of one volume of a series.
        """
        for index in range(planes.shape[-1]):
            self._waiting.append(np.array(planes[..., index].T))
            at = (self._done + len(self._waiting)) % self._n_planes
            # A chunk that is written in two parts would be read and compressed twice.
            if at == 0 or at % self._depth == 0:
                self._flush()

    def _flush(self) -> None:
        time, first = divmod(self._done, self._n_planes)
        planes = slice(first, first + len(self._waiting))
        self._array[(time, planes) if self._is_series else planes] = np.stack(self._waiting)
        self._done += len(self._waiting)
        self._waiting.clear()

    def finish(self) -> None:
        """Nothing is left: the last plane of a volume is written with it."""
