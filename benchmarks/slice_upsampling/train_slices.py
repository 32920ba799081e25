"""Train the slice upsampler on this machine: resumable, branching, stoppable at any time.

    python train_slices.py mri --minutes 60                      # stable phase; the same command continues
    python train_slices.py mri --minutes 30 --decay 6000         # decay from the stable state; continues likewise
    python train_slices.py ct --start checkpoints/mri/stable.pt --minutes 30

checkpoints/KIND/ holds stable.pt and decay.pt (states to go on from), ema_stable.pt and ema.pt (weights), log.tsv.
"""

from __future__ import annotations

import argparse
import glob
import math
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from scipy import ndimage
from scipy.special import erf
from slice_upsampler import SliceUpsampler

from medsr_monai.acquisition import FWHM_TO_SIGMA, apply_matrix
from medsr_monai.metrics.foreground import foreground_mask, foreground_percentile
from medsr_monai.training.schedules import warmup_stable_decay

LAB = Path(__file__).resolve().parent
DATA = Path(os.environ["MEDSR_DATA"])
CACHE = LAB / "cache"
CT_LOW, CT_RANGE, CT_TOP = -1024.0, 1600.0, 2000.0
S10_TRAINING = 62  # slices of S10; the rest is held out


# ---------------------------------------------------------------------------------------------------------- data


def read(path: str | Path) -> np.ndarray:
    return np.asarray(nib.load(str(path)).dataobj, dtype=np.float32)


def crop_kspace(volume: np.ndarray, axis: int, share: float) -> np.ndarray:
    """Fewer voxels along an axis: only the lowest frequencies, as many as were measured."""
    n = volume.shape[axis]
    m = round(n * share / 2) * 2
    spectrum = np.fft.fftshift(np.fft.fft(volume, axis=axis), axes=axis)
    first = n // 2 - m // 2
    spectrum = np.take(spectrum, range(first, first + m), axis=axis)
    return (np.fft.ifft(np.fft.ifftshift(spectrum, axes=axis), axis=axis).real * m / n).astype(np.float32)


def ct_scaled(hu: np.ndarray) -> np.ndarray:
    return ((np.clip(hu, CT_LOW, CT_TOP) - CT_LOW) / CT_RANGE).astype(np.float32)


def mri_scaled(volume: np.ndarray) -> np.ndarray:
    return volume / float(foreground_percentile(torch.from_numpy(volume)[None, None])[0])


def foreground(volume: np.ndarray) -> np.ndarray:
    return foreground_mask(torch.from_numpy(volume)[None, None])[0, 0].numpy()


def boxed(volume: np.ndarray, weight: np.ndarray, margin: int = 8) -> tuple[np.ndarray, np.ndarray]:
    box = ndimage.find_objects((weight == 2).astype(np.uint8))[0]
    box = tuple(slice(max(0, s.start - margin), s.stop + margin) for s in box)
    return volume[box], weight[box]


def mri_sources():
    """(name, volume, weight code 0/1/2, share of draws, [(up, other, share)])."""
    every = [(u, o, 1.0) for u in range(3) for o in range(3) if u != o]
    v = mri_scaled(read(DATA / "mri/child_3t_T1w.nii.gz"))
    yield "S1", v, np.where(foreground(v), 2, 1), 0.14, every
    v = mri_scaled(read(DATA / "mri/schwannoma_1p5t_T1w_gd.nii.gz"))
    yield (
        "S3",
        v,
        np.where(foreground(v), 2, 1),
        0.14,
        [(0, 1, 3), (1, 0, 3), (0, 2, 1), (1, 2, 1), (2, 0, 1), (2, 1, 1)],
    )
    v = mri_scaled(read(DATA / "mri/tumour_stripped_T1w_gd.nii.gz"))
    inside = ndimage.binary_erosion(ndimage.binary_fill_holes(v > 0.02), iterations=2)
    yield "S5", v, np.where(inside, 2, 0), 0.06, every
    for i in range(1, 11):
        v = mri_scaled(read(DATA / f"mri_3d/ds000011/sub-{i:02d}_T1w.nii.gz"))
        zero = ndimage.binary_dilation(ndimage.binary_opening(v == 0, iterations=2), iterations=4)
        yield f"ds000011_{i:02d}", v, np.where(zero, 0, np.where(foreground(v), 2, 1)), 0.024, every
    for i in range(1, 36):
        v = mri_scaled(read(DATA / f"mri_slices/ds002748/sub-{i:02d}_T1w.nii.gz"))
        inside = ndimage.binary_erosion(v > 0, iterations=3)
        pairs = [(0, 1, 4), (1, 0, 4), (0, 2, 1), (1, 2, 1)]
        yield f"ds002748_{i:02d}", v, np.where(inside, 2, 0), 0.22 / 35, pairs
    files = [f for f in sorted(glob.glob(str(DATA / "mri_thick/open_ms/*.nii.gz"))) if "patient04" not in f]
    for f in files:
        v = mri_scaled(crop_kspace(read(f), 0, 0.66))
        pairs = [(1, 0, 3), (0, 1, 2), (1, 2, 1), (0, 2, 0.5)]
        yield Path(f).name.split(".")[0], v, np.where(foreground(v), 2, 1), 0.20 / len(files), pairs
    files = sorted(glob.glob(str(DATA / "mri_3d/hippocampus/*.nii.gz")))
    for f in files:
        v = mri_scaled(read(f))
        yield Path(f).name.split(".")[0], v, np.full(v.shape, 2), 0.06 / len(files), every


def ct_sources():
    from PIL import Image

    every = [(u, o, 1.0) for u in range(3) for o in range(3) if u != o]
    for name in ("upper", "lower"):
        hu = read(DATA / f"ct/chest_{name}_1mm.nii.gz")
        yield f"S6_{name}", ct_scaled(hu), np.where(hu > -950, 2, 1), 0.2, every
    hu = read(DATA / "ct/rider_1p25mm.nii.gz")[:, :, :S10_TRAINING]
    yield "S10", ct_scaled(hu), np.where(hu > -950, 2, 1), 0.2, [(0, 1, 2), (1, 0, 2), (0, 2, 1), (1, 2, 1)]
    files = sorted(glob.glob(str(DATA / "ct_slices/*.png")))
    hu = np.stack([np.asarray(Image.open(f)).astype(np.float32) - 1024 for f in files], axis=2)
    yield "tcga", ct_scaled(hu), np.where(hu > -950, 2, 1), 0.4, [(0, 1, 1), (1, 0, 1)]


@dataclass
class Source:
    name: str
    volume: np.ndarray
    weight: np.ndarray
    share: float
    pairs: np.ndarray
    points: np.ndarray


def sources(kind: str) -> list[Source]:
    """The training volumes, from the cache; built if it is not there."""
    folder = CACHE / kind
    if not (folder / "done").exists():
        folder.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(0)
        for name, volume, weight, share, pairs in (mri_sources if kind == "mri" else ct_sources)():
            volume, weight = boxed(volume, weight.astype(np.uint8))
            points = np.argwhere(weight == 2)
            points = points[rng.permutation(len(points))[:50_000]].astype(np.int16)
            arrays = {
                "volume": volume.astype(np.float16),
                "weight": weight,
                "share": share,
                "pairs": np.array(pairs),
                "points": points,
            }
            np.savez(folder / f"{name}.npz", **arrays)
            print(name, volume.shape, f"{(weight == 2).mean():.2f}", flush=True)
        (folder / "done").touch()
    result = []
    for f in sorted(folder.glob("*.npz")):
        with np.load(f) as z:
            result.append(Source(f.stem, z["volume"], z["weight"], float(z["share"]), z["pairs"], z["points"]))
    return result


# ---------------------------------------------------------------------------------------------------- measurement


def profile_cdf(kind: str, width: float, slope: float):
    """The integral of a slice profile of the given width (full width at half maximum) around 0."""
    if kind == "box":
        return lambda x: np.clip(x / width + 0.5, 0, 1)
    if kind == "gaussian":
        return lambda x: 0.5 * (1 + erf(x / (width * FWHM_TO_SIGMA * math.sqrt(2))))
    # a trapezoid: a box convolved with a narrower one, `slope` of its width
    edge = slope * width

    def cdf(x):
        def ramp(y):  # integral of clip(y / width + 1/2, 0, 1)
            inner = np.clip(y, -width / 2, width / 2)
            return (inner + width / 2) ** 2 / (2 * width) + np.maximum(y - width / 2, 0)

        return (ramp(x + edge / 2) - ramp(x - edge / 2)) / edge

    return cdf


def profile_variance(kind: str, width: float, slope: float) -> float:
    if kind == "box":
        return width**2 / 12
    if kind == "gaussian":
        return (width * FWHM_TO_SIGMA) ** 2
    return width**2 / 12 * (1 + slope**2)


def slice_matrix(n_hr: int, n_lr: int, kind: str, width: float, slope: float = 0.5) -> np.ndarray:
    """Rows sum to one; `width` in slice distances. Boxes and Gaussians are those of medsr_monai.acquisition."""
    spacing = n_hr / n_lr
    centres = (np.arange(n_lr) + 0.5) * spacing - 0.5
    edges = np.arange(n_hr + 1) - 0.5
    rows = np.diff(profile_cdf(kind, width * spacing, slope)(edges[None] - centres[:, None]), axis=1)
    return rows / rows.sum(axis=1, keepdims=True)


def random_profile(rng: np.random.Generator) -> tuple[str, float, float]:
    kind = rng.choice(["box", "gaussian", "trapezoid"], p=[0.65, 0.2, 0.15])
    if kind == "box" and rng.random() < 0.45:
        return "box", 1.0, 0.0
    return str(kind), float(rng.uniform(0.6, 1.3)), float(rng.uniform(0.2, 0.9))


def equivalent_width(kind: str, width: float, slope: float) -> float:
    return math.sqrt(12 * profile_variance(kind, width, slope))


# ------------------------------------------------------------------------------------------------------ batches


def smooth_curve(rng: np.random.Generator, monotone: bool) -> tuple[np.ndarray, np.ndarray]:
    knots = np.array([0, 0.12, 0.3, 0.5, 0.7, 0.9, 1.1, 1.5])
    if monotone:
        values = np.concatenate([[0], np.cumsum(rng.gamma(0.8, 1.0, 7) + 0.05)])
        values /= values[6]
    else:
        values = np.concatenate([[0], rng.uniform(0.05, 1.05, 7)])
        values[1] *= rng.uniform(0.3, 1)
    fine = np.linspace(0, 1.5, 151)
    curve = ndimage.gaussian_filter1d(np.interp(fine, knots, values), 4, mode="nearest")
    return fine, curve - curve[0]


def change_mri(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Another contrast, another coil, another sharpness."""
    draw = rng.random()
    if draw < 0.22:
        x = np.sign(x) * np.abs(x) ** math.exp(rng.uniform(-0.6, 0.6))
    elif draw < 0.36:
        x = np.interp(x, *smooth_curve(rng, True))
    elif draw < 0.52:
        x = np.interp(x, *smooth_curve(rng, False))
    elif draw < 0.60:  # inversion inside of the head
        level = rng.uniform(0.9, 1.2)
        inside = 1 / (1 + np.exp(-(x - 0.1) / 0.03))
        x = inside * np.maximum(level - x * rng.uniform(0.5, 1), 0)
    elif draw < 0.68:  # few bright things, as vessels in an angiogram
        x = np.maximum(x, 0) ** rng.uniform(1.8, 4)
    if rng.random() < 0.25:
        h, n = (np.linspace(-1, 1, s) for s in x.shape)
        c = rng.normal(0, 0.25, 5)
        h = h[:, None]
        x = x * np.exp(c[0] * h + c[1] * n + c[2] * h * n + c[3] * h**2 + c[4] * n**2)
    draw = rng.random()
    if draw < 0.15:
        x = ndimage.gaussian_filter(x, rng.uniform(0.3, 0.7))
    elif draw < 0.25:
        x = x + rng.uniform(0.2, 0.6) * (x - ndimage.gaussian_filter(x, 0.6))
    if rng.random() < 0.15:
        x = x + rng.normal(0, rng.uniform(0, 0.02), x.shape)
    return x * rng.uniform(0.75, 1.25)


def change_ct(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The window is fixed: only sharpness, noise and a little of the scale change."""
    draw = rng.random()
    if draw < 0.15:
        x = ndimage.gaussian_filter(x, rng.uniform(0.3, 0.8))
    elif draw < 0.40:  # sharper kernels
        x = x + rng.uniform(0.3, 1.2) * (x - ndimage.gaussian_filter(x, rng.uniform(0.5, 0.9)))
    if rng.random() < 0.2:  # iodine, bone, lung: other values of the same things
        gain = rng.uniform(0.8, 1.25)
        x = np.where(x > 0.68, 0.68 + (x - 0.68) * gain, x)
    return np.clip(x, 0, (CT_TOP - CT_LOW) / CT_RANGE)


def correlated_noise(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Along the plane as a reconstruction kernel makes it, independent from slice to slice; standard deviation 1."""
    noise = rng.normal(size=shape)
    noise = ndimage.gaussian_filter1d(noise, rng.uniform(0.3, 1.2), axis=0)
    if rng.random() < 0.5:
        noise = noise - rng.uniform(0, 0.9) * ndimage.gaussian_filter1d(noise, 2.0, axis=0)
    return noise / noise.std()


@dataclass
class Batch:
    hr: torch.Tensor  # (B, 1, H, n_hr)
    lr: torch.Tensor
    weight: torch.Tensor
    matrix: torch.Tensor
    inverse: torch.Tensor
    width: torch.Tensor


class Batches:
    """Batch `i` depends on the seed and i alone, so that a resumed run goes on as if it had never stopped."""

    def __init__(self, kind: str, seed: int = 0, positions: int = 9216) -> None:
        self.kind, self.seed, self.positions = kind, seed, positions
        self.sources = sources(kind)
        self.choices = []
        for index, s in enumerate(self.sources):
            for up, other, share in s.pairs:
                up, other = int(up), int(other)
                total = s.pairs[:, 2].sum()
                self.choices.append(
                    (index, up, other, s.share * share / total, s.volume.shape[up], s.volume.shape[other])
                )
        table = np.array(self.choices)
        self.shares, self.long, self.high = table[:, 3], table[:, 4], table[:, 5]

    def sizes(self, rng: np.random.Generator) -> tuple[int, int, int]:
        factor = math.exp(rng.uniform(math.log(1.5), math.log(8)))
        draw = rng.random()
        if draw < 0.35:
            factor = float(rng.choice([2, 3, 4, 4, 5, 6]))
        elif draw < 0.40:
            factor = rng.uniform(8, 10)
        if self.kind == "mri" and rng.random() < 0.12:
            factor = min(factor, 5.0)
            n_lr = max(8, int(44 / factor))
            return 32, n_lr, min(44, round(n_lr * factor))
        n_lr = int(np.clip(round(96 / factor), 12, 30))
        return 64, n_lr, round(n_lr * factor)

    def __call__(self, i: int) -> Batch:
        rng = np.random.default_rng((self.seed, i))
        high, n_lr, n_hr = self.sizes(rng)
        count = max(4, round(self.positions / (high * n_lr)))
        fits = (self.long >= n_hr) & (self.high >= high)
        shares = self.shares * fits
        if high == 32:  # what is too small for the other batches
            shares = shares * np.where(self.high < 64, 3.0, 0.5)
        picks = rng.choice(len(self.choices), size=count, p=shares / shares.sum())
        hr, weights, matrices, widths, noises = [], [], [], [], []
        for pick in picks:
            index, up, other = self.choices[pick][:3]
            x, w = self.patch(self.sources[index], up, other, high, n_hr, rng)
            x = (change_mri if self.kind == "mri" else change_ct)(x, rng)
            kind, width, slope = random_profile(rng)
            matrices.append(slice_matrix(n_hr, n_lr, kind, width, slope))
            widths.append(equivalent_width(kind, width, slope))
            noise = np.zeros((high, n_lr))
            if rng.random() < 0.35:
                level = rng.uniform(0, 0.02)
                correlated = self.kind == "ct" and rng.random() < 0.8
                noise = level * (correlated_noise(rng, noise.shape) if correlated else rng.normal(size=noise.shape))
            noises.append(noise)
            hr.append(x)
            weights.append(w)
        matrix = torch.from_numpy(np.stack(matrices))
        inverse = matrix.mT @ torch.cholesky_inverse(torch.linalg.cholesky(matrix @ matrix.mT))
        matrix, inverse = matrix.float(), inverse.float()
        hr = torch.from_numpy(np.stack(hr).astype(np.float32))[:, None]
        weight = torch.from_numpy(np.stack(weights).astype(np.float32))[:, None]
        lr = apply_matrix(matrix, hr, 1) + torch.from_numpy(np.stack(noises).astype(np.float32))[:, None]
        return Batch(hr, lr, weight, matrix, inverse, torch.tensor(widths, dtype=torch.float32))

    def patch(self, s: Source, up: int, other: int, high: int, n_hr: int, rng: np.random.Generator):
        shape = s.volume.shape
        coarser_up = 2 if rng.random() < (0.35 if self.kind == "ct" else 0.12) and shape[up] >= 2 * n_hr else 1
        coarser_high = 2 if coarser_up == 1 and rng.random() < 0.06 and shape[other] >= 2 * high else 1
        long, tall = n_hr * coarser_up, high * coarser_high
        for _ in range(4):
            point = s.points[rng.integers(len(s.points))]
            at = [int(c) for c in point]
            for axis, size in ((up, long), (other, tall)):
                low = max(0, at[axis] - size + 1)
                start = rng.integers(low, max(low, min(at[axis], shape[axis] - size)) + 1)
                start = min(int(start), shape[axis] - size)
                at[axis] = slice(start, start + size)
            x, w = s.volume[tuple(at)], s.weight[tuple(at)]
            if (w == 2).mean() > 0.35:
                break
        if up < other:
            x, w = x.T, w.T
        x = x.astype(np.float32)
        w = np.array([0.0, 0.1, 1.0], np.float32)[w]
        if coarser_up == 2:
            x, w = x.reshape(high, n_hr, 2).mean(2), w.reshape(high, n_hr, 2).min(2)
        if coarser_high == 2:
            x, w = x.reshape(high, 2, n_hr).mean(1), w.reshape(high, 2, n_hr).min(1)
        for axis in (0, 1):
            if rng.random() < 0.5:
                x, w = np.flip(x, axis), np.flip(w, axis)
        return np.ascontiguousarray(x), np.ascontiguousarray(w)


# ------------------------------------------------------------------------------------------------------ training


def projected(image: torch.Tensor, batch: Batch) -> torch.Tensor:
    return image + apply_matrix(batch.inverse, batch.lr - apply_matrix(batch.matrix, image, 1), 1)


def save(path: Path, what: dict) -> None:
    temporary = path.with_suffix(".part")
    torch.save(what, temporary)
    os.replace(temporary, path)


class Muon(torch.optim.Optimizer):
    """Momentum whose matrices are orthogonalised, for the convolutions (Jordan et al. 2024, Keller-Jordan/Muon)."""

    def __init__(self, params, lr: float, momentum: float = 0.95) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure=None) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                state = self.state[p]
                if "momentum" not in state:
                    state["momentum"] = torch.zeros_like(p)
                m = state["momentum"]
                m.lerp_(p.grad, 1 - group["momentum"])
                u = torch.lerp(p.grad, m, group["momentum"]).reshape(len(p), -1)
                tall = u.shape[0] > u.shape[1]
                x = u.mT if tall else u
                x = x / (x.norm() + 1e-12)
                for _ in range(5):
                    a = x @ x.mT
                    x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
                x = x.mT if tall else x
                scale = 0.2 * math.sqrt(max(u.shape))  # the size of Adam's steps
                p.add_(x.reshape(p.shape), alpha=-group["lr"] * scale)


def optimisers(net: SliceUpsampler, kind: str, lr: float) -> list[torch.optim.Optimizer]:
    if kind == "adam":
        return [torch.optim.Adam(net.parameters(), lr=lr, betas=(0.9, 0.99))]
    matrices = [p for n, p in net.trunk.named_parameters() if p.ndim > 2 and p.shape[1] > 1]
    known = {id(p) for p in matrices}
    return [
        Muon(matrices, lr=lr),
        torch.optim.Adam([p for p in net.parameters() if id(p) not in known], lr=lr, betas=(0.9, 0.99)),
    ]


class Threads:
    """How many threads: a core that others need makes two threads slower than one, since each step waits for both."""

    def __init__(self, most: int) -> None:
        self.most, self.count, self.cost, self.used, self.began = most, 0, {}, most, 0.0
        self.next, self.looks = 2, 0

    def begin(self) -> None:
        self.count += 1
        best = min(self.cost, key=self.cost.get) if len(self.cost) == self.most else self.most
        others = [n for n in range(1, self.most + 1) if n != best]
        self.used = best
        if others and self.count >= self.next:
            # Look at the other one again, the more rarely the worse it was.
            self.used = others[self.looks % len(others)]
            self.looks += 1
            loss = self.cost.get(self.used, 0.0) / self.cost[best] if best in self.cost else 1.0
            self.next = self.count + 10 + int(40 * max(0.0, min(2.0, loss - 1)))
        torch.set_num_threads(self.used)
        self.began = time.perf_counter()

    def end(self, work: int) -> None:
        cost = (time.perf_counter() - self.began) / work
        self.cost[self.used] = cost if self.used not in self.cost else 0.5 * self.cost[self.used] + 0.5 * cost


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=["mri", "ct"])
    parser.add_argument("--minutes", type=float, required=True)
    parser.add_argument("--decay", type=int, default=0, help="iterations of the decay; 0 stays in the stable phase")
    parser.add_argument("--folder", type=Path, default=None)
    parser.add_argument("--start", type=Path, default=None, help="stable state of another run to branch off from")
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--optimiser", choices=["adam", "muon"], default="muon")
    parser.add_argument("--warmup", type=int, default=300)
    parser.add_argument("--square", type=float, default=0.0, help="weight of the squared error beside L1")
    parser.add_argument("--positions", type=int, default=9216)
    parser.add_argument("--by_time", action="store_true", help="let the decay end with --minutes at the latest")
    parser.add_argument("--iterations", type=int, default=10**9)
    parser.add_argument("--validate", type=float, default=12, help="minutes between validations; 0 none")
    args = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", 2)))
    folder = args.folder or LAB / "checkpoints" / args.kind
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    net = SliceUpsampler().to(memory_format=torch.channels_last)
    parameters = list(net.parameters())
    shadow = [p.detach().clone() for p in parameters]
    opts = optimisers(net, args.optimiser, args.lr)
    iteration, began, seconds, decay_from = 0, 0, 0.0, None
    stable, decay = folder / "stable.pt", folder / "decay.pt"

    def load(path: Path) -> dict:
        state = torch.load(path, weights_only=True)
        net.load_state_dict(state["net"])
        for own, other in zip(shadow, state["ema"], strict=True):
            own.copy_(other)
        for opt, other in zip(opts, state["optimisers"], strict=True):
            opt.load_state_dict(other)
        return state

    if args.decay and decay.exists() and (state := torch.load(decay, weights_only=True))["left"] > 0:
        load(decay)
        iteration, seconds, decay_from = state["iteration"], state["seconds"], state["decay_from"]
        args.decay = state["decay"]
    elif stable.exists():
        state = load(stable)
        iteration, seconds, decay_from = state["iteration"], state["seconds"], state["iteration"]
    elif args.start:
        load(args.start)
    began = 0 if not args.start or iteration else iteration
    total = (decay_from or 0) + args.decay if args.decay else math.inf
    schedule = warmup_stable_decay(args.warmup, total, args.decay)
    batches = Batches(args.kind, positions=args.positions)
    stop = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.append(True))
    log = folder / "log.tsv"
    if not log.exists():
        log.write_text("phase\titeration\tseconds\tlr\tloss\tlinear_projected_loss\tvalidation\n")
    phase = "decay" if args.decay else "stable"

    def out_of_time() -> bool:
        return time.time() - start >= args.minutes * 60

    def keep() -> None:
        state = {
            "net": net.state_dict(),
            "ema": shadow,
            "optimisers": [opt.state_dict() for opt in opts],
            "iteration": iteration,
            "seconds": seconds + time.time() - start,
            "decay_from": decay_from,
            "decay": args.decay,
            "left": max(0, total - iteration) if args.decay and not (args.by_time and out_of_time()) else 0,
        }
        save(decay if args.decay else stable, state)
        names = [name for name, _ in net.named_parameters()]
        weights = {name: value.clone() for name, value in zip(names, shadow, strict=True)}
        save(folder / ("ema.pt" if args.decay else "ema_stable.pt"), weights)

    def write(validation: str = "") -> None:
        with log.open("a") as f:
            a, b = (sum(x) / max(1, len(x)) for x in zip(*recent, strict=True)) if recent else (math.nan, math.nan)
            lr = opts[0].param_groups[0]["lr"]
            f.write(
                f"{phase}\t{iteration}\t{seconds + time.time() - start:.0f}\t{lr:.2e}\t{a:.6f}\t{b:.6f}\t{validation}\n"
            )
        print(iteration, threads.used, {n: round(9216 * c, 2) for n, c in threads.cost.items()}, flush=True)

    threads = Threads(torch.get_num_threads())
    start = saved = validated = time.time()
    recent: list[tuple[float, float]] = []
    end = min(total, args.iterations)
    while not stop and iteration < end and not out_of_time():
        # A decay ends with its iterations or with its minutes, whichever is first.
        spent = (time.time() - start) / (args.minutes * 60) if args.by_time else 0.0
        lr = args.lr * schedule(max(iteration, int((decay_from or 0) + spent * args.decay)))
        for opt in opts:
            for group in opt.param_groups:
                group["lr"] = lr
        threads.begin()
        batch = batches(iteration)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            out = net(batch.lr, batch.hr.shape[-1], batch.width)
        error = (projected(out.float(), batch) - batch.hr) * 1.0
        total_weight = batch.weight.sum().clamp(min=1)
        loss = (error.abs() * batch.weight).sum() / total_weight
        goal = loss
        if args.square:
            goal = loss + args.square * (error.square() * batch.weight).sum() / total_weight
        for opt in opts:
            opt.zero_grad(set_to_none=True)
        goal.backward()
        norm = torch.nn.utils.clip_grad_norm_(parameters, 0.1)
        if torch.isfinite(norm):
            for opt in opts:
                opt.step()
            momentum = min(0.999, (iteration - began + 1) / (iteration - began + 10))
            if args.decay:  # the falling rate averages by itself: a long memory would hold on to the high rate
                momentum = min(momentum, 1 - 1 / max(50, 0.05 * args.decay))
            torch._foreach_lerp_(shadow, [p.detach() for p in parameters], 1 - momentum)
        with torch.no_grad():
            base = projected(net.linear(batch.lr, batch.hr.shape[-1]), batch)
            base = float(((base - batch.hr).abs() * batch.weight).sum() / total_weight)
        recent.append((float(loss.detach()), base))
        threads.end(batch.lr.numel())
        iteration += 1
        if iteration % 200 == 0 or iteration == 20:
            write()
            recent.clear()
        if time.time() - saved > 150:
            keep()
            saved = time.time()
        if args.validate and time.time() - validated > args.validate * 60:
            from validate_slices import quick

            # sees the averaged weights
            ema = SliceUpsampler()
            ema.load_state_dict(dict(zip([n for n, _ in net.named_parameters()], shadow, strict=True)))
            write(quick(ema, args.kind))
            validated = time.time()
    keep()
    write("stopped")
    print(phase, "iteration", iteration, "seconds", round(seconds + time.time() - start), flush=True)


if __name__ == "__main__":
    main()
