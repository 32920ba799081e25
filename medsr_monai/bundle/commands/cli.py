"""The ``medsr`` command: a thin door to the bundles' own workflows."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fire.decorators import SetParseFns

from medsr_monai.bundle.commands import bundle as own_bundle
from medsr_monai.bundle.commands import dicom as conversion
from medsr_monai.bundle.commands.arguments import (
    absolute,
    check_numbers,
    command_words,
    is_asked_for_help,
    listed,
    listed_numbers,
    listed_overlays,
    parse_command,
    refuse_unknown,
)
from medsr_monai.bundle.workflows import bundle_root, find_bundles, has_weights, run_evaluation, run_inference
from medsr_monai.system.errors import InputError, exit_if_told

if TYPE_CHECKING:
    from medsr_monai.volumes import VolumePath

RESEARCH_USE = "Research use only: not a medical device; detail finer than the input is a guess."
EXAMPLE_NOTE = (
    "The example is an EPI, not the contrast that the bundle was trained for (T1-weighted): it shows how the command\n"
    "works, not how good a result can be."
)


@SetParseFns(input=str, output=str, bundle=str, device=str, series=str, uneven=str)
def upscale(
    input: str,
    output: str,
    bundle: str = "brain_mri_super_resolution",
    consistency: str | float = "exact",
    profile: str = "box",
    perception: float = 0.0,
    device: str | None = None,
    output_dtype: str = "float32",
    stream: str = "auto",
    memory_gb: float | None = None,
    ensemble: int = 1,
    uncertainty: bool = False,
    series: str | None = None,
    uneven: str = "refuse",
    progress: bool = True,
    *extra: Any,
    **unknown: Any,
) -> None:
    """Upscale a volume, a folder of volumes, or what a glob pattern finds.

    Args:
        input: a .nii, .nii.gz, .mha or .nrrd file, 3D or 4D; a folder; a quoted glob pattern; or DICOM: a folder, a
            .zip, or one file of a series.
        output: the file to write (.nii, .nii.gz, .mha, .nrrd, .ome.zarr), or a folder, which is made if missing: a
            DICOM series becomes a derived series there.
        bundle: name of the bundle (see ``medsr bundles``), or its folder.
        consistency: ``exact``: the result, measured again, is the input; a number: Tikhonov damping for noisy inputs;
            ``none``: what the network says.
        profile: how the input was acquired: ``box``, ``gaussian`` or ``kspace``.
        perception: 0 for the weights of the fidelity stage to 1 for those of adversarial training, which look sharper
            and invent texture; what was measured is reproduced at every setting.
        device: ``cpu``, ``cuda``, ``cuda:1``; default is a GPU where there is one.
        output_dtype: ``float32``, ``float64``, ``int16``, ``uint16``, ``int32``, ``uint8``, or ``same`` as the input.
        stream: where the output waits before it is written, with the same result: ``always`` on disk, ``never``,
            that is in memory, or ``auto``: on disk what would take more than a quarter of the free memory.
        memory_gb: GB that the network may use; default is most of what is free.
        ensemble: average over as many mirrorings, and from 9 to 48 exchanges of axes; takes as many times the time.
        uncertainty: write the standard deviation over the ensemble too, as ``<output>_std``.
        series: which DICOM series, by UID or number, or ``all``; see ``medsr dicom list``.
        uneven: DICOM slices that are missing or lie unevenly: ``refuse``, or ``resample`` them.
        progress: show a progress bar.
    """
    refuse_unknown(extra, unknown)
    from medsr_monai.volumes import find_volumes

    files = find_volumes(str(input), series, uneven)
    overrides = output_overrides(files, str(output))
    if device is not None:
        overrides["device"] = str(device)
    run_inference(
        bundle_root(str(bundle)),
        input=files,
        consistency=consistency if consistency is not None else "none",
        profile=profile,
        perception=perception,
        output_dtype=output_dtype,
        stream=stream,
        memory_gb=memory_gb,
        ensemble=ensemble,
        uncertainty=uncertainty,
        progress=progress,
        **overrides,
    )


def output_overrides(files: Sequence[VolumePath], output: str) -> dict[str, str]:
    """The bundle's keys that name one output file, the folder for many, or that of a derived DICOM series."""
    from medsr_monai.volumes import DICOM_SUFFIX, STREAMABLE_SUFFIXES, is_dicom_volume

    target = absolute(output)
    if is_dicom_volume(files[0]) and not target.name.lower().endswith(STREAMABLE_SUFFIXES):
        place = {"output_dir": str(target)}
        if len(files) == 1:
            place = {"output_dir": str(target.parent), "output_file": str(target)}
        return {**place, "output_suffix": DICOM_SUFFIX}
    is_zarr = target.name.lower().endswith(".ome.zarr")  # a folder to the system, a file to the user
    if (target.is_dir() and not is_zarr) or output.endswith(os.sep) or not target.suffix:
        return {"output_dir": str(target)}
    if len(files) > 1:
        raise InputError(f"{output}: {len(files)} inputs need a folder to write to")
    if not target.name.lower().endswith(STREAMABLE_SUFFIXES):
        raise InputError(f"{output}: unknown suffix; supported are {', '.join(STREAMABLE_SUFFIXES)}, or a folder")
    return {"output_dir": str(target.parent), "output_file": str(target)}


@SetParseFns(hr=str, lr=str)
def degrade(
    hr: str,
    lr: str,
    scale: float | tuple[float, float, float] = 2,
    profile: str = "box",
    noise: float = 0.0,
    fwhm_mm: float | None = None,
    gap_mm: float = 0.0,
    seed: int = 0,
    output_dtype: str = "float32",
    *extra: Any,
    **unknown: Any,
) -> None:
    """Make a low-resolution volume from a high-resolution one by a simulated acquisition.

    Args:
        hr: volume to measure.
        lr: file to write.
        scale: factor, or one per axis as ``1,1,4``; need not be an integer.
        profile: ``box``, ``gaussian`` or ``kspace``.
        noise: standard deviation of Rician noise as a share of the robust intensity range.
        fwhm_mm: width of the slice profile; default is the low-resolution spacing less the gap.
        gap_mm: gap between slices.
        seed: of the noise.
        output_dtype: type of the voxels written.
    """
    refuse_unknown(extra, unknown)
    check_numbers(noise=noise, fwhm_mm=fwhm_mm, gap_mm=gap_mm, seed=seed)
    if not isinstance(seed, int) or seed < 0:
        raise InputError(f"--seed {seed}: must be a whole number, 0 or more")
    import numpy as np

    from medsr_monai.geometry import Grid
    from medsr_monai.transforms import Acquired
    from medsr_monai.volumes import LoadVolumed, read_info, refuse_overwriting, write_volume

    refuse_overwriting(hr, lr)
    acquired = Acquired("hr", scale=scale, profile=profile, noise=noise, seed=seed, fwhm_mm=fwhm_mm, gap_mm=gap_mm)
    measured = acquired(LoadVolumed("hr")({"hr": str(hr)}))["lr"]
    voxels = np.moveaxis(measured.numpy(), 0, -1)
    grid = Grid(voxels.shape[:-1], measured.affine.numpy())
    write_volume(lr, voxels[..., 0] if voxels.shape[-1] == 1 else voxels, grid, read_info(hr), output_dtype)


@SetParseFns(
    hr=str, out=str, bundle=str, methods=str, degradation=str, noise=str, mask=str, baseline=str, config=str, device=str
)
def evaluate(
    hr: str,
    out: str,
    bundle: str = "brain_mri_super_resolution",
    methods: str = "nearest,linear,cubic,lanczos,sr",
    degradation: str = "box",
    noise: str = "0",
    mask: str | None = None,
    baseline: str | None = None,
    profile: str | None = None,
    subjects: dict[str, str | None] | None = None,
    config: str | None = None,
    workers: int | None = None,
    pictures: int = 10,
    seed: int = 0,
    resume: bool = True,
    device: str | None = None,
    progress: bool = True,
    *extra: Any,
    **unknown: Any,
) -> None:
    """Compare methods on images whose detail is hidden by simulated acquisitions; write tables and pictures.

    Args:
        hr: a folder of high-resolution volumes, a file, or a quoted glob pattern.
        out: the folder to write; a run that was interrupted there goes on.
        bundle: name of the bundle (see ``medsr bundles``), or its folder.
        methods: NAME[@DIAL][+exact|+none],...: nearest, linear, cubic, lanczos, wavelet, back_projection, sr (the
            bundle; sr@0.5 with its dial), or a learned baseline of ``config``; +exact projects onto the measurement.
        degradation: simulated acquisitions, ``box,gaussian,kspace``; each is combined with every noise.
        noise: standard deviations of Rician noise as shares of the intensity range, ``0,0.02``.
        mask: folder of masks with the names of the images; default is the foreground.
        baseline: method that gains are taken to; default is cubic.
        profile: acquisition that projections assume; default is the simulated one (unknown for real scans).
        subjects: subject by file name where it does not tell, as {'a.nii.gz': 'S1'}; None leaves a file out.
        config: more configurations to lay over the bundle's, separated by commas: files, or names of the package's own
            overlays, such as ``evaluate_baselines`` or ``evaluate_perceptual``.
        workers: processes; default is one a core.
        pictures: cases to keep pictures of for the report.
        seed: of noise and bootstrap.
        resume: use results that are there; False computes everything again.
        device: ``cpu``, ``cuda``; default is a GPU where there is one.
        progress: show a progress bar.
    """
    refuse_unknown(extra, unknown)
    from medsr_monai.training.data import group_by_subject
    from medsr_monai.volumes import find_volumes

    files = [absolute(str(file)) for file in find_volumes(str(hr))]
    groups = group_by_subject(files, subjects)
    overrides = {} if device is None else {"device": str(device)}
    run_evaluation(
        bundle_root(str(bundle)),
        listed_overlays(config),
        cases=sorted(file for group in groups.values() for file in group),
        output_dir=str(absolute(str(out))),
        methods=listed(str(methods)),
        degradations=listed(str(degradation)),
        noises=listed_numbers("noise", noise),
        masks=None if mask is None else str(absolute(str(mask))),
        baseline=baseline,
        assumed_profile=profile,
        subjects=subjects,
        workers=workers,
        pictures=pictures,
        seed=seed,
        resume=resume,
        progress=progress,
        **overrides,
    )


def bundles() -> None:
    """List the bundles found, with version and what each is for."""
    for name, root in sorted(find_bundles().items()):
        try:
            metadata = json.loads((root / "configs" / "metadata.json").read_text())
            state = "" if has_weights(root) else "  (not trained yet: no weights)"
            said = f"{metadata['version']}  {metadata['task']}{state}"
        except (OSError, ValueError, KeyError, TypeError):
            said = "(damaged metadata.json)"
        print(f"{name}  {said}\n    {root}")


@SetParseFns(input=str, output_dir=str)
def demo(output_dir: str = "results/demo", input: str | None = None, *extra: Any, **unknown: Any) -> None:
    """Upscale a real scan and picture it: the given one, or the first volume of nibabel's example EPI.

    Args:
        output_dir: where ``input.nii.gz`` (the example), ``sr.nii.gz`` and ``comparison.png`` are written.
        input: a volume of your own.
    """
    refuse_unknown(extra, unknown)
    from medsr_monai.evaluation.report import save_comparison
    from medsr_monai.volumes import write_example

    folder = Path(output_dir)
    source = Path(str(input)) if input is not None else write_example(folder / "input.nii.gz")
    upscale(str(source), str(folder / "sr.nii.gz"))
    save_comparison(folder / "comparison.png", source, folder / "sr.nii.gz")
    print(f"input       {source}\nSR volume   {folder / 'sr.nii.gz'}\npicture     {folder / 'comparison.png'}")
    if input is None:
        print(EXAMPLE_NOTE)
    print(RESEARCH_USE)


@SetParseFns(input=str, output=str)
def fit_niqe(input: str, output: str, patch: int = 48, slices: int = 32, *extra: Any, **unknown: Any) -> None:
    """Fit a NIQE model on your own pristine images, of the kind that it shall judge.

    Args:
        input: a folder of volumes, a quoted glob pattern, or a file.
        output: the .npz file to write.
        patch: side of the patches in voxels, even.
        slices: evenly spaced slices along each axis, at most.
    """
    refuse_unknown(extra, unknown)
    check_numbers(patch=patch, slices=slices)
    import torch

    from medsr_monai.metrics import NIQEModel
    from medsr_monai.volumes import find_volumes, read_volume

    files = find_volumes(str(input))
    volumes = (torch.from_numpy(read_volume(file).data)[None, None] for file in files)
    model = NIQEModel.fit(volumes, patch, slices)
    model.save(str(output))
    print(f"NIQE model of {model.n_patches} patches from {len(files)} file(s)  {output}")


@SetParseFns(run=str, out=str)
def report(run: str, out: str | None = None, *extra: Any, **unknown: Any) -> None:
    """Write one HTML file of an evaluation: tables, charts, pictures and a slider; it needs no network.

    Args:
        run: the folder that ``medsr evaluate --out`` wrote.
        out: the file to write, by default report.html in that folder.
    """
    refuse_unknown(extra, unknown)
    from medsr_monai.evaluation.report import write_report

    path = write_report(str(run), out)
    print(f"report  {path}  {path.stat().st_size / 1e6:.1f} MB")
    print(RESEARCH_USE)


COMMANDS: dict[str, Any] = {
    "upscale": upscale,
    "degrade": degrade,
    "evaluate": evaluate,
    "fit-niqe": fit_niqe,
    "report": report,
    "dicom": {"list": conversion.list_series, "read": conversion.read, "write": conversion.write},
    "bundle": {"create": own_bundle.create, "build": own_bundle.build},
    "bundles": bundles,
    "demo": demo,
}


def all_commands() -> dict[str, Any]:
    """The core's commands, and those of the programs beside it, which it finds by their entry points."""
    return COMMANDS | {program.name: program.load() for program in entry_points(group="medsr.commands")}


def main() -> None:
    """Entry point: bad input is one line on standard error and status 2."""
    commands = all_commands()
    if is_asked_for_help() and command_words(commands):
        sys.argv[1 + len(command_words(commands)) :] = ["--", "--help"]
    try:
        command = parse_command(commands)
        if command is not None:
            command()
    except (Exception, KeyboardInterrupt) as error:
        exit_if_told(error)
        raise


if __name__ == "__main__":
    main()
