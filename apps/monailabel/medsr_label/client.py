"""``medsr label``: upscaled images from a MONAI Label server that runs ``apps/monailabel``, over plain HTTP."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import Any, cast
from urllib.error import HTTPError
from urllib.parse import quote, urlencode, urlsplit
from urllib.request import ProxyHandler, build_opener, getproxies

from fire.decorators import SetParseFns

from medsr_monai.system.atomic import replacing
from medsr_monai.system.errors import InputError

LOCAL_SERVER = "http://127.0.0.1:8000"
RESULT_SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".mha", ".zip")
# A server computes before it answers, and a large volume takes minutes.
TIMEOUT_S = 3600.0


@contextmanager
def _answer(server: str, path: str, timeout_s: float, fields: dict[str, str] | None = None) -> Iterator[HTTPResponse]:
    """The answer to a GET, or with fields to a POST of a form; an error status is bad input."""
    if urlsplit(server).scheme not in ("http", "https") or not urlsplit(server).hostname:
        raise InputError(f"--server {server}: must be an address such as {LOCAL_SERVER}")
    body = None if fields is None else urlencode(fields).encode()
    # A proxy for the outside world is no way to this machine.
    proxies = {} if urlsplit(server).hostname in ("127.0.0.1", "localhost", "::1") else getproxies()
    try:
        with build_opener(ProxyHandler(proxies)).open(server.rstrip("/") + path, body, timeout_s) as answer:
            yield cast(HTTPResponse, answer)
    except HTTPError as error:
        raise InputError(f"{server}: {_detail(error)}") from error
    except (OSError, HTTPException) as error:
        reason = getattr(error, "reason", None) or str(error) or type(error).__name__
        way_out = "is the server running? start one with make label-server"
        raise InputError(f"{server}: no answer ({reason}); {way_out}") from error


def _detail(error: HTTPError) -> str:
    """What the server says is wrong, in one line."""
    text = error.read(10_000).decode(errors="replace")
    try:
        said = json.loads(text)["detail"]
    except (ValueError, KeyError, TypeError):
        said = text.strip()[:200] or error.reason
    return " ".join(f"{said} (status {error.code})".split())


def server_info(server: str = LOCAL_SERVER, timeout_s: float = 60.0) -> dict[str, Any]:
    """What a server offers: its models with scale and modality, and the studies.

    Raises:
        InputError: no answer, or an answer that is none of a MONAI Label server.
    """
    with _answer(server, "/info/", timeout_s) as answer:
        try:
            said = json.loads(answer.read())
        except ValueError:
            said = None
    if not isinstance(said, dict) or not isinstance(said.get("models"), dict):
        raise InputError(f"{server}: answers, but is no MONAI Label server")
    return said


def fetch_upscaled(
    server: str,
    image: str,
    output: str | Path,
    bundle: str = "brain_mri_super_resolution",
    timeout_s: float = TIMEOUT_S,
    **settings: Any,
) -> Path:
    """Let a server upscale one of its images, and write what it sends.

    Args:
        server: its address.
        image: ID of the image: the name of a file among its studies, or a SeriesInstanceUID.
        output: the file to write; its suffix says what to ask for: a volume, or ``.zip`` for a derived DICOM series.
        bundle: name of the bundle.
        timeout_s: seconds to wait for the answer to begin, and between its parts.
        settings: ``consistency``, ``profile``, ``perception``, ``device``; those left out or None are the bundle's.

    Returns:
        The file.

    Raises:
        InputError: a server that does not answer or refuses, in its words; an output that cannot be written.
    """
    target = Path(output).expanduser()
    suffix = next((suffix for suffix in RESULT_SUFFIXES if target.name.lower().endswith(suffix)), None)
    if suffix is None:
        raise InputError(f"{output}: unknown suffix; supported are {', '.join(RESULT_SUFFIXES)}")
    if target.is_dir():
        raise InputError(f"{output}: a folder is in the way; name a file")
    given = {name: value for name, value in settings.items() if value is not None}
    path = f"/infer/{quote(bundle, safe='')}?{urlencode({'image': image, 'output': 'image'})}"
    fields = {"params": json.dumps({**given, "result_extension": suffix})}
    with _answer(server, path, timeout_s, fields) as answer:
        try:
            with replacing(target, suffix) as temporary, open(temporary, "wb") as file:
                shutil.copyfileobj(answer, file)
                expected = answer.headers.get("Content-Length")
                if expected is not None and file.tell() != int(expected):
                    got = f"{file.tell()} of {expected} bytes"
                    raise InputError(f"{server}: the answer broke off after {got}; ask again")
        except OSError as error:
            raise InputError(f"{output}: cannot be written ({error.strerror or error})") from error
    return target


@SetParseFns(output=str, image=str, server=str, bundle=str, consistency=str, profile=str, device=str)
def upscale(
    output: str,
    *,
    image: str,
    server: str = LOCAL_SERVER,
    bundle: str = "brain_mri_super_resolution",
    consistency: str | None = None,
    profile: str | None = None,
    perception: float | None = None,
    device: str | None = None,
    timeout_s: float = TIMEOUT_S,
) -> None:
    """Upscale an image on a MONAI Label server, which returns the image.

    Args:
        output: the file to write: .nii.gz, .nii, .nrrd or .mha; .zip for a derived DICOM series.
        image: ID of the image among the server's studies (``medsr label info`` lists them), or a SeriesInstanceUID.
        server: its address.
        bundle: name of the bundle on the server.
        consistency: as for ``medsr upscale``; default is the bundle's, as of the next three.
        profile: how the input was acquired.
        perception: 0 to 1.
        device: the server's.
        timeout_s: seconds to wait.
    """
    settings = {"consistency": consistency, "profile": profile, "perception": perception, "device": device}
    written = fetch_upscaled(server, image, output, bundle, timeout_s, **settings)
    print(f"{image} by {bundle}  {written}")


@SetParseFns(server=str)
def info(*, server: str = LOCAL_SERVER, timeout_s: float = 60.0) -> None:
    """List the bundles and the images of a MONAI Label server.

    Args:
        server: its address.
        timeout_s: seconds to wait.
    """
    said = server_info(server, timeout_s)
    print(f"{said.get('name', '')} {said.get('version', '')}  {server}")
    for name, model in sorted(said["models"].items()):
        scale = "x".join(f"{factor:g}" for factor in model.get("scale") or [])
        print(f"{name}  {model.get('version', '')}  scale {scale or '?'}  {model.get('modality') or 'any modality'}")
        print(
            f"    answers with: {model.get('result', 'a label map')}   settings: {json.dumps(model.get('config', {}))}"
        )
    studies = said.get("datastore", {})
    print(f"{studies.get('total', 0)} images: {', '.join(studies.get('images', [])) or 'none listed'}")
    print(said.get("description", ""))


COMMANDS = {"upscale": upscale, "info": info}
