"""What a client asks for, checked before anything is read or computed."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi import HTTPException
from monailabel.interfaces.datastore import Datastore

from medsr_monai.bundle.settings import check_settings
from medsr_monai.system.device import usable_device
from medsr_monai.system.errors import InputError
from medsr_monai.upscaling import consistency_regularisation
from medsr_monai.volumes import WRITABLE_SUFFIXES

SERIES_SUFFIX = ".zip"
RESULT_SUFFIXES = (*WRITABLE_SUFFIXES, SERIES_SUFFIX)
SETTINGS = ("consistency", "profile", "perception", "device", "series", "uneven")
UNEVEN = ("refuse", "resample")
# What MONAI Label and its stock clients add to every request, about label maps and their own book-keeping.
LABEL_KEYS = ("save_label", "label_tag", "label_info", "restore_label_idx")
RESULT_KEYS = ("result_dtype", "result_compress", "result_write_to_file")
REQUEST_KEYS = ("model", "image", "description", "session", "client_id", "user", "logging", "timeout")
STOCK_KEYS = frozenset((*LABEL_KEYS, *RESULT_KEYS, *REQUEST_KEYS))


@dataclass(frozen=True)
class Image:
    """An image to upscale: what the client calls it, and where it lies."""

    name: str
    path: Path


def existing_image(request: Mapping[str, Any], studies: Datastore, private: Path) -> Image:
    """The image that a request names: one of the studies, or what the client uploaded with the request.

    An uploaded file arrives as a path within the server's private folder; any other path is the name of no study.
    """
    named = request.get("image")
    if not isinstance(named, str) or not named or "\0" in named:
        raise HTTPException(404, "image: a request needs the ID of an image, or a file")
    if os.path.isabs(named):
        uploaded = Path(os.path.realpath(named))
        if uploaded.is_relative_to(private) and uploaded.exists():
            return Image("the uploaded image", uploaded)
    path = studies.get_image_uri(named)
    if not path:
        raise HTTPException(404, f"image '{named}': not among the studies")
    return Image(named, Path(path))


def checked_request(request: Mapping[str, Any], offered: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a request as the bundle's workflow takes them: of those `offered`, and `result_extension`.

    Numbers may come as text, as from the option tables of the stock clients.

    Raises:
        InputError: a parameter that this bundle does not have, or a value that cannot serve.
    """
    unknown = sorted(set(request) - STOCK_KEYS - {"result_extension", *offered})
    if unknown:
        raise InputError(f"parameter '{unknown[0]}': unknown; there are result_extension, {', '.join(offered)}")
    given = {name: request[name] for name in offered if request.get(name) is not None}
    if "perception" in given:
        if isinstance(given["perception"], str):
            with suppress(ValueError):
                given["perception"] = float(given["perception"])
        check_settings(perception=given["perception"])
    if "profile" in given:
        if not isinstance(given["profile"], str):  # a list would be one profile an axis, or a client's menu sent back
            raise InputError(f"profile '{given['profile']}': must be one word")
        check_settings(profile=given["profile"])
    if "consistency" in given:
        consistency_regularisation(given["consistency"])
    if "device" in given:
        if not isinstance(given["device"], str):
            raise InputError(f"device '{given['device']}': must be one word, e.g. cpu or cuda:0")
        usable_device(given["device"])
    if given.get("uneven", "refuse") not in UNEVEN:
        raise InputError(f"uneven '{given['uneven']}': choose one of {', '.join(UNEVEN)}")
    if not isinstance(given.get("series", ""), str) or given.get("series") == "all":
        raise InputError(f"series '{given['series']}': must be one UID or number, as text; an answer holds one image")
    suffix = request.get("result_extension") or ".nii.gz"
    if suffix not in RESULT_SUFFIXES:
        raise InputError(f"result_extension '{suffix}': choose one of {', '.join(RESULT_SUFFIXES)}")
    return {**given, "result_extension": suffix}
