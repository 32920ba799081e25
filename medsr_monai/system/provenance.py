"""The provenance of a result: versions, device, time, and digests of files and settings."""

from __future__ import annotations

import hashlib
import json
import platform
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import ignite
import monai
import numpy as np
import torch

from medsr_monai.system.errors import InputError
from medsr_monai.system.json_files import without_infinity
from medsr_monai.system.version import __version__

CHUNK_BYTES = 2**20


def canonical_json(content: Any) -> str:
    """Write JSON in one canonical form: sorted keys, no spaces; ``str`` converts what JSON lacks."""
    plain = without_infinity(json.loads(json.dumps(content, default=str)))
    return json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def file_digest(path: Path) -> str:
    """Compute the SHA-256 of a file, or of a folder from the digests of its files in the order of their names."""
    digest = hashlib.sha256()
    try:
        if path.is_dir():
            for file in sorted(file for file in path.rglob("*") if file.is_file()):
                digest.update(file_digest(file).encode())
            return digest.hexdigest()
        with open(path, "rb") as stream:
            while chunk := stream.read(CHUNK_BYTES):
                digest.update(chunk)
    except OSError as error:
        raise InputError(f"{path}: cannot read: {error.strerror or error}") from error
    return digest.hexdigest()


def now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def versions() -> dict[str, str]:
    modules = {"torch": torch, "monai": monai, "ignite": ignite, "numpy": np}
    found = {name: str(module.__version__) for name, module in modules.items()}
    return {"python": platform.python_version(), "medsr_monai": __version__, **found}


def device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return f"{device.type}: {torch.cuda.get_device_name(device)}"
    return f"{device.type}: {platform.processor() or platform.machine()}"
