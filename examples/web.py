"""Notes over HTTP: ``python examples/web.py DIRECTORY [PORT]``; needs starlette and uvicorn.

    curl -d '{"text": "buy milk", "tags": ["home"]}' http://127.0.0.1:8000/notes
    curl http://127.0.0.1:8000/notes?tag=home

A note that was answered with 201 is on the disk.
"""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from walstore import FileWALManager
from walstore.docstore import DocumentStore, InvalidDocumentError


def application(directory: str, ready: str) -> Starlette:
    """The application; its store is open as long as it runs."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        with FileWALManager(directory) as log, DocumentStore(log) as store:
            app.state.notes = store["notes"]
            app.state.notes.create_index("tags")
            print(ready, flush=True)
            yield

    routes = [
        Route("/notes", create, methods=["POST"]),
        Route("/notes", search),
        Route("/notes/{id}", read),
    ]
    return Starlette(routes=routes, lifespan=lifespan)


async def create(request: Request) -> JSONResponse:
    """Waiting for the disk is for a thread. Those that wait together share one sync."""
    try:
        note = await request.json()
        json.dumps(note, allow_nan=False)  # JSON has no infinity, though 1e999 is read as one
        if not isinstance(note, dict) or not isinstance(note.get("text"), str):
            raise HTTPException(400, "a note is an object with a text")
        note.pop("_id", None)
        inserted = await run_in_threadpool(request.app.state.notes.insert_one, note)
    except (ValueError, InvalidDocumentError) as error:  # not JSON, not UTF-8, or too many digits
        raise HTTPException(400, str(error)) from None
    return JSONResponse({"id": inserted.inserted_id}, 201)


async def search(request: Request) -> JSONResponse:
    """What is read is in memory: no thread is needed for a little."""
    tag = request.query_params.get("tag")
    wanted: dict[str, Any] = {} if tag is None else {"tags": tag}
    found = request.app.state.notes.find(wanted, sort=[("_id", -1)], limit=100)
    return JSONResponse(found.to_list())


async def read(request: Request) -> JSONResponse:
    note = request.app.state.notes.find_one({"_id": request.path_params["id"]})
    if note is None:
        raise HTTPException(404)
    return JSONResponse(note)


def main(directory: str, port: int) -> None:
    with socket.create_server(("127.0.0.1", port)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        config = uvicorn.Config(application(directory, url), log_level="warning")
        uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) == 3 else 8000)
