"""Pictures of the first cases arrive in TensorBoard at the trainer's epoch."""

from __future__ import annotations

import ignite.distributed as idist
import numpy as np
import pytest
import torch
from ignite.engine import Engine
from monai.engines import SupervisedEvaluator
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from medsr_monai.system.errors import InputError
from medsr_monai.training import prepare_measured_batch
from medsr_monai.training.handlers import ThreePlaneImages, images
from medsr_monai.training.handlers.middle_planes import HEAD_PX, PANEL_PX, draw_middle_planes


class Writer:
    """Keeps what is written."""

    def __init__(self) -> None:
        self.pictures: list[tuple[str, int, np.ndarray]] = []
        self.flushed = 0

    def add_image(self, tag, array, global_step, dataformats):
        assert dataformats == "HWC" and array.shape[2] == 3
        self.pictures.append((tag, global_step, array))

    def flush(self):
        self.flushed += 1


def evaluator_of(count: int, handler: ThreePlaneImages) -> SupervisedEvaluator:
    rng = np.random.default_rng(0)
    batches = []
    for index in range(count):
        hr = torch.from_numpy(rng.random((1, 1, 8, 10, 6), dtype=np.float32))
        lr = torch.nn.functional.avg_pool3d(hr, 2)
        batches.append({"case": [f"sub-{index}"], "hr": hr, "lr": lr})
    network = torch.nn.Upsample(scale_factor=2)
    return SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=batches,
        epoch_length=count,
        network=network,
        prepare_batch=prepare_measured_batch,
        val_handlers=[handler],
    )


def test_the_first_cases_of_every_validation_at_its_epoch():
    writer = Writer()
    evaluator = evaluator_of(3, ThreePlaneImages(cases=2, writer=writer))
    for epoch in (10, 20):
        evaluator.run(epoch)
    tags = [(tag, step) for tag, step, _ in writer.pictures]
    assert tags == [("cases/sub-0", 10), ("cases/sub-1", 10), ("cases/sub-0", 20), ("cases/sub-1", 20)]
    assert writer.flushed == 2
    np.testing.assert_array_equal(writer.pictures[0][2], writer.pictures[2][2])
    assert (writer.pictures[0][2] != writer.pictures[1][2]).any()


def test_what_is_drawn(monkeypatch):
    drawn = []

    def draw(shown, reference, judged):
        drawn.append((shown, shown[reference], shown[judged]))
        return draw_middle_planes(shown, reference, judged)

    monkeypatch.setattr(images, "draw_middle_planes", draw)
    evaluator = evaluator_of(1, ThreePlaneImages(writer=Writer()))
    evaluator.run()
    shown, hr, sr = drawn[0]
    batch = evaluator.data_loader[0]
    assert [image.shape for image in shown.values()] == [(4, 5, 3), *[(8, 10, 6)] * 3]
    np.testing.assert_array_equal(hr, batch["hr"][0, 0])
    np.testing.assert_array_equal(shown["low resolution"], batch["lr"][0, 0])
    np.testing.assert_array_equal(sr, np.kron(batch["lr"][0, 0], np.ones((2, 2, 2))))


def test_tensorboard_can_read_it(tmp_path):
    evaluator_of(2, ThreePlaneImages(tmp_path, cases=1)).run(7)
    found = EventAccumulator(str(tmp_path), size_guidance={"images": 0}).Reload()
    assert found.Tags()["images"] == ["cases/sub-0"]
    assert [(event.step, event.width > 1000) for event in found.Images("cases/sub-0")] == [(7, True)]


def test_only_the_first_process_writes(tmp_path, monkeypatch):
    monkeypatch.setattr(idist, "get_rank", lambda: 1)
    evaluator_of(1, ThreePlaneImages(tmp_path)).run()
    assert list(tmp_path.iterdir()) == []


def test_bad_input_is_one_line(tmp_path):
    with pytest.raises(InputError, match="-1 cases"):
        ThreePlaneImages(tmp_path, cases=-1)
    with pytest.raises(InputError, match="'log_dir'"):
        ThreePlaneImages()
    line = {"case": "sub-0", "image": torch.rand(1, 4), "pred": torch.rand(1, 8), "label": torch.rand(1, 8)}
    evaluator = Engine(lambda engine, batch: batch)
    ThreePlaneImages(tmp_path).attach(evaluator)
    with pytest.raises(InputError, match=r"case sub-0: 'image' has shape \(1, 4\), but need \(C, X, Y\) or "):
        evaluator.run([[line]])


def test_an_image_of_two_axes_is_drawn_as_its_one_slice():
    writer = Writer()
    hr = torch.rand(1, 8, 12)
    item = {"case": "sub-0", "image": hr[:, ::2, ::2], "pred": hr, "label": hr}
    evaluator = Engine(lambda engine, batch: batch)
    ThreePlaneImages(writer=writer).attach(evaluator)
    evaluator.run([[item]])
    ((_, _, picture),) = writer.pictures
    assert picture.shape[1] > 4 * PANEL_PX and abs(picture.shape[0] - HEAD_PX - PANEL_PX * 12 / 8) < 20
