"""The projection in two passes over slabs is the projection of the whole image."""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medsr_monai.acquisition import (
    PROFILES,
    SeparableAcquisition,
    SlabProjection,
    box_matrix,
    separable,
    slabs,
)
from medsr_monai.acquisition.slabs import _BandedMatrix
from medsr_monai.system.errors import InputError
from medsr_monai.system.scratch import SliceFile

sizes = st.integers(1, 7)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(slabs, "_BLOCK_VOXELS", 40)


def project_in_slabs(
    acquisition: SeparableAcquisition,
    sr: torch.Tensor,
    lr: torch.Tensor,
    axis: int,
    damping: float,
    thick: list[int],
    on_disk: bool = False,
) -> torch.Tensor:
    if on_disk:
        with SliceFile(acquisition.lr_shape, axis) as scratch:
            return in_two_passes(SlabProjection(acquisition, axis, damping, scratch), sr, lr, axis, thick)
    return in_two_passes(SlabProjection(acquisition, axis, damping), sr, lr, axis, thick)


def in_two_passes(
    projection: SlabProjection, sr: torch.Tensor, lr: torch.Tensor, axis: int, thick: list[int]
) -> torch.Tensor:
    dim = axis + 2
    first, second, third = thick
    for start in reversed(range(0, sr.shape[dim], first)):
        projection.subtract(start, sr.narrow(dim, start, min(first, sr.shape[dim] - start)))
    for start in range(0, lr.shape[dim], second):
        projection.add(start, lr.narrow(dim, start, min(second, lr.shape[dim] - start)))
    projection.solve()
    ends = [(start, min(start + third, sr.shape[dim])) for start in range(0, sr.shape[dim], third)]
    parts = [sr.narrow(dim, a, b - a) + projection.correction(a, b) for a, b in ends]
    return torch.cat(parts, dim=dim)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lr_shape=st.tuples(sizes, sizes, sizes),
    extra=st.tuples(*[st.sampled_from([1, 1.5, 2, 3.4, 4])] * 3),
    profile=st.sampled_from(PROFILES),
    damping=st.sampled_from([0.0, 1e-3, 0.3]),
    axis=st.integers(0, 2),
    thick=st.lists(st.integers(1, 9), min_size=3, max_size=3),
    seed=st.integers(0, 99),
    on_disk=st.booleans(),
)
def test_slabs_give_what_the_whole_gives(lr_shape, extra, profile, damping, axis, thick, seed, on_disk):
    hr_shape = tuple(int(n * factor) for n, factor in zip(lr_shape, extra, strict=True))
    acquisition = SeparableAcquisition.from_profile(hr_shape, lr_shape, profile)
    rng = torch.Generator().manual_seed(seed)
    sr, lr = torch.rand(1, 1, *hr_shape, generator=rng), torch.rand(1, 1, *lr_shape, generator=rng)
    whole = acquisition.project(sr.double(), lr.double(), damping)
    made = project_in_slabs(acquisition, sr, lr, axis, damping, thick, on_disk)
    # An ill-posed profile amplifies the rounding of the float32 residual, as it does for the whole image.
    tolerance = max(1e-5, 4 * float((acquisition.project(sr, lr, damping) - whole).abs().max()))
    torch.testing.assert_close(made.double(), whole, rtol=0, atol=tolerance)


def test_an_image_in_two_dimensions_streams_its_rows():
    acquisition = SeparableAcquisition.from_profile((12, 9), (4, 9), "gaussian")
    sr, lr = torch.rand(1, 1, 12, 9), torch.rand(1, 1, 4, 9)
    made = project_in_slabs(acquisition, sr, lr, 0, 0.0, [5, 3, 7])
    torch.testing.assert_close(made, acquisition.project(sr, lr), rtol=0, atol=1e-5)


def test_whole_voxel_averages_cost_only_their_own_columns():
    averaging = _BandedMatrix(torch.as_tensor(box_matrix(512, 256)))
    assert sum(band.matrix.numel() for band in averaging._bands) == 256 * 2 * 32
    u, _, vt = torch.linalg.svd(torch.as_tensor(box_matrix(512, 256)), full_matrices=False)
    repeating = _BandedMatrix(vt.mT @ u.mT)
    assert sum(band.matrix.numel() for band in repeating._bands) == 512 * 16
    assert averaging.columns(slice(10, 14)).rows == slice(5, 7)


def test_missing_or_doubled_slices_are_noticed():
    acquisition = SeparableAcquisition.from_profile((4, 4, 4), (2, 2, 2))
    projection = SlabProjection(acquisition, 2)
    projection.subtract(0, torch.zeros(1, 1, 4, 4, 2))
    projection.add(0, torch.zeros(1, 1, 2, 2, 2))
    with pytest.raises(ValueError, match="2 slices were given, but it has 4"):
        projection.solve()
    with pytest.raises(ValueError, match="solve"):
        projection.correction(0, 1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda a: SlabProjection(a, 3), "axis 3"),
        (lambda a: SlabProjection(a, 0, -1.0), "regularisation -1.0: must be 0 or more"),
        (lambda a: SlabProjection(a, 2).subtract(3, torch.zeros(1, 1, 4, 4, 2)), "image"),
        (lambda a: SlabProjection(a, 2).add(0, torch.zeros(1, 1, 4, 4, 2)), "measurement"),
    ],
)
def test_what_makes_no_sense_is_refused(call, message):
    with pytest.raises(InputError, match=message):
        call(SeparableAcquisition.from_profile((4, 4, 4), (2, 2, 2)))


@pytest.mark.parametrize("damping", [0.0, 0.2])
def test_the_filter_in_parts_is_the_filter(monkeypatch, damping):
    acquisition = SeparableAcquisition.from_profile((14, 9, 8), (7, 3, 4), "gaussian")
    lr = torch.rand(2, 1, 7, 3, 4)
    whole = acquisition.pseudo_inverse(lr, damping)
    monkeypatch.setattr(separable, "_FILTER_VOXELS", 50)
    torch.testing.assert_close(acquisition.pseudo_inverse(lr, damping), whole, rtol=0, atol=0)
