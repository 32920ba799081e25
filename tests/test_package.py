"""The package as a whole: what importing it costs, what it declares, and how its files are kept."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from importlib import import_module, metadata
from pathlib import Path
from pydoc import locate

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import medsr_monai
import medsr_reader_study as reader_study
from medsr_monai.system.errors import InputError
from medsr_monai.system.optional import require

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = {"dicom", "export", "track", "perceptual", "scale", "zarr", "fl", "evaluate", "dev", "all"}
MAX_LINES = 400


def committed_files() -> list[Path]:
    """The files that git tracks or would track; all but the usual leftovers where there is no git."""
    listing = None
    if shutil.which("git") and (ROOT / ".git").exists():
        command = ["git", "-c", f"safe.directory={ROOT}", "ls-files", "-z", "-co", "--exclude-standard"]
        listing = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if listing is not None and listing.returncode == 0:
        files = [ROOT / name for name in listing.stdout.split("\0") if name]
    else:
        leftovers = {".git", ".venv", ".train", ".whl", "results", "runs", "out", "build", "dist", "__pycache__"}
        files = [p for p in ROOT.rglob("*") if not any(part in leftovers for part in p.relative_to(ROOT).parts)]
    return [path for path in files if path.is_file()]


def text_of(path: Path) -> str | None:
    content = path.read_bytes()
    if b"\0" in content[:8192]:
        return None
    try:
        return content.decode()
    except UnicodeDecodeError:
        return None


def declared_requirements() -> list[Requirement]:
    lines = [*PROJECT["dependencies"], *(line for extra in PROJECT["optional-dependencies"].values() for line in extra)]
    return [r for r in map(Requirement, lines) if canonicalize_name(r.name) != PROJECT["name"]]


def pins() -> dict[str, Requirement]:
    lines = (line.partition("#")[0].strip() for line in (ROOT / "constraints.txt").read_text().splitlines())
    return {canonicalize_name(r.name): r for r in map(Requirement, filter(None, lines))}


def modules_loaded_by(statement: str) -> set[str]:
    code = f"import json, sys; {statement}; print(json.dumps(sorted(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    return set(json.loads(run.stdout.splitlines()[-1]))


def test_importing_the_package_is_cheap():
    loaded = modules_loaded_by("import medsr_monai")
    assert not loaded & {"torchvision", "itk", "torch", "monai"}


@pytest.mark.parametrize("module", ["medsr_monai.system.optional", "medsr_monai.bundle.commands.cli"])
def test_the_command_loads_nothing_heavy(module):
    assert not modules_loaded_by(f"import {module}") & {"torchvision", "itk", "torch", "monai", "numpy", "scipy"}


@pytest.mark.parametrize("name", reader_study.__all__)
def test_names_of_the_reader_study_are_loaded_when_asked_for(name):
    assert name in dir(reader_study)
    assert getattr(reader_study, name).__name__ == name


def public_names(module: str) -> set[str]:
    """The classes and functions that a room of the package declares; its constants stay there."""
    room = import_module(f"medsr_monai.{module}")
    found = {name: getattr(room, name) for name in room.__all__}
    return {name for name, value in found.items() if getattr(value, "__module__", "").startswith("medsr_monai.")}


@pytest.mark.parametrize("module", medsr_monai.ROOMS)
def test_public_names_are_those_that_their_room_declares(module):
    listed = medsr_monai.ROOMS[module].split()
    assert set(listed) == public_names(module) and len(set(listed)) == len(listed)
    for name in listed:
        assert name in dir(medsr_monai) and getattr(medsr_monai, name).__name__ == name
        assert locate(f"medsr_monai.{name}") is getattr(medsr_monai, name), "as MONAI finds a _target_"


def test_every_room_s_names_are_public_and_none_is_there_twice():
    names = [name for names in medsr_monai.ROOMS.values() for name in names.split()]
    assert sorted(names) == sorted(set(names)) and set(medsr_monai.__all__) == {"InputError", "__version__", *names}
    # The ground; what takes part in one flow alone; and the command.
    inner = {"system", "upscaling.convolution", "volumes.dicom", "evaluation.record", "bundle", "bundle.commands"}
    folder = Path(medsr_monai.__file__).parent
    rooms = {".".join(path.parent.relative_to(folder).parts) for path in folder.glob("*/**/__init__.py")}
    assert rooms - inner == {module for module in medsr_monai.ROOMS if not module.startswith("bundle.")}


def test_unknown_names_are_attribute_errors():
    with pytest.raises(AttributeError, match="no attribute 'upscaler'"):
        medsr_monai.upscaler  # noqa: B018  the access is the test


def test_version_has_one_source():
    assert metadata.version("medsr-monai") == medsr_monai.__version__


def test_extras_are_declared_and_all_holds_the_others():
    extras = PROJECT["optional-dependencies"]
    assert set(extras) == EXTRAS
    (everything,) = map(Requirement, extras["all"])
    assert everything.extras == EXTRAS - {"all"}


def test_pyproject_holds_ranges_and_not_pins():
    for requirement in declared_requirements():
        operators = {specifier.operator for specifier in requirement.specifier}
        assert operators and not operators & {"==", "===", "<", "<=", "~="}, requirement


def test_constraints_are_pins_within_the_ranges():
    pinned = pins()
    for pin in pinned.values():
        assert re.fullmatch(r"==[\w.]+", str(pin.specifier)), pin
    not_pinned = {"torchvision", "lpips", "tomli"}  # not testable with a CPU build of torch; only for Python 3.10
    for requirement in declared_requirements():
        name = canonicalize_name(requirement.name)
        if name in not_pinned:
            continue
        (specifier,) = pinned[name].specifier
        assert requirement.specifier.contains(specifier.version), f"{requirement} against {pinned[name]}"


def test_a_missing_extra_is_one_line_that_names_it():
    remedy = "no_such_module is not installed: pip install 'medsr-monai[dicom]'"
    with pytest.raises(InputError, match=f"^{re.escape(remedy)}$") as caught:
        require("no_such_module", "dicom")
    assert isinstance(caught.value, ImportError)


def test_a_broken_extra_says_why(tmp_path, monkeypatch):
    (tmp_path / "half_installed.py").write_text("import its_missing_part")
    (tmp_path / "misfit.py").write_text("raise RuntimeError('operator nms\\n does not exist')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(InputError, match="half_installed needs its_missing_part, which is not installed"):
        require("half_installed", "fl")
    with pytest.raises(InputError, match=r"misfit is installed but cannot be imported \(operator nms does not exist\)"):
        require("misfit", "perceptual")


def test_a_present_dependency_is_returned():
    assert require("os.path", "dev").join("a", "b") == str(Path("a", "b"))


def test_imports_keep_to_the_rooms():
    tool = shutil.which("lint-imports", path=str(Path(sys.executable).parent)) or shutil.which("lint-imports")
    if tool is None:
        pytest.skip("import-linter is not installed: pip install 'medsr-monai[dev]'")
    run = subprocess.run([tool, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr


def test_every_make_target_that_the_documents_name_exists():
    targets = set(re.findall(r"^([a-z][\w-]*):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    for document in ("README.md", "CONTRIBUTING.md"):
        code = " \n".join(re.findall(r"```.*?```|`[^`\n]+`", (ROOT / document).read_text(), flags=re.DOTALL))
        named = set(re.findall(r"\bmake ([a-z][\w-]*)", code))
        assert named and named <= targets, f"{document}: {sorted(named - targets)}"


def test_no_committed_file_names_a_folder_of_the_machine():
    machine_path = re.compile(r"(?<![\w.)}\]>*-])/(?:work|root|tmp|home)(?![\w-])")
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:120]}"
        for path in committed_files()
        for number, line in enumerate((text_of(path) or "").splitlines(), start=1)
        if path != Path(__file__).resolve() and machine_path.search(line)
    ]
    assert not found, "\n".join(found)


def test_no_module_is_longer_than_its_limit():
    lengths = {
        str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in (ROOT / "medsr_monai").rglob("*.py")
    }
    assert not {name: lines for name, lines in lengths.items() if lines > MAX_LINES}
