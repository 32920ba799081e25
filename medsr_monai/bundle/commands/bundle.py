"""``medsr bundle create`` and ``build``: a bundle of the user's own, and its configurations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fire.decorators import SetParseFns

from medsr_monai.bundle.commands.arguments import refuse_unknown
from medsr_monai.bundle.creation import create_bundle
from medsr_monai.bundle.generation import OWN, build_bundle, differing
from medsr_monai.bundle.workflows import bundle_folders, bundle_root, find_bundles, training_commands
from medsr_monai.system.errors import InputError


@SetParseFns(name=str, like=str, modality=str, anatomy=str, out=str)
def create(
    name: str,
    like: str = "brain_mri_super_resolution",
    scale: tuple[int, ...] | None = None,
    modality: str | None = None,
    anatomy: str | None = None,
    out: str | None = None,
    *extra: Any,
    **unknown: Any,
) -> None:
    """Make a bundle of your own, like one that there is; it is complete but for its weights, which you train.

    Args:
        name: of the bundle: letters, digits, _ and -.
        like: bundle whose network, acquisition and augmentation it starts with (see ``medsr bundles``), or its folder.
        scale: whole number per axis: ``1,1,4`` makes slices thin; ``2,2`` upscales pictures, or slices one by one.
            Default is that of ``like``.
        modality: DICOM's code: MR, CT, CR, DX, MG, PT, US, or OT for another; default is that of ``like``.
        anatomy: what the images show, such as chest.
        out: folder to write the bundle's folder into; default is the first of MEDSR_BUNDLES, else the current one.
    """
    refuse_unknown(extra, unknown)
    root = create_bundle(str(name), str(like), scale, modality, anatomy, out).resolve()
    known = str(name) if root.parent in {folder.resolve() for folder in bundle_folders()} else str(root)
    print(f"bundle   {root}\nThe next steps, with a folder of high-resolution images:")
    for line in (*training_commands(root), f"medsr upscale scan.nii.gz sr.nii.gz --bundle {known}"):
        print(f"  {line}")


@SetParseFns(name=str)
def build(name: str | None = None, check: bool = False, *extra: Any, **unknown: Any) -> None:
    """Write the ``configs/`` of a bundle from its bundle.json and from what bundles have in common.

    Args:
        name: of the bundle, or its folder; default is every bundle that there is.
        check: write nothing; status 2 and one line where a file differs.
    """
    refuse_unknown(extra, unknown)
    roots = [bundle_root(str(name))] if name is not None else [r for r in find_bundles().values() if _is_built(r)]
    for root in roots:
        if not check:
            written = build_bundle(root)
            print(f"{root.name}  {len(written)} files written in {root / 'configs'}")
        elif wrong := differing(root):
            raise InputError(f"{wrong[0]}: is not what {OWN} gives; run `medsr bundle build {root.name}`")


def _is_built(root: Path) -> bool:
    return (root / OWN).is_file()
