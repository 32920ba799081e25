"""The web application: MONAI Label's own endpoints, as many as images need, with clear answers to bad requests."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import BackgroundTasks, FastAPI, HTTPException, Request, Response
from fastapi.responses import JSONResponse
from monailabel.app import lifespan
from monailabel.endpoints import activelearning, datastore, infer, info, ohif, proxy, session
from monailabel.interfaces.exception import MONAILabelException

from medsr_label.studies import READ_ONLY

SESSION_ID = re.compile(r"[0-9a-f-]{36}")
# The proxy leads to the PACS, for OHIF.
STUDIES_PATHS = ("/datastore", "/proxy")
# Parts of a request that belong in its address; MONAI Label would let the parameters replace them.
ADDRESSED = {"model", "image", "session"}

stock_inference = infer.run_inference


def run_inference(
    background_tasks: BackgroundTasks,
    model: str,
    image: str = "",
    session_id: str = "",
    params: str = "{}",
    file: Any = None,
    label: Any = None,
    output: Any = None,
) -> Any:
    """MONAI Label's endpoint, after a look at what it takes without looking."""
    check_parameters(params)
    if not (file or image or session_id):
        raise HTTPException(400, "image: a request needs the ID of an image, a file, or a session")
    if session_id and not SESSION_ID.fullmatch(session_id):
        raise HTTPException(404, "session_id: no such session")
    if output == infer.ResultType.dicom_seg:
        raise HTTPException(
            400, "output 'dicom_seg': the result is no label map; ask for 'image' and result_extension .zip"
        )
    try:
        return stock_inference(background_tasks, model, image, session_id, params, file, label, output)
    except Exception:
        # They remove what was uploaded, and run only after an answer.
        for task in background_tasks.tasks:
            task.func(*task.args, **task.kwargs)
        raise


def check_parameters(params: str) -> None:
    """Whether the text holds parameters, and nothing that belongs elsewhere."""
    try:
        given = json.loads(params or "{}")
    except ValueError as error:
        raise HTTPException(400, f"params: not JSON ({error})") from error
    if not isinstance(given, dict):
        raise HTTPException(400, 'params: must be a JSON object, e.g. {"consistency": "exact"}')
    taken = sorted(ADDRESSED & set(given))
    if taken:
        raise HTTPException(400, f"params: '{taken[0]}' is no parameter; it belongs in the address")


# The stock endpoint looks the function up by this name at every request.
infer.run_inference = run_inference

# Left out are MONAI Label's endpoints that train, score, replace weights and show logs, and its leave to every web page
# that the user visits to read the answers (CORS).
app = FastAPI(title="medsr-monai on MONAI Label", docs_url="/", lifespan=lifespan)
for part in (info, infer, datastore, session, activelearning, ohif, proxy):
    app.include_router(part.router)


@app.middleware("http")
async def refuse_writing(request: Request, answer: Callable[[Request], Awaitable[Response]]) -> Response:
    """What would write into the studies, or unpack a client's archive wherever its names lead, is refused unread."""
    if request.url.path.startswith(STUDIES_PATHS) and request.method not in ("GET", "HEAD"):
        return JSONResponse({"detail": READ_ONLY}, 405)
    if "uncompress" in request.query_params and request.query_params["uncompress"].lower() != "false":
        return JSONResponse({"detail": "uncompress: archives are not unpacked here; send the files themselves"}, 400)
    return await answer(request)


@app.exception_handler(MONAILabelException)
async def answer_bad_request(request: Request, error: MONAILabelException) -> JSONResponse:
    """What MONAI Label itself refuses."""
    return JSONResponse({"detail": error.msg}, 400)


@app.exception_handler(Exception)
async def answer_failure(request: Request, error: Exception) -> JSONResponse:
    """A fault of the server: the client reads its kind, the server's terminal shows where."""
    return JSONResponse({"detail": f"{type(error).__name__} in the server; its terminal says more"}, 500)
