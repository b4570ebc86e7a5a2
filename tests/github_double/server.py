"""The double's HTTP server: the REST routes, GraphQL and git on one port, in a thread with an event loop of its own.

The socket is bound before the server runs, so the port is known at once and no connection can come too early.
"""

import asyncio
import json
import re
import socket
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import uvicorn
from fastapi import FastAPI
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response

from tests.github_double import auth, git_http, graphql, rest
from tests.github_double.call import REPOSITORY, ROUTES, Answer, Route, perform
from tests.github_double.faults import Faults
from tests.github_double.gate import API, GRAPHQL, RECORD, UNSERVED, Gate, Request
from tests.github_double.refusal import Refused, not_found
from tests.github_double.world import World

assert rest.__all__  # importing the package fills ROUTES
_SLASHES = {"path", "ref", "branch", "name", "sha"}  # parts that may hold slashes
_Endpoint = Callable[[HttpRequest], Awaitable[Response]]


def application(world: World) -> FastAPI:
    """Return the application of a double, without the gate around it."""
    app = FastAPI(openapi_url=None)
    # A part that takes slashes takes everything, so the longer templates come first.
    for route in sorted(ROUTES, key=lambda each: (-each.template.count("/"), each.template.count("{"))):
        for template in _forms(route.template):
            app.add_route(API + template, _endpoint(world, route), methods=[route.method])
    app.add_route(GRAPHQL, _graphql(world), methods=["POST"])
    app.add_route("/{owner}/{repo}.git/{rest:path}", _git(world), methods=["GET", "POST"])
    app.add_route("/{anything:path}", _nothing, methods=["GET", "POST", "PUT", "PATCH", "DELETE"])
    return app


def _forms(template: str) -> list[str]:
    """Return a template in Starlette's spelling; a repository's in both of its forms."""
    spelt = re.sub(r"\{(\w+)\}", lambda found: _part(found[1]), template)
    if not template.startswith(REPOSITORY):
        return [spelt]
    return [spelt, spelt.replace(REPOSITORY, "/repositories/{repository_id}", 1)]


def _part(name: str) -> str:
    return f"{{{name}:path}}" if name in _SLASHES else f"{{{name}}}"


def _endpoint(world: World, route: Route) -> _Endpoint:
    async def endpoint(request: HttpRequest) -> Response:
        record: Request = request.scope[RECORD]
        record.template = route.template
        body = await request.body()
        return await run_in_threadpool(_handle, world, route, request, record, body)

    return endpoint


def _handle(world: World, route: Route, request: HttpRequest, record: Request, body: bytes) -> Response:
    try:
        with world.lock:
            caller = auth.authenticate(world, request.headers.get("authorization"))
            record.token_kind = caller.kind
            query, parts = dict(request.query_params), dict(request.path_params)
            answer = perform(world, route, caller, record.path, parts, query, _body(body))
    except Refused as refused:
        answer = Answer(refused.status, refused.body(), refused.headers)
    if answer.payload is None:
        return Response(status_code=answer.status, headers=answer.headers)
    return JSONResponse(answer.payload, answer.status, answer.headers, "application/json; charset=utf-8")


def _body(body: bytes) -> dict[str, Any]:
    if not body:
        return {}
    try:
        parsed = json.loads(body)
    except ValueError:
        raise Refused(400, "Problems parsing JSON") from None
    if isinstance(parsed, list):
        return {"labels": parsed}
    if not isinstance(parsed, dict):
        raise Refused(400, "Body should be a JSON object")
    return parsed


def _graphql(world: World) -> _Endpoint:
    async def endpoint(request: HttpRequest) -> Response:
        record: Request = request.scope[RECORD]
        body = await request.body()

        def run() -> Response:
            try:
                with world.lock:
                    caller = auth.authenticate(world, request.headers.get("authorization"))
                    record.token_kind = caller.kind
                    return JSONResponse(graphql.execute(world, caller, _body(body)))
            except Refused as refused:
                return JSONResponse(refused.body(), refused.status)

        return await run_in_threadpool(run)

    return endpoint


def _git(world: World) -> _Endpoint:
    async def endpoint(request: HttpRequest) -> Response:
        record: Request = request.scope[RECORD]
        parts, body = request.path_params, await request.body()
        answer, record.token_kind = await run_in_threadpool(
            git_http.serve,
            world,
            request.method,
            f"{parts['owner']}/{parts['repo']}",
            parts["rest"],
            request.url.query,
            request.headers,
            body,
        )
        return answer

    return endpoint


async def _nothing(request: HttpRequest) -> Response:
    record: Request = request.scope[RECORD]
    if request.url.path.startswith(f"{API}/"):
        record.template = UNSERVED
    return JSONResponse(not_found().body(), 404)


class _Uvicorn(uvicorn.Server):
    """uvicorn, started and stopped by events: nothing polls, and a hanging answer does not keep it."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = threading.Event()
        self._ended: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def main_loop(self) -> None:
        self._loop, self._ended = asyncio.get_running_loop(), asyncio.Event()
        await self.on_tick(0)
        self.ready.set()
        await self._ended.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # uvicorn's own pauses for a tenth of a second, which hundreds of tests would feel.
        for listening in self.servers:
            listening.close()
        tasks = list(self.server_state.tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        while self.server_state.connections:
            await asyncio.sleep(0)
        for listener in sockets or []:
            listener.close()

    def end(self) -> None:
        assert self._loop is not None
        assert self._ended is not None
        self.should_exit = self.force_exit = True
        self._loop.call_soon_threadsafe(self._ended.set)


class Server:
    """One double's server; `gate` has the requests that came."""

    def __init__(self, world: World, faults: Faults) -> None:
        self.gate = Gate(world, faults, application(world))
        # With the protocol named: only then does asyncio send small answers at once (TCP_NODELAY), 40 ms sooner.
        self._listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen(128)
        self.port: int = self._listener.getsockname()[1]
        config = uvicorn.Config(
            self.gate,
            log_level="critical",
            lifespan="off",
            ws="none",
            http="h11",
            loop="asyncio",
            access_log=False,
            date_header=False,
            server_header=False,
            proxy_headers=False,
        )
        self._uvicorn = _Uvicorn(config)
        self._thread = threading.Thread(target=self._run, name="github-double", daemon=True)

    def start(self) -> None:
        """Serve from now on."""
        self._thread.start()
        if not self._uvicorn.ready.wait(10):
            raise RuntimeError("the GitHub double did not start")

    def stop(self) -> None:
        """End the server and its thread, answers that hang with it; one that never ran gives its port back."""
        if self._thread.is_alive():
            self._uvicorn.end()
            self._thread.join(10)
        self._listener.close()

    def _run(self) -> None:
        asyncio.run(self._uvicorn.serve(sockets=[self._listener]))
