"""The documentation says what is true: its Python snippets run, its JSON fits, its links lead somewhere."""

from __future__ import annotations

import json
import re
from pathlib import Path
from pydoc import locate

import pytest
from monai.bundle import ConfigParser

ROOT = Path(__file__).parent.parent
CONFIGS = ROOT / "bundles" / "brain_mri_super_resolution" / "configs"
PAGES = sorted(
    [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("bundles/*/docs/*.md")], key=lambda page: str(page)
)
SNIPPET = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
JSON = re.compile(r"^```json\n(.*?)^```", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
LONGEST_PROSE = 119
LINK = re.compile(r"\]\((?!https?://|#)([^)#]+)")


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", [p for p in PAGES if SNIPPET.search(p.read_text())], ids=name)
def test_python_snippets_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All snippets of a page share their names, from top to bottom."""
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for snippet in SNIPPET.findall(page.read_text()):
        exec(compile(snippet, str(page), "exec"), names)


@pytest.mark.parametrize("page", [p for p in PAGES if JSON.search(p.read_text())], ids=name)
def test_json_snippets_name_what_there_is(page: Path) -> None:
    """Overlays for a bundle: valid JSON, keys that the bundle's training has, and targets that can be imported."""
    parser = ConfigParser()
    parser.read_config([str(CONFIGS / "train.json"), str(CONFIGS / "train_gan.json")])
    for snippet in JSON.findall(page.read_text()):
        overlay = json.loads(snippet)
        assert [key for key in overlay if key not in parser] == []
        targets = re.findall(r'"_target_": "([^"]+)"', snippet)
        assert targets and [target for target in targets if locate(target) is None] == []


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_to_files(page: Path) -> None:
    missing = [link for link in LINK.findall(page.read_text()) if not (page.parent / link).exists()]
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_prose_ends_before_column_120(page: Path) -> None:
    """Outside of code blocks and tables."""
    lines = CODE.sub("", page.read_text()).splitlines()
    assert [line for line in lines if len(line) > LONGEST_PROSE and not line.startswith("|")] == []
