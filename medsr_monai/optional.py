"""Import an optional dependency, or say which extra installs it."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from medsr_monai.errors import InputError


class MissingExtraError(InputError, ImportError):
    """An optional dependency is absent: an input error with a remedy, and an ImportError to those who catch that."""


def require(module: str, extra: str) -> ModuleType:
    """Import an optional dependency where it is used.

    Args:
        module: dotted name to import, e.g. ``"pydicom"`` or ``"onnxruntime"``.
        extra: the extra of this distribution that installs it, e.g. ``"dicom"``.

    Returns:
        The imported module.

    Raises:
        MissingExtraError: the module is not installed, or is installed and fails to import; one line with the remedy.
    """
    remedy = f"pip install 'medsr-monai[{extra}]'"
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        top = module.partition(".")[0]
        if error.name is None or error.name.partition(".")[0] != top:
            raise MissingExtraError(f"{module} needs {error.name}, which is not installed: {remedy}") from error
        raise MissingExtraError(f"{module} is not installed: {remedy}") from error
    except Exception as error:  # a binary that does not fit the installed torch fails with anything
        reason = " ".join(str(error).split()) or type(error).__name__
        raise MissingExtraError(f"{module} is installed but cannot be imported ({reason}): {remedy}") from error
