"""Bad input ends a program with one line and status 2; anything else is a bug and shows its traceback."""

from __future__ import annotations

import logging

import pytest

from medsr_monai.system.errors import INTERRUPTED, InputError, exit_if_told, exit_with, find_input_error, said_once

MESSAGE = "scan.nii.gz: no such file"


def fail(error: BaseException) -> None:
    raise error


def fail_wrapped() -> None:
    """As MONAI's Compose and its config parser do."""
    try:
        try:
            raise InputError(MESSAGE)
        except InputError as error:
            raise RuntimeError("applying transform LoadVolumed") from error
    except RuntimeError as error:
        raise RuntimeError("Failed to evaluate") from error


def fail_while_handling() -> None:
    """A wrapper that says no `from`."""
    try:
        raise InputError(MESSAGE)
    except InputError:
        raise RuntimeError("wrapped")  # noqa: B904


@pytest.mark.parametrize(
    "function",
    [lambda: fail(InputError(MESSAGE)), fail_wrapped, fail_while_handling],
    ids=["plain", "wrapped-twice", "in-context"],
)
def test_bad_input_is_one_line_and_status_2(function, capsys):
    with pytest.raises((InputError, RuntimeError)) as wrapped:
        function()
    with pytest.raises(SystemExit) as caught:
        exit_if_told(wrapped.value)
    assert caught.value.code == 2
    out, err = capsys.readouterr()
    assert err == f"error: {MESSAGE}\n" and out == ""


@pytest.mark.parametrize("error", [ValueError("x"), RuntimeError("y"), FloatingPointError("z"), KeyError("k")])
def test_a_bug_is_left_to_its_traceback(error, capsys):
    exit_if_told(error)
    assert capsys.readouterr() == ("", "")


def run_engine(error: Exception) -> None:
    """What ignite and MONAI's StatsHandler do with an error: each logs it, one with its traceback."""
    logger = logging.getLogger("ignite.engine.engine.Trainer")
    logger.warning("before")
    try:
        raise error
    except Exception as caught:
        logger.error(f"Current run is terminating due to exception: {caught}")
        logger.exception(f"Exception: {caught}")
        raise


@pytest.mark.parametrize("configured", [True, False], ids=["configured", "last-resort"])
def test_bad_input_is_not_logged_as_well(configured, capsys, monkeypatch):
    handler = logging.StreamHandler() if configured else logging.lastResort
    monkeypatch.setattr(logging.getLogger(), "handlers", [handler] if configured else [])
    with pytest.raises(InputError), said_once():
        run_engine(InputError(MESSAGE))
    assert capsys.readouterr().err == "before\n"
    with pytest.raises(ZeroDivisionError), said_once():
        run_engine(ZeroDivisionError("a bug"))
    said = capsys.readouterr().err
    assert said.startswith("before\nCurrent run is terminating due to exception: a bug\n") and "Traceback" in said
    assert handler.filters == [], "the logs are as they were"


def test_an_interrupt_is_one_line_and_the_shell_s_status(capsys):
    with pytest.raises(SystemExit) as caught:
        exit_if_told(KeyboardInterrupt())
    assert caught.value.code == INTERRUPTED == 128 + 2
    assert capsys.readouterr() == ("", "interrupted\n")


def test_bad_input_is_found_behind_other_errors():
    assert find_input_error(None) is None
    assert find_input_error(RuntimeError("alone")) is None
    error = InputError(MESSAGE)
    assert find_input_error(error) is error
    try:
        fail_wrapped()
    except RuntimeError as wrapped:
        found = find_input_error(wrapped)
    assert isinstance(found, InputError) and isinstance(found, ValueError) and str(found) == MESSAGE


def test_exit_with_prints_and_leaves(capsys):
    with pytest.raises(SystemExit) as caught:
        exit_with(InputError("axis 2: too few voxels"))
    assert caught.value.code == 2 and capsys.readouterr().err == "error: axis 2: too few voxels\n"
