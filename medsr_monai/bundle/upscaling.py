"""A bundle as a function: one image in, one image out."""

from __future__ import annotations

from pathlib import Path
from typing import Any, overload

import torch
from monai.bundle import ConfigParser

from medsr_monai.bundle.configuration import check_configuration
from medsr_monai.bundle.workflows import bundle_root, check_files, check_weights, plain_errors
from medsr_monai.system.errors import InputError
from medsr_monai.upscaling import OutputNames, upscale_volume
from medsr_monai.volumes import Volume, VolumeInfo, find_volumes, read_info, volume_of

__all__ = ["upscale"]

# Settings of the workflow that are arguments here.
ARGUMENTS = ("input", "dataset_dir", "output_dir", "output_file", "output_postfix", "output_suffix")


@overload
def upscale(
    image: Any, output: None = None, *, affine: Any = None, bundle: str = ..., **settings: Any
) -> Volume: ...  # pragma: no cover


@overload
def upscale(
    image: Any, output: str | Path, *, affine: Any = None, bundle: str = ..., **settings: Any
) -> Path: ...  # pragma: no cover


def upscale(
    image: Any,
    output: str | Path | None = None,
    *,
    affine: Any = None,
    bundle: str = "brain_mri_super_resolution",
    **settings: Any,
) -> Volume | Path:
    """Upscale one image, with the numbers of ``medsr upscale``.

    >>> import numpy as np
    >>> import medsr_monai
    >>> scan = np.random.default_rng(0).random((6, 7, 5))
    >>> sr = medsr_monai.upscale(scan, affine=np.diag([1, 1, 2, 1]), device="cpu")
    >>> sr.data.shape
    (12, 14, 10)
    >>> sr.grid.spacing_mm
    (0.5, 0.5, 1.0)

    Args:
        image: a path of a volume or of a DICOM series, or an image in memory: see :func:`volume_of`.
        output: the file to write (.nii, .nii.gz, .mha, .nrrd, .ome.zarr), or the folder of a derived DICOM series; None
            to return the result.
        affine: of an array, (4, 4) to RAS mm.
        bundle: name of the bundle, or its folder.
        settings: of the bundle's inference.json, such as ``consistency``, ``profile``, ``perception``, ``ensemble``,
            ``device`` or ``series``; ``uncertainty`` writes the deviation beside the output, as ``<output>_std``.

    Returns:
        The upscaled volume, or the path that was written.

    Raises:
        InputError: an image, a bundle or a setting that cannot serve.
    """
    for name in ARGUMENTS:
        if name in settings:
            raise InputError(f"{name}: upscale() takes one image and one output; give them as such")
    if settings.get("uncertainty") is True and output is None:
        raise InputError("uncertainty: name an output; the deviation is written beside it")
    root = bundle_root(bundle)
    check_weights(root, settings)
    parser = ConfigParser()
    check_files(root / "configs" / "inference.json")
    parser.read_config(str(root / "configs" / "inference.json"))
    with plain_errors():
        parser.update({"bundle_root": str(root), "progress": False, **settings})
        check_configuration(parser)
        source = _source(image, affine, parser)
        target = None if output is None else Path(output).expanduser()
        deviation = None if target is None else OutputNames(output_file=target).path(source.path, "std")
        with torch.random.fork_rng():  # a network draws its weights before it gets those of the bundle
            parts = [parser.get_parsed_content(name) for name in ("network", "inferer", "upscaling")]
        return upscale_volume(source, parts[0], parts[1], target, deviation, parts[2]).image


def _source(image: Any, affine: Any, parser: ConfigParser) -> VolumeInfo:
    if not isinstance(image, str | Path):
        return volume_of(image, affine)
    if affine is not None:
        raise InputError(f"affine: {image} has its own")
    found = find_volumes(image, parser["series"], parser["uneven"])
    if len(found) > 1:
        raise InputError(f"{image}: {len(found)} volumes; upscale() takes one, `medsr upscale` all of them")
    return read_info(found[0])
