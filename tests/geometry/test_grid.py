"""Grids keep their place in the patient, whatever is done to their voxels."""

from __future__ import annotations

import itertools

import nibabel as nib
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from medsr_monai.geometry import Grid, corner_error_mm, inverse_orientation, parse_orientation, reorient
from medsr_monai.system.errors import InputError

AXCODES = [
    "".join(codes) for order in itertools.permutations(("LR", "PA", "IS")) for codes in itertools.product(*order)
]
# Exact up to rounding: 1e-3 mm is what the project promises, and pure geometry must stay far below it.
ROUNDING_MM = 1e-9

angles = st.floats(-20, 20)
sizes = st.integers(1, 33)
spacings = st.floats(0.1, 9.0)
scales = st.one_of(st.integers(1, 5), st.floats(0.3, 6.0))
triples = st.tuples


@st.composite
def grids(draw: st.DrawFn) -> Grid:
    """Grids of any axis order, oblique, with odd, even and single-voxel sides."""
    affine = np.eye(4)
    turn = Rotation.from_euler("xyz", [draw(angles) for _ in range(3)], degrees=True).as_matrix()
    ornt = parse_orientation(draw(st.sampled_from(AXCODES)))
    order = np.zeros((3, 3))
    for axis, (target, flip) in enumerate(ornt.astype(int)):
        order[target, axis] = flip
    affine[:3, :3] = turn @ order @ np.diag([draw(spacings) for _ in range(3)])
    affine[:3, 3] = [draw(st.floats(-300, 300)) for _ in range(3)]
    return Grid((draw(sizes), draw(sizes), draw(sizes)), affine)


@settings(max_examples=150, deadline=None)
@given(grid=grids(), shape=triples(sizes, sizes, sizes))
def test_resizing_keeps_the_field_of_view(grid: Grid, shape: tuple[int, ...]) -> None:
    resized = grid.resized(shape)
    assert resized.shape == shape
    assert corner_error_mm(grid, resized) < ROUNDING_MM
    old, new = np.multiply(grid.shape, grid.spacing_mm), np.multiply(resized.shape, resized.spacing_mm)
    np.testing.assert_allclose(new, old, rtol=1e-12)
    assert corner_error_mm(resized.resized(grid.shape), grid) < ROUNDING_MM
    np.testing.assert_allclose(resized.resized(grid.shape).affine, grid.affine, atol=1e-9)


@settings(max_examples=150, deadline=None)
@given(grid=grids(), scale=triples(scales, scales, scales))
def test_any_scale_keeps_the_field_of_view(grid: Grid, scale: tuple[float, ...]) -> None:
    for changed in (grid.upscaled(scale), grid.downscaled(scale)):
        assert corner_error_mm(grid, changed) < ROUNDING_MM
    for n, n_up, n_down, s in zip(
        grid.shape, grid.upscaled(scale).shape, grid.downscaled(scale).shape, scale, strict=True
    ):
        assert abs(n_up - n * s) <= 0.5 + 1e-9 or (n_up == 1 and n * s < 0.5)
        assert abs(n_down - n / s) <= 0.5 + 1e-9 or (n_down == 1 and n / s < 0.5)


def test_half_voxel_shift_by_hand() -> None:
    fine = Grid((4, 4, 4), np.diag([2.0, 2.0, 2.0, 1.0])).upscaled(2)
    np.testing.assert_allclose(fine.affine, [[1, 0, 0, -0.5], [0, 1, 0, -0.5], [0, 0, 1, -0.5], [0, 0, 0, 1]])
    assert Grid((5, 1, 3), np.eye(4)).downscaled(2).shape == (3, 1, 2)  # halves go up, and nothing vanishes
    assert Grid((5, 3, 1), np.eye(4)).upscaled((1, 1.5, 2.5)).shape == (5, 5, 3)


@pytest.mark.parametrize("axcodes", AXCODES)
def test_reorienting_moves_no_voxel(axcodes: str, rng: np.random.Generator) -> None:
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", rng.uniform(-15, 15, 3), degrees=True).as_matrix() * [0.7, 1.3, 3.1]
    affine[:3, 3] = [-90.5, 12.25, 300]
    grid = Grid((5, 1, 4), affine)
    data = rng.normal(size=(2, *grid.shape))

    turned_grid, ornt = grid.reoriented(axcodes), grid.orientation_to(axcodes)
    turned = reorient(data, ornt)
    assert "".join(turned_grid.axcodes) == axcodes
    assert turned_grid == grid.reoriented(ornt)
    assert turned.shape == (2, *turned_grid.shape)
    # nibabel's own reorientation is the reference.
    expected = nib.Nifti1Image(data[1], affine).as_reoriented(ornt)
    np.testing.assert_array_equal(turned[1], expected.get_fdata())
    np.testing.assert_allclose(turned_grid.affine, expected.affine, atol=1e-12)

    back = inverse_orientation(ornt)
    np.testing.assert_array_equal(reorient(turned, back), data)
    assert corner_error_mm(turned_grid.reoriented(back), grid) < ROUNDING_MM
    np.testing.assert_array_equal(reorient(torch.from_numpy(data), ornt).numpy(), turned)

    canonical, to_canonical = turned_grid.canonical()
    assert canonical.axcodes == ("R", "A", "S")
    np.testing.assert_array_equal(reorient(turned, to_canonical), reorient(data, grid.canonical()[1]))
    # Resizing and turning commute.
    factors = np.array([2.0, 3.0, 1.5])
    order = np.argsort(ornt[:, 0]).astype(int)
    assert corner_error_mm(grid.upscaled(factors).reoriented(ornt), turned_grid.upscaled(factors[order])) < ROUNDING_MM


@settings(max_examples=60, deadline=None)
@given(grid=grids())
def test_corners_are_outer_voxel_edges(grid: Grid) -> None:
    corners = grid.corners_mm
    assert corners.shape == (8, 3)
    first = grid.affine @ [-0.5, -0.5, -0.5, 1]
    last = grid.affine @ [*(np.array(grid.shape) - 0.5), 1]
    np.testing.assert_allclose(corners[[0, -1]], [first[:3], last[:3]], atol=1e-9)
    moved = grid.affine.copy()
    moved[0, 3] += 0.25
    assert corner_error_mm(grid, Grid(grid.shape, moved)) == pytest.approx(0.25)


def test_grids_compare_by_value_and_cannot_be_changed() -> None:
    affine = np.eye(4)
    grid = Grid((2, 3, 4), affine)
    affine[0, 0] = 9
    assert grid == Grid((2, 3, 4), np.eye(4)) and hash(grid) == hash(Grid((2, 3, 4), np.eye(4)))
    assert grid != Grid((2, 3, 5), np.eye(4))
    with pytest.raises(ValueError, match="read-only"):
        grid.affine[0, 0] = 2


SHEARED_FLAT = np.array([[1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])


@pytest.mark.parametrize(
    ("shape", "affine", "names"),
    [
        ((2, 3), np.eye(4), "2 axes, but need 3"),
        ((2, 0, 3), np.eye(4), "axis 1"),
        ((2, 2.5, 3), np.eye(4), "axis 1"),
        ((2, 3, float("nan")), np.eye(4), "axis 2"),
        ((2, 3, 4), np.eye(3), "(4, 4)"),
        ((2, 3, 4), np.zeros((4, 4)), "last row"),
        ((2, 3, 4), np.diag([1, 0, 1, 1.0]), "inverted"),
        ((2, 3, 4), SHEARED_FLAT, "inverted"),
        ((2, 3, 4), np.diag([1, np.nan, 1, 1]), "NaN"),
        ((2, 3, 4), np.diag([1, np.inf, 1, 1]), "Inf"),
    ],
)
def test_bad_grids_are_refused(shape: tuple[int, ...], affine: np.ndarray, names: str) -> None:
    with pytest.raises(InputError) as caught:
        Grid(shape, affine)
    assert names in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("scale", [0, -1, float("nan"), float("inf"), (1, 2), (1, 2, 0)])
def test_bad_scales_are_refused(scale: float) -> None:
    with pytest.raises(InputError, match="scale"):
        Grid((2, 3, 4), np.eye(4)).upscaled(scale)


@pytest.mark.parametrize("target", ["", "RA", "RAR", "RAX", "RASA", ["LR", "A", "S"], np.zeros((3, 2)), np.eye(2)])
def test_bad_orientations_are_refused(target: str) -> None:
    with pytest.raises(InputError, match=r"axis codes|orientation array"):
        Grid((2, 3, 4), np.eye(4)).reoriented(target)


def test_reorient_refuses_too_few_axes() -> None:
    with pytest.raises(InputError, match=r"\(2, 3\)"):
        reorient(np.zeros((2, 3)), parse_orientation("RAS"))
