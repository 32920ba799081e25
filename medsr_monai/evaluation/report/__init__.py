"""What a run wrote, to look at: the page of an evaluation, and images side by side."""

from __future__ import annotations

from medsr_monai.evaluation.report.page import write_report
from medsr_monai.evaluation.report.three_planes import save_comparison, save_three_planes

__all__ = ["save_comparison", "save_three_planes", "write_report"]
