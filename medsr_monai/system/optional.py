"""Import an optional dependency, or name the extra that installs it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from types import ModuleType
from typing import Any

from medsr_monai.system.errors import InputError


class MissingExtraError(InputError, ImportError):
    """A missing optional dependency: an InputError with the way out, and also an ImportError."""


def require(module: str, extra: str) -> ModuleType:
    """Import an optional dependency where it is used.

    Args:
        module: dotted name to import, e.g. ``"pydicom"`` or ``"onnxruntime"``.
        extra: the extra of this distribution that installs it, e.g. ``"dicom"``.

    Raises:
        MissingExtraError: the module is not installed, or its import fails; one line with the way out.
    """
    way_out = f"pip install 'medsr-monai[{extra}]'"
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        top = module.partition(".")[0]
        if error.name is None or error.name.partition(".")[0] != top:
            raise MissingExtraError(f"{module} needs {error.name}, which is not installed: {way_out}") from error
        raise MissingExtraError(f"{module} is not installed: {way_out}") from error
    except Exception as error:  # a binary that does not fit the installed torch may raise any exception
        reason = " ".join(str(error).split()) or type(error).__name__
        raise MissingExtraError(f"{module} is installed but cannot be imported ({reason}): {way_out}") from error


def load_lazily(
    package: str, namespace: dict[str, Any], homes: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Make a package's ``__getattr__`` and ``__dir__``, which load a public name on first use (PEP 562).

    ``namespace`` is the package's ``globals()``; ``homes`` gives the module within it that defines each name.
    """

    def load(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = namespace[name] = getattr(import_module(f"{package}.{homes[name]}"), name)
        return value

    def names() -> list[str]:
        return sorted({*namespace, *homes})

    return load, names
