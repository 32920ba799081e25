"""``medsr reader-study create`` and ``analyse``: parse, call, print."""

from __future__ import annotations

from pathlib import Path

from fire.decorators import SetParseFn, SetParseFns


@SetParseFns(run=str, out=str, methods=str, layout=str, beside=str, condition=str)
def create(
    run: str,
    *,
    readers: int = 3,
    out: str | None = None,
    methods: str | None = None,
    layout: str = "single",
    beside: str = "hr",
    repeats: float = 0.1,
    seed: int = 0,
    blind_hr: bool = True,
    condition: str | None = None,
    slices: int | None = None,
) -> None:
    """Make blinded reading forms from the pictures of an evaluation.

    Args:
        run: the folder that ``medsr evaluate`` wrote, with pictures.
        readers: how many; each gets a form with an order of its own.
        out: a new folder; default is ``reader_study`` within the run.
        methods: which, as ``cubic,sr,sr@1``; default is all that have pictures.
        layout: ``single``, or ``side-by-side`` with the reference or the input beside each picture.
        beside: ``hr``, the reference, or ``lr``, the input.
        repeats: share of the pictures that are shown twice, from 0 to 0.5.
        seed: of the orders.
        blind_hr: show the high-resolution image too, not named, as one more picture to rate.
        condition: which acquisition, where there are pictures of several.
        slices: the most of an item, evenly spaced; default is as many as keep a form below 60 MB, but not below 8.
    """
    from medsr_reader_study.creation import create_study

    names = [name.strip() for name in methods.split(",") if name.strip()] if methods is not None else None
    study = create_study(run, readers, out, names, layout, beside, repeats, seed, blind_hr, condition, slices)
    for form in study.forms:
        print(f"form   {form}")
    print(f"key    {study.key}  (tells which picture is which: keep it from the readers)")
    print(f"{study.n_items} items a reader of at most {study.n_slices} slices, {study.form_mb:.1f} MB a form")


@SetParseFn(str)
def analyse(study: str, *answers: str, out: str | None = None, reference: str | None = None) -> None:
    """Analyse the answers of a study's readers.

    Args:
        study: the folder that ``create`` wrote, or its key.json.
        answers: the files that the forms saved, one a reader.
        out: the .json file to write, with tables beside it; default is ``analysis.json`` in the study.
        reference: the method to compare the others with; default is the evaluation's baseline.
    """
    from medsr_reader_study.analysis import analyse_study
    from medsr_reader_study.tables import analysis_text, write_analysis

    analysis = analyse_study(study, answers, reference)
    folder = Path(study) if Path(study).is_dir() else Path(study).parent
    written = write_analysis(analysis, out if out is not None else folder / "analysis.json")
    print(analysis_text(analysis))
    print("\nwritten  " + "\n         ".join(str(file) for file in written))


COMMANDS = {"create": create, "analyse": analyse}
