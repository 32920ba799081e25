"""Every bundle upscales: consistently, on the right grid, whatever else lies in the folder."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bundle_contract import CREATED, TINY_NETWORK, parser_of, refused, scan, those_known, workflow_of
from monai.bundle import ConfigWorkflow

from medsr_monai.acquisition import SeparableAcquisition
from medsr_monai.geometry import Grid, corner_error_mm
from medsr_monai.volumes import read_volume, write_volume

CREATED_BUNDLES = tuple(CREATED)


def inference_of(bundle: Path, weights: Path, **settings: Any) -> ConfigWorkflow:
    known = those_known(parser_of(bundle, "inference"), {**TINY_NETWORK, "progress": False})
    return workflow_of(bundle, "inference", kind="inference", **{**known, "checkpoint": str(weights), **settings})


def test_inference_is_consistent_and_on_the_right_grid(bundle, tiny_weights, tmp_path):
    affine = np.array([[0, -1.5, 0, 4], [-1.0, 0, 0.1, 5], [0, 0.1, 2.0, -6], [0, 0, 0, 1]])
    write_volume(tmp_path / "lr" / "scan.nii.gz", scan(5, (6, 7, 5)), Grid((6, 7, 5), affine))
    inference_of(bundle, tiny_weights, input=str(tmp_path / "lr"), output_dir=str(tmp_path / "sr")).run()
    (written,) = (tmp_path / "sr").iterdir()
    assert written.name == "scan_sr.nii.gz"
    lr, sr = read_volume(tmp_path / "lr" / "scan.nii.gz"), read_volume(written)
    assert sr.grid.axcodes == lr.grid.axcodes and math.prod(sr.shape) > math.prod(lr.shape)
    assert corner_error_mm(lr.grid, sr.grid) < 1e-4
    np.testing.assert_allclose(sr.grid.affine, lr.grid.resized(sr.shape).affine, atol=1e-5)
    acquisition = SeparableAcquisition.from_profile(sr.shape, lr.shape)
    again = acquisition.forward(torch.from_numpy(sr.data)[None, None])[0, 0].numpy()
    assert np.abs(again - lr.data).max() <= 1e-4 * np.ptp(lr.data)
    untouched = sr.data - np.kron(lr.data, np.ones([a // b for a, b in zip(sr.shape, lr.shape, strict=True)]))
    assert np.abs(untouched).max() > 1e-3 * np.ptp(lr.data), "the network must have had its say"


def test_monai_finds_all_it_needs_for_inference(bundle, tiny_weights, tmp_path):
    write_volume(tmp_path / "lr.nii", scan(1, (4, 5, 4)), Grid((4, 5, 4), np.eye(4)))
    workflow = inference_of(bundle, tiny_weights, input=str(tmp_path / "lr.nii"), output_dir=str(tmp_path / "sr"))
    assert workflow.check_properties() == []


def test_the_dial_changes_the_image_and_never_the_measurement(bundle, tiny_weights, tiny_weights_gan, tmp_path):
    shape = (6, 7, 5)
    write_volume(tmp_path / "lr.nii", scan(5, shape), Grid(shape, np.eye(4)))
    lr, made = scan(5, shape), []
    for perception in (0, 0.5, 1):
        settings = {"perception": perception, "checkpoint_gan": str(tiny_weights_gan)}
        paths = {"input": str(tmp_path / "lr.nii"), "output_dir": str(tmp_path / str(perception))}
        inference_of(bundle, tiny_weights, **settings, **paths).run()
        made.append(read_volume(tmp_path / str(perception) / "lr_sr.nii.gz").data)
        acquisition = SeparableAcquisition.from_profile(made[-1].shape, lr.shape)
        again = acquisition.forward(torch.from_numpy(made[-1])[None, None])[0, 0].numpy()
        assert np.abs(again - lr).max() <= 1e-4 * np.ptp(lr)
    for one, other in ((0, 1), (1, 2), (0, 2)):
        assert np.abs(made[one] - made[other]).max() > 1e-3 * np.ptp(lr)


def test_one_bad_scan_does_not_hold_up_the_others(bundle, tiny_weights, tmp_path):
    for name in ("a", "c"):
        write_volume(tmp_path / "lr" / f"{name}.nii.gz", scan(1, (4, 5, 4)), Grid((4, 5, 4), np.eye(4)))
    (tmp_path / "lr" / "b.nii.gz").write_bytes(b"no volume")
    workflow = inference_of(bundle, tiny_weights, input=str(tmp_path / "lr"), output_dir=str(tmp_path / "sr"))
    with refused("b.nii.gz"):
        workflow.run()
    assert sorted(path.name for path in (tmp_path / "sr").iterdir()) == ["a_sr.nii.gz", "c_sr.nii.gz"]


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"input": "no/such/folder"}, "no/such/folder"),
        ({"checkpoint": "no/such/model.pt"}, "no/such/model.pt: no such weights"),
        ({"consistency": "maybe"}, "consistency 'maybe'"),
        ({"input": ""}, "input ''"),
        ({"output_suffix": ".txt"}, "output_suffix '.txt'"),
        ({"output_dtype": "foo"}, "output_dtype 'foo'"),
        ({"output_postfix": "../.."}, "output_postfix '../..'"),
        ({"stream": "foo"}, "stream 'foo'"),
        ({"memory_gb": 0}, "memory_gb '0'"),
        ({"slab": 0}, "slab '0'"),
        ({"autocast": "int8"}, "autocast 'int8'"),
        ({"uncertainty": "maybe"}, "uncertainty 'maybe'"),
        ({"uncertainty": True}, "uncertainty: needs an ensemble of 2 or more"),
        ({"ensemble": 49}, "ensemble 49"),
        ({"ensemble": 0}, "ensemble '0'"),
        ({"profile": "foo"}, "profile 'foo'"),
        ({"perception": 1.5}, "perception '1.5'"),
        ({"perception": "x"}, "perception 'x'"),
        ({"perception": 0.5, "checkpoint_gan": "no/such/gan.pt"}, "no/such/gan.pt: no such weights"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_bad_settings_are_refused_before_anything_is_computed(bundle, tiny_weights, settings, message, tmp_path):
    write_volume(tmp_path / "lr.nii", scan(1, (4, 5, 4)), Grid((4, 5, 4), np.eye(4)))
    paths = {"input": str(tmp_path / "lr.nii"), "output_dir": str(tmp_path / "sr")}
    with refused(message):
        inference_of(bundle, tiny_weights, **{**paths, **settings}).run()
    assert not list((tmp_path / "sr").glob("*")), "nothing is written"
