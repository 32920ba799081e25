"""The page in a real browser: no error in its console, no request, and every control does what it says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from medsr_monai.evaluation.report import write_report
from tests.evaluation.report.browser import chromium, emulate, requested
from tests.evaluation.report.runs import Layout, write_run

PICTURE = "return document.getElementById('view-canvas').toDataURL()"
IS_DRAWN = "return document.getElementById('view-stage').getAttribute('aria-busy') === 'false'"
METHODS_IN_ORDER = """
return [...document.querySelectorAll('#summary [data-condition="0"] tbody tr')]
  .map((row) => row.cells[0].innerText.split('\\n')[0].trim());
"""
CONDITIONS_SHOWN = """
return [...document.querySelectorAll('[data-condition]')]
  .filter((part) => !part.hidden).map((part) => part.dataset.condition);
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with chromium(tmp_path_factory.mktemp("profile")) as driver:
        run = write_run(tmp_path_factory.mktemp("run"), Layout(cases=("<script>alert(1)</script>", "b"), subjects="ab"))
        driver.page = write_report(run).as_uri()
        yield driver


@pytest.fixture
def page(browser: Any) -> Any:
    """The page, freshly loaded on a desktop, its first picture drawn."""
    from selenium.webdriver.support.ui import WebDriverWait

    emulate(browser, 1280, 900)
    requested(browser)  # what the browser's own first tab asked for
    browser.get_log("browser")
    browser.get(browser.page)
    WebDriverWait(browser, 10).until(lambda driver: driver.execute_script(IS_DRAWN))
    return browser


def element(page: Any, name: str) -> Any:
    return page.find_element("id", name)


def click(page: Any, button: Any) -> None:
    """Click on what may lie under the bar at the top until it is moved to the middle."""
    page.execute_script("arguments[0].scrollIntoView({block: 'center', inline: 'center'})", button)
    button.click()


def choose(page: Any, name: str, value: int) -> None:
    from selenium.webdriver.support.ui import Select

    Select(element(page, name)).select_by_index(value)


def test_the_console_is_silent_and_the_network_is_not_asked(page: Any) -> None:
    for name in ("condition", "matrix-measure", "view-case"):
        choose(page, name, 1)
    for button in page.find_elements("css selector", "table.sortable button"):
        if button.is_displayed():
            click(page, button)
    assert page.get_log("browser") == []
    asked = requested(page)
    assert page.page in asked
    assert all(url == page.page or url.startswith("data:") for url in asked)
    assert page.title == "Super-resolution evaluation: toy_bundle 0.3.0"


def test_the_console_log_would_hold_errors(page: Any) -> None:
    page.execute_script("console.error('seen')")
    (entry,) = page.get_log("browser")
    assert "seen" in entry["message"]


def test_slice_slider_and_divider_move_the_picture(page: Any) -> None:
    from selenium.webdriver.common.keys import Keys

    seen = [page.execute_script(PICTURE)]
    for name in ("view-slice", "view-divider"):
        element(page, name).send_keys(Keys.ARROW_RIGHT)
        seen.append(page.execute_script(PICTURE))
    assert len(set(seen)) == 3
    assert "slice 5 of 6" in element(page, "view-status").text
    assert "divider at 51 %" in element(page, "view-status").text


def test_the_stage_answers_the_keyboard_and_the_pointer(page: Any) -> None:
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    stage, divider = element(page, "view-stage"), element(page, "view-divider")
    picture = page.execute_script(PICTURE)
    stage.send_keys(Keys.HOME)
    assert "slice 1 of 6" in element(page, "view-status").text
    stage.send_keys(Keys.ARROW_UP + Keys.ARROW_LEFT)
    assert "slice 2 of 6" in element(page, "view-status").text and divider.get_attribute("value") == "48"
    assert page.execute_script(PICTURE) != picture
    ActionChains(page).move_to_element_with_offset(stage, stage.size["width"] // 4, 0).click().perform()
    assert abs(int(divider.get_attribute("value")) - 75) <= 1
    stage.send_keys("f")
    left_hidden = page.execute_script("return document.getElementById('view-tag-left').hidden")
    assert divider.get_attribute("value") == "0" and left_hidden
    one = page.execute_script(PICTURE)
    click(page, element(page, "view-flip"))
    assert divider.get_attribute("value") == "100" and page.execute_script(PICTURE) != one


def test_images_and_cases_can_be_chosen(page: Any) -> None:
    from selenium.webdriver.support.ui import Select, WebDriverWait

    names = [option.text for option in Select(element(page, "view-left")).options]
    assert names[0] == "input (LR)" and names[-1] == "HR, the truth" and "network, perception 1" in names
    before = page.execute_script(PICTURE)
    choose(page, "view-left", len(names) - 1)
    WebDriverWait(page, 10).until(lambda driver: driver.execute_script(PICTURE) != before)
    before = page.execute_script(PICTURE)
    choose(page, "view-case", 1)
    WebDriverWait(page, 10).until(lambda driver: driver.execute_script(PICTURE) != before)
    assert element(page, "view-status").text.startswith("b, axial")
    assert Select(element(page, "view-left")).first_selected_option.text == "HR, the truth"  # kept over the cases


def test_the_table_sorts_and_shows_differences(page: Any) -> None:
    psnr = page.find_element("css selector", "#summary [data-condition='0'] thead th:nth-child(2) button")
    file_order = page.execute_script(METHODS_IN_ORDER)
    click(page, psnr)
    ascending = page.execute_script(METHODS_IN_ORDER)
    click(page, psnr)
    descending = page.execute_script(METHODS_IN_ORDER)
    assert ascending[0] == "linear" and ascending[-1] == "sr"
    assert descending == ascending[::-1] and sorted(file_order) == sorted(ascending)
    head = psnr.find_element("xpath", "..")
    assert head.get_attribute("aria-sort") == "descending"
    cell = page.find_element("css selector", "#summary [data-condition='0'] tbody td")
    assert not cell.text.startswith("+")
    click(page, page.find_element("css selector", "input[value=difference]"))
    assert cell.text.startswith("+")


def test_one_condition_is_shown_at_a_time(page: Any) -> None:
    assert set(page.execute_script(CONDITIONS_SHOWN)) == {"0"}
    choose(page, "condition", 1)
    assert set(page.execute_script(CONDITIONS_SHOWN)) == {"1"}


@pytest.mark.parametrize("dark", [False, True])
def test_it_fits_a_phone_in_both_colours(page: Any, dark: bool, tmp_path: Path) -> None:
    emulate(page, 400, 800, dark)
    page.get(page.page)
    wide = page.execute_script("return document.documentElement.scrollWidth")
    assert wide <= 400
    background = page.execute_script("return getComputedStyle(document.body).backgroundColor")
    brightness = sum(int(part) for part in background[4:-1].split(","))
    assert (brightness < 150) == dark
    assert page.save_screenshot(str(tmp_path / "phone.png"))
    assert (tmp_path / "phone.png").stat().st_size > 10_000


def test_text_stands_out_from_its_background(page: Any) -> None:
    """Contrast of at least 4.5 to 1 for the text's colours, on the cards in both schemes (WCAG 2, level AA)."""
    colours = (
        "const s = getComputedStyle(document.documentElement); return Object.fromEntries(['ink','soft','accent','good',"
        "'bad','card','page','tint'].map(n => [n, s.getPropertyValue('--' + n).trim()]))"
    )

    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    for dark in (False, True):
        emulate(page, 1280, 900, dark)
        found = {name: luminance(colour) for name, colour in page.execute_script(colours).items()}
        for text in ("ink", "soft", "accent", "good", "bad"):
            for ground in ("card", "tint"):
                low, high = sorted((found[text], found[ground]))
                assert (high + 0.05) / (low + 0.05) >= 4.5, (text, ground, dark)
