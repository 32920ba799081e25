"""``medsr dicom list``, ``read`` and ``write``: DICOM series and volume files, one into the other."""

from __future__ import annotations

from pathlib import Path

from fire.decorators import SetParseFns

from medsr_monai.system.errors import InputError


@SetParseFns(input=str)
def list_series(input: str) -> None:
    """List the DICOM series in a folder or zip: UID, number, modality, images and their size; nothing of the patient.

    Args:
        input: a folder, a .zip or a file.
    """
    from medsr_monai.volumes.dicom import find_series

    found = find_series(Path(str(input)).expanduser())
    if not found:
        raise InputError(f"{input}: no DICOM series there")
    for series in found:
        number = "-" if series.number is None else series.number
        note = "  localizer" if series.is_localizer else ""
        size = f"{series.n_images:5} images of {series.columns} x {series.rows}"
        print(f"{series.uid}  number {number}  {series.modality:2}  {size}{note}")


@SetParseFns(input=str, output=str, series=str, uneven=str)
def read(
    input: str, output: str, series: str | None = None, uneven: str = "refuse", output_dtype: str = "same"
) -> None:
    """Write a DICOM series as a volume file.

    Args:
        input: a folder, a .zip or one file of the series.
        output: .nii, .nii.gz, .mha or .nrrd.
        series: which, by UID or number.
        uneven: slices that are missing or lie unevenly: ``refuse``, or ``resample`` them.
        output_dtype: see ``medsr upscale``; ``same`` keeps whole numbers where the format can scale them.
    """
    from medsr_monai.volumes import find_volumes, is_dicom_volume, read_volume, write_volume

    found = find_volumes(str(input), series, uneven)
    if len(found) > 1 or not is_dicom_volume(found[0]):
        raise InputError(f"{input}: need one DICOM series; `medsr dicom list` lists them")
    volume = read_volume(found[0])
    write_volume(str(output), volume.data, volume.grid, volume, output_dtype)
    for note in () if volume.series is None else volume.series.notes:
        print(f"note: {note}")


@SetParseFns(input=str, output=str, reference=str, bundle=str, series=str)
def write(
    input: str,
    output: str,
    *,
    reference: str,
    series: str | None = None,
    bundle: str = "brain_mri_super_resolution",
) -> None:
    """Write a volume that a bundle made as a DICOM series, derived from the series of the scan that it was made from.

    Args:
        input: a 3D volume in the place and the intensities of the reference (for CT: HU).
        output: a new or empty folder.
        reference: the scan's series: a folder, a .zip or one file.
        series: which series of the reference, by UID or number.
        bundle: what made the volume; its name and version are written into the series.
    """
    from medsr_monai.bundle.workflows import bundle_identity, bundle_root
    from medsr_monai.volumes import (
        find_volumes,
        is_dicom_volume,
        read_info,
        read_volume,
        write_derived_series,
    )

    found = find_volumes(str(reference), series)
    if len(found) > 1 or not is_dicom_volume(found[0]):
        raise InputError(f"--reference {reference}: need one DICOM series; `medsr dicom list` lists them")
    volume = read_volume(str(input))
    source = read_info(found[0])
    write_derived_series(str(output), volume, source, bundle_identity(bundle_root(str(bundle))))
    print(f"derived series  {output}")
