"""The web application: the door for webhooks, and two questions that whoever runs the server may ask."""

import logging

from fastapi import FastAPI
from fastapi.responses import JSONResponse, Response
from sqlalchemy import text
from starlette.requests import Request

from app.inbound.door import Door
from engine.domain.errors import DevflowError
from engine.store.database import Database

_log = logging.getLogger(__name__)


def create_app(database: Database, door: Door) -> FastAPI:
    """Return the application; `GET /healthz` says that the process answers, `GET /readyz` that its database does."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.include_router(door.router())

    async def healthz(_: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def readyz(_: Request) -> Response:
        try:
            async with database.read() as tx:
                await tx.execute(text("SELECT 1"))
        except DevflowError as error:
            return JSONResponse({"error": error.to_json()}, status_code=error.spec.http_status)
        return JSONResponse({"status": "ok"})

    async def unforeseen(_: Request, raised: Exception) -> Response:
        _log.error("a request failed", exc_info=raised)
        error = DevflowError("internal_error", "the request failed; the server's log says why")
        return JSONResponse({"error": error.to_json()}, status_code=500)

    app.add_route("/healthz", healthz, methods=["GET"], include_in_schema=False)
    app.add_route("/readyz", readyz, methods=["GET"], include_in_schema=False)
    app.add_exception_handler(Exception, unforeseen)
    return app
