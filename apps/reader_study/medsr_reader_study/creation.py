"""Make a study: one blinded form per reader, and the key that only the analysis sees."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from medsr_monai.evaluation.plan import HR
from medsr_monai.evaluation.record.tables import CaseTable
from medsr_monai.system.atomic import replacing_folder
from medsr_monai.system.errors import InputError
from medsr_reader_study.answers import KEY_FILE, STUDY_FORMAT, VERSION
from medsr_reader_study.design import draw_items
from medsr_reader_study.form import BESIDE, form_html
from medsr_reader_study.questions import QUESTIONS
from medsr_reader_study.size import cropped, pack_pictures
from medsr_reader_study.views import chosen_methods, read_views

FORMS = "forms"
LAYOUTS = ("single", "side-by-side")


@dataclass(frozen=True)
class Study:
    """What was made: folder, forms and key; items a reader, and at most so many slices an item and MB a form."""

    folder: Path
    forms: list[Path]
    key: Path
    n_items: int
    n_slices: int
    form_mb: float


def create_study(
    run: str | Path,
    readers: int = 3,
    out: str | Path | None = None,
    methods: Sequence[str] | None = None,
    layout: str = "single",
    beside: str = HR,
    repeats: float = 0.1,
    seed: int = 0,
    blind_hr: bool = True,
    condition: str | None = None,
    slices: int | None = None,
) -> Study:
    """Write ``out/forms/reader_N.html`` for each reader, and ``out/key.json``.

    Args:
        run: the folder that an evaluation wrote, with pictures.
        out: a folder that does not exist or is empty; default is ``run/reader_study``.
        methods: which; default is all that have pictures.
        readers, layout, beside, repeats, seed, blind_hr, condition, slices: the options of
            ``medsr reader-study create``, whose help describes them.

    Raises:
        InputError: a bad argument, a run without pictures, or a folder that holds something.
    """
    _check(readers, layout, beside, blind_hr, slices)
    folder = Path(out) if out is not None else Path(run) / "reader_study"
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder}: holds something already, perhaps a study and its key; choose another with --out")
    views = {view.case: cropped(view) for view in read_views(run, condition)}
    read = chosen_methods(list(views.values()), methods)
    aid = beside if layout == "side-by-side" else None
    shown = [*read, HR] if blind_hr else read
    # A run that has not ended has no table yet.
    table = CaseTable.read(Path(run)) if (Path(run) / "cases.json").is_file() else None
    subjects = {} if table is None else table.subjects
    pairs = [(case, method) for case in views for method in shown]
    orders = {reader: draw_items(pairs, repeats, seed, reader) for reader in range(1, readers + 1)}
    aids = [(case, aid) for case in views] if aid is not None else []
    forms = [[(item.case, item.method) for item in items] + aids for items in orders.values()]
    packed, n_slices = pack_pictures(views, forms, slices)
    key: dict[str, Any] = {
        "format": STUDY_FORMAT,
        "version": VERSION,
        "run": Path(run).resolve().name,
        "condition": next(iter(views.values())).condition,
        "seed": seed,
        "layout": layout,
        "beside": aid,
        "slices": n_slices,
        "methods": shown,
        "reference": table.baseline if table is not None and table.baseline in read else read[0],
        "questions": QUESTIONS,
        "cases": [{"case": case, "subject": subjects.get(case, case)} for case in views],
        "readers": [{"reader": reader, "items": list(map(asdict, items))} for reader, items in orders.items()],
    }
    # The identifiers within make it differ for every seed and choice.
    key["study"] = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]
    pages = ((reader, form_html(key["study"], reader, items, views, packed, aid)) for reader, items in orders.items())
    sizes = _write(folder, key, pages)
    files = [folder / FORMS / f"reader_{reader}.html" for reader in orders]
    return Study(folder, files, folder / KEY_FILE, len(orders[1]), n_slices, max(sizes) / 1e6)


def _write(folder: Path, key: Mapping[str, Any], pages: Iterable[tuple[int, str]]) -> list[int]:
    """Write the forms one after the other, as they are made, and the key; returns the forms' bytes."""
    try:
        with replacing_folder(folder) as temporary:
            (temporary / FORMS).mkdir()
            sizes = []
            for reader, page in pages:
                sizes.append((temporary / FORMS / f"reader_{reader}.html").write_bytes(page.encode()))
            (temporary / KEY_FILE).write_text(json.dumps(key, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
            return sizes
    except OSError as error:
        raise InputError(f"{folder}: cannot write ({error.strerror or error})") from error


def _check(readers: int, layout: str, beside: str, blind_hr: bool, slices: int | None) -> None:
    for name, number, most in (("readers", readers, 1000), ("slices", 1 if slices is None else slices, 10**6)):
        if isinstance(number, bool) or not isinstance(number, int) or not 1 <= number <= most:
            raise InputError(f"--{name} {number}: need a whole number from 1 to {most}")
    if layout not in LAYOUTS:
        raise InputError(f"--layout {layout}: need {' or '.join(LAYOUTS)}")
    if beside not in BESIDE:
        raise InputError(f"--beside {beside}: need hr (the reference) or lr (the input)")
    if not isinstance(blind_hr, bool):
        raise InputError(f"--blind_hr {blind_hr}: need True or False")
