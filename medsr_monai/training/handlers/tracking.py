"""Prepare MLflow for MONAI's handler: check that it is installed, and turn off its usage reports."""

from __future__ import annotations

import os
from importlib import import_module

from medsr_monai.system.errors import InputError
from medsr_monai.system.optional import require

SILENT = "MLFLOW_DISABLE_TELEMETRY"


def prepare_mlflow() -> None:
    """Require MLflow and turn off its usage reports over the network, unless the user has set its variable.

    MONAI imports MLflow, which then starts its reporting client. The variable is set after that, so the client is
    renewed.

    Raises:
        InputError: MLflow is not installed (the extra ``track``), or the client of this version cannot be renewed.
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
        raise InputError(f"MLflow {mlflow.__version__} reports its usage; start the program with {SILENT}=true")
    telemetry.set_telemetry_client()
