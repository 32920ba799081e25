"""PSNR gain of the slice upsampler over half-voxel-aligned cubic B-spline, in the foreground of held-out subjects.

    python validate_slices.py mri checkpoints/mri/ema.pt [--factors 2,2.5,4,6] [--cases S2_T1w,...] [--size 112]

Both directions across the thick axis, averaged, projected onto the measurement. Noise: share of P99.5 (MRI) or of
1600 HU (CT; correlated within the slice). `plane` is the direction of the finer other axis alone, projected.
"""

from __future__ import annotations

import argparse
import math
import time

import numpy as np
import torch
from scipy import ndimage
from slice_upsampler import SliceUpsampler
from train_slices import (
    CT_LOW,
    CT_RANGE,
    CT_TOP,
    DATA,
    S10_TRAINING,
    crop_kspace,
    foreground,
    mri_scaled,
    read,
    slice_matrix,
)

from medsr_monai.acquisition import apply_matrix
from medsr_monai.geometry.resampling import interpolate

# name: (thick axis, finer other axis)
MRI = {
    "S2_T1w": (2, 1),
    "S2_T1w_x": (0, 1),
    "ds000011_11": (1, 0),
    "ds000011_12": (2, 1),
    "ds002748_61": (0, 1),
    "ms04_T2W": (1, 0),
    "ms04_FLAIR": (1, 0),
    "S2_T2w": (1, 0),
}
CT = {"S7_z": (2, 0), "S7_x": (0, 1), "S10_held_x": (0, 1), "S10_held_y": (1, 0)}


def load(name: str) -> tuple[np.ndarray, np.ndarray]:
    """The volume, about 0 to 1, and which of its voxels count."""
    if name.startswith("S2_T1w"):
        v = mri_scaled(read(DATA / "mri/adult_3t_T1w.nii.gz"))
    elif name == "S2_T2w":  # axis 0 is filled with zeros from about 0.6 of Nyquist
        v = mri_scaled(crop_kspace(read(DATA / "mri/adult_3t_T2w_axial.nii.gz"), 0, 0.6))
    elif name.startswith("ds000011"):
        v = mri_scaled(read(DATA / f"mri_3d/ds000011/sub-{name[-2:]}_T1w.nii.gz"))
        zero = ndimage.binary_dilation(ndimage.binary_opening(v == 0, iterations=2), iterations=4)
        return v, foreground(v) & ~zero
    elif name.startswith("ds002748"):
        v = mri_scaled(read(DATA / f"mri_slices/ds002748/sub-{name[-2:]}_T1w.nii.gz"))
        return v, ndimage.binary_erosion(v > 0, iterations=3)
    elif name.startswith("ms04"):
        v = mri_scaled(crop_kspace(read(DATA / f"mri_thick/open_ms/patient04_study1_{name[5:]}.nii.gz"), 0, 0.66))
    elif name.startswith("S7"):
        hu = read(DATA / "ct/aorta_1p5mm.nii.gz")
        return (hu - CT_LOW) / CT_RANGE, hu > -900
    elif name.startswith("S10"):
        hu = read(DATA / "ct/rider_1p25mm.nii.gz")[:, :, S10_TRAINING + 2 :]
        return (hu - CT_LOW) / CT_RANGE, hu > -900
    return v, foreground(v)


def crop(volume: np.ndarray, mask: np.ndarray, axis: int, factor: float, size: int):
    """A central part, as long along the thick axis as the factor divides."""
    centre = [round(c) for c in ndimage.center_of_mass(mask)]
    part = []
    for a, n in enumerate(volume.shape):
        m = min(size, n)
        if a == axis:
            slices = int(m / factor)
            while abs(slices * factor - round(slices * factor)) > 1e-6:
                slices -= 1
            m = round(slices * factor)
        start = min(max(0, centre[a] - m // 2), n - m)
        part.append(slice(start, start + m))
    return volume[tuple(part)], mask[tuple(part)]


@torch.inference_mode()
def directions(net: SliceUpsampler, lr: torch.Tensor, axis: int, n_hr: int, width: float, low: bool = False) -> dict:
    """The network's output along each other axis, (D, H, W)."""
    result = {}
    for other in (a for a in range(3) if a != axis):
        third = 3 - axis - other
        planes = lr.permute(third, other, axis)[:, None]
        made = []
        for part in planes.split(8):
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=low):
                made.append(net(part.contiguous(), n_hr, width).float())
        back = np.argsort([third, other, axis])
        result[other] = torch.cat(made)[:, 0].permute(*map(int, back))
    return result


def psnr(sr: torch.Tensor, hr: torch.Tensor, mask: torch.Tensor) -> float:
    return float(-10 * torch.log10((sr - hr)[mask].double().square().mean()))


def measure(net, name, axis, fine, factor, width, noise, size, low=False, kind="mri") -> dict:
    hr, mask = crop(*load(name), axis, factor, size)
    n_hr = hr.shape[axis]
    n_lr = round(n_hr / factor)
    matrix = torch.from_numpy(slice_matrix(n_hr, n_lr, "box", width))
    inverse = torch.linalg.pinv(matrix).float()
    matrix = matrix.float()
    hr, mask = torch.from_numpy(np.ascontiguousarray(hr)), torch.from_numpy(np.ascontiguousarray(mask))

    def along(m, image):
        return apply_matrix(m, image[None, None], axis)[0, 0]

    lr = along(matrix, hr)
    if noise:
        extra = np.random.default_rng(5).normal(size=tuple(lr.shape))
        if kind == "ct":
            extra = ndimage.gaussian_filter(extra, [0 if a == axis else 0.7 for a in range(3)])
        lr = lr + torch.from_numpy((noise * extra / extra.std()).astype(np.float32))

    def project(image):
        return image + along(inverse, lr - along(matrix, image))

    if kind == "mri":
        scale = float(np.percentile(lr[lr != 0].numpy(), 99.5))
        seen = lr / scale
    else:
        scale, seen = 1.0, lr.clamp(0, (CT_TOP - CT_LOW) / CT_RANGE)
    began = time.time()
    made = {a: image * scale for a, image in directions(net, seen, axis, n_hr, width, low).items()}
    seconds = time.time() - began
    cubic = interpolate(lr[None, None], hr.shape)[0, 0]
    sr = project(sum(made.values()) / 2)
    base = psnr(cubic, hr, mask)
    result = {
        "cubic": base,
        "cubic_projected": psnr(project(cubic), hr, mask) - base,
        "gain": psnr(sr, hr, mask) - base,
        "plane": psnr(project(made[fine]), hr, mask) - base,
        "residual": float((along(matrix, sr) - lr).abs().max()),
        "seconds": seconds,
    }
    if kind == "ct":
        result["hu"] = float((sr - hr)[mask].mean()) * CT_RANGE
        result["hu_cubic"] = float((cubic - hr)[mask].mean()) * CT_RANGE
    return result


def quick(net: SliceUpsampler, kind: str) -> str:
    """A few small crops at factor 4, in low precision, for the log of a training."""
    net = net.eval().to(memory_format=torch.channels_last)
    words = []
    if kind == "mri":
        cases = [(n, 4, 1, 0) for n in ("S2_T1w", "ds000011_11", "ds002748_61", "ms04_FLAIR")] + [
            ("S2_T1w", 4, 1, 0.01)
        ]
    else:
        cases = [("S7_z", 4, 1, 0), ("S7_z", 2, 1, 0), ("S10_held_x", 4, 1, 0), ("S10_held_x", 2, 1, 0)]
    for name, factor, width, noise in cases:
        axis, fine = (MRI if kind == "mri" else CT)[name]
        r = measure(net, name, axis, fine, factor, width, noise, 80, low=True, kind=kind)
        words.append(f"{name}/{factor}{'n' if noise else ''} {r['gain']:+.2f} ({r['plane']:+.2f})")
    return "; ".join(words)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=["mri", "ct"])
    parser.add_argument("weights")
    parser.add_argument("--factors", default="2,2.5,4,6")
    parser.add_argument("--widths", default="1,0.8")
    parser.add_argument("--noises", default="0,0.01")
    parser.add_argument("--cases", default="")
    parser.add_argument("--size", type=int, default=112)
    parser.add_argument("--low", action="store_true", help="bfloat16")
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(2)
    net = SliceUpsampler()
    state = torch.load(args.weights, weights_only=True)
    net.load_state_dict(state)
    net = net.eval().to(memory_format=torch.channels_last)
    if args.quick:
        print(quick(net, args.kind))
        return
    table = MRI if args.kind == "mri" else CT
    names = args.cases.split(",") if args.cases else list(table)
    print(
        "case\tfactor\twidth\tnoise\tcubic_dB\tcubic_projected\tgain\tplane_only\tmax_residual\tmean_HU_shift\tof_cubic\tseconds"
    )
    for name in names:
        axis, fine = table[name]
        for factor in map(float, args.factors.split(",")):
            for width in map(float, args.widths.split(",")):
                for noise in map(float, args.noises.split(",")):
                    r = measure(net, name, axis, fine, factor, width, noise, args.size, args.low, args.kind)
                    print(
                        f"{name}\t{factor:g}\t{width:g}\t{noise:g}\t{r['cubic']:.2f}\t{r['cubic_projected']:+.2f}\t"
                        f"{r['gain']:+.2f}\t{r['plane']:+.2f}\t{r['residual']:.1e}\t"
                        f"{r.get('hu', math.nan):+.2f}\t{r.get('hu_cubic', math.nan):+.2f}\t"
                        f"{r['seconds']:.1f}",
                        flush=True,
                    )


if __name__ == "__main__":
    main()
