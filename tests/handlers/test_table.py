"""The table says what the metrics say."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import ignite.distributed as idist
import numpy as np
import pytest
import torch
from ignite.engine import Engine

from medsr_monai.acquisition import SeparableAcquisition
from medsr_monai.errors import InputError
from medsr_monai.handlers import CaseTable
from medsr_monai.interpolation import cubic_bspline
from medsr_monai.metrics import (
    ForegroundPSNR,
    ForegroundSSIM,
    GradientDistributionDistance,
    GradientMagnitudeDistance,
    SpectrumDistance,
    foreground_mask,
    foreground_percentile,
    perceptual_distance,
)
from medsr_monai.networks import ConvolutionalFeatures

COLUMNS = [
    *("case", "profile", "noise", "psnr_cubic", "psnr_sr", "ssim_cubic", "ssim_sr"),
    *("gradient_distance_cubic", "gradient_distance_sr", "gradient_distribution_cubic", "gradient_distribution_sr"),
    *("spectrum_distance_cubic", "spectrum_distance_sr"),
    "consistency_max",
]


def cases(count: int, rng: np.random.Generator, size: int = 16) -> list[dict]:
    """References with a dark border, their measurements, and results that are a little off."""
    result = []
    for index in range(count):
        hr = torch.zeros(1, size, size, size)
        hr[:, 2:-2, 2:-2, 2:-2] = 200 + 800 * torch.from_numpy(rng.random((1, *[size - 4] * 3))).float()
        lr = torch.nn.functional.avg_pool3d(hr, 2)
        sr = hr + (20 + 30 * index) * torch.from_numpy(rng.standard_normal(hr.shape)).float()
        result.append({"case": f"sub-{index:02d}", "image": lr, "pred": sr, "label": hr})
    return result


def write_table(path: Path, items: list[dict], **settings) -> list[dict]:
    def step(engine, batch):
        return [{key: value for key, value in item.items() if key != "case"} for item in batch]

    evaluator = Engine(step)
    table = CaseTable(path, **settings)
    table.attach(evaluator)
    evaluator.run([[item] for item in items])
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_table_has_a_row_per_case_and_their_mean(tmp_path, rng):
    rows = write_table(tmp_path / "deep" / "metrics.csv", cases(3, rng), profile="kspace", noise=0.02)
    assert list(rows[0]) == COLUMNS
    assert [row["case"] for row in rows] == ["sub-00", "sub-01", "sub-02", "mean"]
    assert {row["profile"] for row in rows} == {"kspace"} and {row["noise"] for row in rows} == {"0.02"}
    for column in COLUMNS[3:]:
        values = [float(row[column]) for row in rows]
        assert values[3] == pytest.approx(np.mean(values[:3]), rel=1e-12)
        assert len(set(values[:3])) == 3
    assert os.listdir(tmp_path / "deep") == ["metrics.csv"]


@pytest.mark.parametrize("profile", ["box", "kspace"])
def test_table_says_what_the_metrics_say(profile, tmp_path, rng):
    items = cases(2, rng)
    rows = write_table(tmp_path / "metrics.csv", items, profile=profile)
    for row, item in zip(rows, items, strict=False):
        lr, sr, hr = (item[key][None] for key in ("image", "pred", "label"))
        cubic = cubic_bspline(lr, hr.shape[2:])
        acquisition = SeparableAcquisition.from_profile(hr.shape[2:], lr.shape[2:], profile)
        expected = {
            "psnr_cubic": ForegroundPSNR()(cubic, hr).item(),
            "psnr_sr": ForegroundPSNR()(sr, hr).item(),
            "ssim_cubic": ForegroundSSIM()(cubic, hr).item(),
            "ssim_sr": ForegroundSSIM()(sr, hr).item(),
            "gradient_distance_cubic": GradientMagnitudeDistance()(cubic, hr).item(),
            "gradient_distance_sr": GradientMagnitudeDistance()(sr, hr).item(),
            "gradient_distribution_cubic": GradientDistributionDistance()(cubic, hr).item(),
            "gradient_distribution_sr": GradientDistributionDistance()(sr, hr).item(),
            "spectrum_distance_cubic": SpectrumDistance()(cubic, hr).item(),
            "spectrum_distance_sr": SpectrumDistance()(sr, hr).item(),
            "consistency_max": float((acquisition.forward(sr) - lr).abs().max() / (hr.max() - hr.min())),
        }
        for column, value in expected.items():
            assert float(row[column]) == pytest.approx(value, rel=1e-5), column


def test_a_feature_network_adds_its_distance(tmp_path, rng):
    features = ConvolutionalFeatures(3, widths=(2,))
    (item,) = cases(1, rng)
    row = write_table(tmp_path / "metrics.csv", [item], features=features)[0]
    assert list(row) == [*COLUMNS[:-1], "perceptual_distance_cubic", "perceptual_distance_sr", "consistency_max"]
    sr, hr = (item[key][None] for key in ("pred", "label"))
    unit = foreground_percentile(hr).item()
    expected = perceptual_distance(sr / unit, hr / unit, features, foreground_mask(hr / unit)).item()
    assert float(row["perceptual_distance_sr"]) == pytest.approx(expected, rel=1e-5)


def test_table_of_a_second_evaluation_starts_anew(tmp_path, rng):
    path, items = tmp_path / "metrics.csv", cases(2, rng)
    evaluator = Engine(lambda engine, batch: batch)
    CaseTable(path).attach(evaluator)
    for _ in range(2):
        evaluator.run([[item] for item in items])
    assert len(path.read_text().splitlines()) == 1 + 2 + 1


def test_table_that_cannot_be_written_is_bad_input(tmp_path, rng):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"metrics\.csv: cannot write: "):
        write_table(tmp_path / "file" / "metrics.csv", cases(1, rng))


def test_table_of_a_part_of_the_cases_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(idist, "get_world_size", lambda: 2)
    with pytest.raises(InputError, match=r"metrics\.csv: the table needs every case in one process"):
        CaseTable(tmp_path / "metrics.csv").attach(Engine(lambda engine, batch: batch))
