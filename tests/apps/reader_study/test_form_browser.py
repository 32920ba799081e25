"""A reading form in a real browser, from the disk: keyboard, pictures, resuming, download and loading."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medsr_reader_study import analyse_study, create_study
from tests.apps.reader_study.small_run import view_path, write_run

selenium = pytest.importorskip("selenium", reason="selenium is not installed")
pytestmark = pytest.mark.skipif(
    not (shutil.which("chromium") and shutil.which("chromedriver")),
    reason="chromium and chromedriver are not installed",
)
Q = ("image_quality", "diagnostic_usefulness")


def wait_for(condition: Callable[[], Any], seconds: float = 10) -> Any:
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, "the browser did not get there in time"
        time.sleep(0.02)
    return value


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--window-size=1440,900",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    folder = tmp_path_factory.mktemp("downloads")
    options.add_experimental_option("prefs", {"download.default_directory": str(folder)})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
    driver.downloads = folder
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = write_run(tmp_path_factory.mktemp("study") / "run", cases=2)
    return create_study(run, readers=1, layout="side-by-side", methods=["cubic", "sr"], repeats=0).folder


@pytest.fixture
def form(browser: Any, study: Path) -> Iterator[Any]:
    """The form as at the first visit; at the end, nothing has been said on the console."""
    browser.get((study / "forms" / "reader_1.html").as_uri())
    browser.execute_script("localStorage.clear()")
    for file in browser.downloads.iterdir():
        file.unlink()
    reload(browser)
    yield browser
    assert browser.get_log("browser") == []


def reload(browser: Any) -> None:
    browser.refresh()
    wait_for(lambda: browser.execute_script("return document.body.dataset.shown"))


def press(browser: Any, *keys: str) -> None:
    """Keys as the page hears them: the driver's own keystrokes get lost on a busy machine."""
    from selenium.webdriver.common.keys import Keys

    names = {getattr(Keys, key.upper()): key for key in ("Enter", "Tab", "Escape")}
    names |= {getattr(Keys, f"ARROW_{way.upper()}"): f"Arrow{way}" for way in ("Left", "Right", "Up", "Down")}
    script = "document.activeElement.dispatchEvent("
    script += "new KeyboardEvent('keydown', { key: arguments[0], bubbles: true, cancelable: true }))"
    for key in keys:
        browser.execute_script(script, names.get(key, key))


def begin(browser: Any) -> None:
    """Leave the guide by its button, which has the focus: a browser that is slow to give it loses the first key."""
    from selenium.webdriver.common.keys import Keys

    wait_for(lambda: browser.execute_script("return document.activeElement.id") == "begin")
    browser.switch_to.active_element.send_keys(Keys.ENTER)
    wait_for(lambda: not browser.execute_script("return document.getElementById('guide').open"))


def items(study: Path) -> list[dict]:
    return json.loads((study / "key.json").read_text())["readers"][0]["items"]


def shown(browser: Any) -> str:
    return browser.execute_script("return document.getElementById('number').textContent")


def pixels(browser: Any) -> np.ndarray:
    """Grey values of the rated slice as drawn, before it is scaled: (rows, columns)."""
    script = """const slice = panels.at(-1).slice;
    const copy = Object.assign(document.createElement("canvas"), { width: slice.width, height: slice.height });
    const context = copy.getContext("2d", { willReadFrequently: true }); // or Chromium warns on the console
    context.drawImage(slice, 0, 0);
    const data = context.getImageData(0, 0, slice.width, slice.height);
    return [slice.height, slice.width, ...data.data.filter((_, i) => i % 4 === 0)];"""
    rows, columns, *values = browser.execute_script(script)
    return np.array(values).reshape(rows, columns)


def chosen(browser: Any) -> list[str]:
    return browser.execute_script("return [...document.querySelectorAll('.answer.chosen')].map((l) => l.dataset.value)")


def downloaded(browser: Any) -> Path:
    browser.execute_script("document.getElementById('download').click()")
    file = browser.downloads / "reader_1.json"
    wait_for(file.exists)
    return file


def test_answers_by_keyboard_survive_a_reload(form, study):
    from selenium.webdriver.common.keys import Keys

    assert form.execute_script("return document.getElementById('guide').open")
    begin(form)
    press(form, "4", "2")
    assert chosen(form) == ["4", "2"] and shown(form) == "Item 1 of 6"
    press(form, Keys.ENTER)
    press(form, Keys.TAB, "5")  # the second question first
    assert chosen(form) == ["5"]
    press(form, Keys.ARROW_RIGHT, "1", "1", Keys.ARROW_LEFT)
    reload(form)
    assert shown(form) == "Item 2 of 6" and chosen(form) == ["5"]
    assert not form.execute_script("return document.getElementById('guide').open")
    assert "2 of 6 answered" in form.execute_script("return document.getElementById('count').textContent")
    content = json.loads(downloaded(form).read_text())
    order = [item["item"] for item in items(study)]
    assert content["answers"] == [
        {"item": order[0], Q[0]: 4, Q[1]: 2},
        {"item": order[1], Q[1]: 5},
        {"item": order[2], Q[0]: 1, Q[1]: 1},
    ]


def test_a_finished_form_is_what_the_analysis_reads(form, study):
    from selenium.webdriver.common.keys import Keys

    begin(form)
    for _ in range(6):
        press(form, "3", "4", Keys.ENTER)
    assert "All items are answered" in form.execute_script("return document.getElementById('message').textContent")
    analysis = analyse_study(study, [downloaded(form)])
    assert {row["mean"] for row in analysis["methods"] if row["question"] == Q[0]} == {3}
    assert {row["mean"] for row in analysis["methods"] if row["question"] == Q[1]} == {4}


def test_a_file_of_answers_is_loaded_and_a_foreign_one_is_not(form, study, tmp_path):
    key = json.loads((study / "key.json").read_text())
    order = [item["item"] for item in items(study)]
    content = {"format": "medsr-reader-answers", "version": 1, "study": key["study"], "reader": 1}
    answers = [{"item": order[0], Q[0]: 5, Q[1]: 1, "note": "<b>"}, {"item": order[1], Q[0]: 2}]
    for name, change in {
        "foreign": {"study": "0123"},
        "edited": {"answers": [{"item": order[0], Q[0]: 7}]},
        "mine": {},
    }.items():
        file = tmp_path / f"{name}.json"
        file.write_text(json.dumps({**content, "answers": answers, **change}))
        form.find_element("id", "file").send_keys(str(file))
        wait_for(lambda name=name: name in form.execute_script("return document.getElementById('message').textContent"))
        refused = "nothing was loaded" in form.execute_script("return document.getElementById('message').textContent")
        assert refused == (name != "mine")
        expected = [] if name != "mine" else ["2"]
        assert chosen(form) == expected
    assert shown(form) == "Item 2 of 6"
    assert json.loads(downloaded(form).read_text())["answers"] == answers


def test_pictures_slices_and_grey_window(form, study):
    from selenium.webdriver.common.keys import Keys

    begin(form)
    meant = items(study)[0]
    file = view_path(study.parent, meant["case"])
    with np.load(file) as content:
        stack = content[f"stack/{meant['method']}"]
    assert np.array_equal(pixels(form), stack[2])
    press(form, Keys.ARROW_UP)
    assert np.array_equal(pixels(form), stack[3])
    press(form, Keys.ARROW_UP, Keys.ARROW_DOWN, Keys.ARROW_DOWN)  # the last slice stays the last
    assert np.array_equal(pixels(form), stack[1])
    form.execute_script("const w = document.getElementById('width'); w.value = 50; w.dispatchEvent(new Event('input'))")
    expected = np.clip((stack[1] - 2.55 * 25) * 2, 0, 255)
    assert np.abs(pixels(form) - expected).max() <= 0.5 + 1e-6
    press(form, "r")
    assert np.array_equal(pixels(form), stack[1])


def test_dragging_changes_the_window_and_the_wheel_the_slice(form):
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.actions.wheel_input import ScrollOrigin
    from selenium.webdriver.common.keys import Keys

    begin(form)
    panel = form.find_element("css selector", ".panel canvas")
    ActionChains(form).click_and_hold(panel).move_by_offset(60, -40).release().perform()
    view = form.execute_script("return view")
    assert view["width"] > 110 and view["level"] < 45
    ActionChains(form).scroll_from_origin(ScrollOrigin.from_element(panel), 0, 100).perform()
    wait_for(lambda: form.execute_script("return view.slice") < 2)
    ActionChains(form).send_keys(Keys.ARROW_RIGHT).perform()
    assert form.execute_script("return [view.width, view.level]") == [100, 50]  # each item starts alike


def test_panels_keep_the_bodys_proportions_and_both_themes_differ(form, tmp_path):
    """20 rows of 1.2 mm by 16 columns of 1 mm: as high as 24 to 16, beside each other, at one scale."""
    ratios = form.execute_script("return panels.map((p) => p.extent[1] / p.extent[0])")
    scales = form.execute_script("return panels.map((p) => p.scale)")
    assert ratios == pytest.approx([24 / 16] * 2) and scales[0] == pytest.approx(scales[1])
    colours = set()
    for _ in range(2):
        form.execute_script("document.getElementById('theme').click()")
        colours.add(form.execute_script("return getComputedStyle(document.body).backgroundColor"))
    assert len(colours) == 2
    assert form.execute_script("return document.documentElement.scrollWidth <= innerWidth")
    picture = tmp_path / "form.png"
    assert form.save_screenshot(str(picture)) and picture.stat().st_size > 10_000
