"""Which pictures of an evaluation a study shows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from medsr_monai.evaluation.plan import HR, LR
from medsr_monai.evaluation.record.folder import ResultFolder
from medsr_monai.evaluation.record.views import View
from medsr_monai.system.errors import InputError


def read_views(run: str | Path, condition: str | None = None) -> list[View]:
    """All cases of an evaluation that have pictures, of one condition, which must be chosen where there are several."""
    folder = Path(run) / "views"
    views = [View.read(file) for file in ResultFolder(run).views()]
    if not views:
        raise InputError(f"{folder}: no pictures (*.npz); evaluate with pictures of at least one case")
    conditions = sorted({view.condition for view in views})
    if condition is None and len(conditions) > 1:
        raise InputError(f"{folder}: pictures of {', '.join(conditions)}; choose one with --condition")
    if condition is not None and condition not in conditions:
        raise InputError(f"{folder}: no pictures of condition {condition}; there are {', '.join(conditions)}")
    chosen = [view for view in views if condition in (None, view.condition)]
    for name, number in Counter(view.case for view in chosen).items():
        if number > 1:
            raise InputError(f"{folder}: case {name} has several files of pictures; remove all but one")
    return chosen


def chosen_methods(views: Sequence[View], methods: Sequence[str] | None) -> list[str]:
    """The methods to be read: those asked for, or all; every case must have each."""
    wanted = list(methods) if methods is not None else views[0].methods
    if not wanted:
        raise InputError("no method to read; name some with --methods")
    for method in wanted:
        if wanted.count(method) > 1:
            raise InputError(f"--methods: {method} is named twice")
        if method in (LR, HR):
            raise InputError(f"--methods: {method} is no method; for a hidden reference there is --blind_hr")
        for view in views:
            if method not in view.methods:
                known = ", ".join(view.methods) or "none"
                raise InputError(f"--methods: case {view.case} has no pictures of {method}; there are {known}")
    return wanted
