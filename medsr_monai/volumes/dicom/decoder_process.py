"""Decodes compressed frames in a process of its own; run as a script by `medsr_monai.volumes.dicom.decoding`.

It imports nothing of this package, whose imports take seconds. A request is a line of JSON and the frame's bytes, an
answer a line of JSON and the decoded pixels' bytes.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from contextlib import suppress
from typing import IO, Any

MAX_BYTES = 1 << 32
"""Memory that decoding one frame may take, address space included."""


def decode(request: dict[str, Any], data: bytes) -> Any:
    """Decode a frame's codestream with whichever of pydicom's plugins can; a request is its syntax and options."""
    from pydicom.encaps import encapsulate
    from pydicom.pixels import get_decoder

    one: dict[str, Any] = {"number_of_frames": 1, "samples_per_pixel": 1, "pixel_keyword": "PixelData"}
    return get_decoder(request["syntax"]).as_array(encapsulate([data]), index=0, **one, **request["options"])[0]


def problem(error: BaseException) -> dict[str, str]:
    """Say what went wrong: no decoder, none for data of this kind, or damaged data; and the kind of error, never its
    text."""
    text = str(error).lower()
    if isinstance(error, NotImplementedError) or ("missing" in text and "dependenc" in text):
        what = "missing"
    else:  # after its first line pydicom quotes each plugin; 12-bit JPEG is what none of those we bring can read
        said = text.splitlines()[1:]
        what = "unsupported" if said and all("not support" in line for line in said) else "damaged"
    return {"problem": what, "kind": type(error).__name__}


def answer(request: dict[str, Any], data: bytes, out: IO[bytes]) -> None:
    """Decode, and write the array or what went wrong."""
    try:
        array = decode(request, data)
        array = array.astype(array.dtype.newbyteorder("<"), order="C")
        head: dict[str, Any] = {"dtype": array.dtype.str, "shape": array.shape}
        payload = array.tobytes()
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # a panic of a decoder in Rust is no Exception
        head, payload = problem(error), b""
    out.write(json.dumps({**head, "n_bytes": len(payload)}).encode() + b"\n" + payload)
    out.flush()


def main() -> None:
    """Answer until the other end closes."""
    sys.path.pop(0)  # this folder, in which the script lies
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with suppress(ImportError, ValueError, OSError):  # not everywhere
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MAX_BYTES, MAX_BYTES))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with os.fdopen(os.dup(sys.stdout.fileno()), "wb") as out, open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())  # where decoders print to, if they do
        while line := sys.stdin.buffer.readline():
            request = json.loads(line)
            answer(request, sys.stdin.buffer.read(request["n_bytes"]), out)


if __name__ == "__main__":
    main()
