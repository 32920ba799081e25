"""MLflow, made ready for MONAI's handler: there, and silent."""

from __future__ import annotations

import os
from importlib import import_module

from medsr_monai.system.errors import InputError
from medsr_monai.system.optional import require

SILENT = "MLFLOW_DISABLE_TELEMETRY"


def prepare_mlflow() -> None:
    """Require MLflow, and keep it from reporting its use over the network unless the user set its variable himself.

    MONAI imports MLflow when it is imported itself, and MLflow starts its reporting client then; the variable set later
    comes too late for it, so the client is renewed.

    Raises:
        InputError: MLflow is not installed (the extra ``track``), or this version's client cannot be renewed.
    """
    mlflow = require("mlflow", "track")
    if SILENT in os.environ:
        return
    os.environ[SILENT] = "true"
    try:
        telemetry = import_module("mlflow.telemetry")
    except ModuleNotFoundError:  # older versions report nothing
        return
    if not hasattr(telemetry, "set_telemetry_client"):
        raise InputError(f"MLflow {mlflow.__version__} reports its use: start the program with {SILENT}=true")
    telemetry.set_telemetry_client()
