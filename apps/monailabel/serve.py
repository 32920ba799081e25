"""Start MONAI Label with this app: ``make label-server``, or by hand in its environment."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

HERE = Path(__file__).resolve().parent
LEVELS = {"uvicorn": "INFO", "uvicorn.access": "WARNING", "timeloop": "WARNING"}
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(message)s"}},
    "handlers": {"terminal": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"level": "WARNING", "handlers": ["terminal"]},
    # Lines of requests would hold the IDs of images, which may be names of patients.
    "loggers": {name: {"level": level} for name, level in LEVELS.items()},
}


def arguments() -> argparse.Namespace:
    """The command line, checked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", required=True, help="folder of images, or address of a DICOMweb server")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--models", help="bundles to offer, separated by commas; default is all")
    given = parser.parse_args()
    if given.studies.startswith(("http://", "https://")):
        if urlsplit(given.studies).username is not None:
            way_out = "set MONAI_LABEL_DICOMWEB_USERNAME and _PASSWORD"
            parser.error(f"--studies: no user or password in the address; {way_out}")
    elif not Path(given.studies).is_dir():
        parser.error(f"--studies {given.studies}: no such folder")
    return given


def main() -> None:
    """Start the server; it ends with Ctrl-C or SIGTERM."""
    given = arguments()
    os.environ.setdefault("MONAI_LABEL_DICOMWEB_SEARCH_FILTER", "{}")  # else CT only
    # At the end of the path, so that the real packages go first where they are installed.
    sys.path.append(str(HERE / "stand_ins"))
    # Ends the way Ctrl-C does, so that the private folder is removed.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    if given.host not in ("127.0.0.1", "localhost", "::1"):
        print(f"{given.host}: others can reach this server, which asks nobody for a password", file=sys.stderr)
    print(f"MONAI Label with {given.studies} will answer at http://{given.host}:{given.port}", flush=True)
    from monailabel.main import Main

    with tempfile.NamedTemporaryFile("w", suffix=".json") as log:
        json.dump(LOGGING, log)
        log.flush()
        models = ["--conf", "models", given.models] if given.models else []
        sys.argv = ["monailabel", "start_server", "--app", str(HERE), "--studies", given.studies, *models]
        sys.argv += ["--host", given.host, "--port", str(given.port), "--uvicorn_app", "medsr_label.server:app"]
        sys.argv += ["--verbose", "WARNING", "--log_config", log.name]
        Main(loglevel="WARNING").run()


if __name__ == "__main__":
    main()
