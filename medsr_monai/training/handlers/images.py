"""Pictures of validation cases in TensorBoard."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import ignite.distributed as idist
import numpy as np
from ignite.engine import Engine, Events
from torch import Tensor

from medsr_monai.geometry import cubic_bspline
from medsr_monai.system.errors import InputError
from medsr_monai.training.handlers.middle_planes import draw_middle_planes, pixels

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class ThreePlaneImages:
    """One picture per case and validation: the input, cubic B-spline, the result, the reference and the error.

    Rows are the middle axial, coronal and sagittal slices; an image of two axes has one row. The input has its own
    voxel size. TensorBoard shows the pictures under ``cases/CASE`` at the trainer's epoch, which the evaluator gets
    from MONAI's ``ValidationHandler``.

    Args:
        log_dir: TensorBoard's folder, which may be that of MONAI's ``TensorBoardStatsHandler``.
        cases: number of cases, the first ones of each validation.
        writer: used instead of a new writer in ``log_dir``.

    Raises:
        InputError: the number of cases is negative, or there is neither a folder nor a writer.
    """

    def __init__(self, log_dir: str | Path | None = None, cases: int = 2, writer: SummaryWriter | None = None) -> None:
        if cases < 0:
            raise InputError(f"pictures of {cases} cases: must be 0 or more")
        if log_dir is None and writer is None:
            raise InputError("pictures: no folder to write to; give 'log_dir'")
        self.log_dir = log_dir
        self.cases = cases
        self.writer = writer
        self.drawn = 0

    def attach(self, evaluator: Engine) -> None:
        """Draw while the evaluator runs; in a distributed run, rank 0 draws the first of its own cases."""
        if idist.get_rank() != 0:
            return
        evaluator.add_event_handler(Events.STARTED, self.start)
        evaluator.add_event_handler(Events.ITERATION_COMPLETED, self.add)
        evaluator.add_event_handler(Events.COMPLETED, self.flush)

    def start(self, evaluator: Engine) -> None:
        """Start again with the first case."""
        self.drawn = 0

    def add(self, evaluator: Engine) -> None:
        """Draw the decollated cases of one iteration: ``image`` (the measurement), ``pred`` and ``label``."""
        state: Any = evaluator.state
        for item, output in zip(state.batch, state.output, strict=True):
            if self.drawn >= self.cases:
                return
            lr, sr, hr = (output[key].detach().as_subclass(Tensor).float() for key in ("image", "pred", "label"))
            for name, image in {"image": lr, "pred": sr, "label": hr}.items():
                if image.ndim not in (3, 4):
                    shape = f"'{name}' has shape {tuple(image.shape)}"
                    raise InputError(f"case {item['case']}: {shape}, but need (C, X, Y) or (C, X, Y, Z)")
            cubic = cubic_bspline(lr[None], hr.shape[1:])[0]
            shown = (image[0].cpu().numpy() for image in (lr, cubic, sr, hr))
            self.draw(str(item["case"]), state.epoch, *(np.atleast_3d(image) for image in shown))
            self.drawn += 1

    def draw(self, case: str, epoch: int, lr: np.ndarray, cubic: np.ndarray, sr: np.ndarray, hr: np.ndarray) -> None:
        """Write the picture of one case.

        Args:
            case: its name.
            epoch: the global step.
            lr: (X_lr, Y_lr, Z_lr) in RAS order.
            cubic: (X, Y, Z).
            sr: (X, Y, Z).
            hr: (X, Y, Z).
        """
        images = {"low resolution": lr, "cubic B-spline": cubic, "super-resolution": sr, "reference": hr}
        figure = draw_middle_planes(images, reference="reference", judged="super-resolution")
        self._writer().add_image(f"cases/{case}", pixels(figure), global_step=epoch, dataformats="HWC")

    def _writer(self) -> SummaryWriter:
        if self.writer is None:
            from torch.utils.tensorboard import SummaryWriter

            self.writer = SummaryWriter(str(self.log_dir))
        return self.writer

    def flush(self, evaluator: Engine) -> None:
        """Flush the writer, so that TensorBoard shows the pictures."""
        if self.writer is not None:
            self.writer.flush()
