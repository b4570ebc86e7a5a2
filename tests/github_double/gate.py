"""The outermost layer of the server: writes down each request, lets planned faults strike, adds GitHub's headers.

It buffers the whole answer of the layers within, so that a connection can be dropped after a thing was done.
"""

import asyncio
import json
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from email.utils import format_datetime
from typing import Any

from tests.github_double.faults import Faults, Plan
from tests.github_double.refusal import Refused
from tests.github_double.world import World

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

API, GRAPHQL = "/api/v3", "/api/graphql"
RECORD = "github_double.request"
UNSERVED = "(no endpoint of the double)"


@dataclass(eq=False)
class Request:
    """One request as it came; `path` is below the API's root, `status` None until answered (0: dropped).

    `template`, `done` (its status) and `answer` are what a route made of it, sent or not; the check against the
    published schemas reads them.
    """

    method: str
    path: str
    query: str
    body: Any
    headers: dict[str, str]
    token_kind: str = "none"
    status: int | None = None
    template: str | None = None
    done: int | None = None
    answer: bytes = b""


@dataclass
class _Captured:
    status: int = 500
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    body: bytearray = field(default_factory=bytearray)

    async def send(self, message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.status, self.headers = message["status"], list(message["headers"])
        else:
            self.body += message.get("body", b"")


class Gate:
    """The ASGI application around the double's own."""

    def __init__(self, world: World, faults: Faults, within: Application) -> None:
        self._world = world
        self._faults = faults
        self._within = within
        self.requests: list[Request] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        body = await _read(receive)
        path = _below_root(scope["path"])
        headers = {name.decode(): value.decode("latin-1") for name, value in scope["headers"]}
        record = Request(scope["method"], path, scope["query_string"].decode(), _json(body), headers)
        self.requests.append(record)
        if self._faults.refusing:
            await _drop(record, send)
            return
        if self._faults.outage is not None:
            page = b"<html><body><h1>Unicorn!</h1></body></html>"
            await self._answer(record, send, self._faults.outage, [(b"content-type", b"text/html")], page)
            return
        plan = self._faults.take(record.method, self._names(path), body)
        if plan is not None and plan.delay:
            await asyncio.sleep(plan.delay)
        if plan is not None and await self._struck(plan, record, send):
            return
        if (refused := self._refuse(scope, record)) is not None:
            await self._answer_refusal(record, send, refused)
            return
        captured = _Captured()
        scope[RECORD] = record
        await self._within(scope, _replay(body), captured.send)
        record.done, record.answer = captured.status, bytes(captured.body)
        if plan is not None and plan.drop == "after":
            await _drop(record, send)
            return
        extra = _planned_headers(plan)
        await self._answer(record, send, captured.status, captured.headers + extra, bytes(captured.body))

    def _names(self, path: str) -> tuple[str, ...]:
        """Return the path in both of its forms, by the repository's name and by its id."""
        parts = path.split("/")
        if len(parts) > 2 and parts[1] == "repositories" and parts[2].isdigit():
            found = self._world.repositories.get(int(parts[2]))
            if found is not None:
                return path, "/".join(["", "repos", found.full_name, *parts[3:]])
        if len(parts) > 3 and parts[1] == "repos":
            found = self._world.find_repository(f"{parts[2]}/{parts[3]}")
            if found is not None:
                return path, "/".join(["", "repositories", str(found.id), *parts[4:]])
        return (path,)

    async def _struck(self, plan: Plan, record: Request, send: Send) -> bool:
        if plan.drop == "before":
            await _drop(record, send)
            return True
        if plan.status is None:
            return False
        body = plan.body if plan.body is not None else {"message": "Planned fault", "status": str(plan.status)}
        data = (
            body if isinstance(body, bytes) else body.encode() if isinstance(body, str) else json.dumps(body).encode()
        )
        kind = b"text/html" if isinstance(body, (bytes, str)) else b"application/json; charset=utf-8"
        await self._answer(record, send, plan.status, [(b"content-type", kind), *_planned_headers(plan)], data)
        return True

    def _refuse(self, scope: Scope, record: Request) -> Refused | None:
        """Return what stands against any request to the API: no user agent, a limit, an unknown version."""
        if not scope["path"].startswith("/api/"):
            return None
        headers = record.headers
        if not headers.get("user-agent"):
            return Refused(
                403, "Request forbidden by administrative rules. Please make sure your request has a User-Agent header."
            )
        version = headers.get("x-github-api-version", "2022-11-28")
        if version not in ("2022-11-28", "2026-03-10"):
            return Refused(400, f'"{version}" is not a supported version')
        try:
            self._faults.count(record.method, f"installation ID {next(iter(self._world.installations), 0)}")
        except Refused as refused:
            return refused
        return None

    async def _answer_refusal(self, record: Request, send: Send, refused: Refused) -> None:
        headers = [(name.lower().encode(), value.encode()) for name, value in refused.headers.items()]
        headers.append((b"content-type", b"application/json; charset=utf-8"))
        await self._answer(record, send, refused.status, headers, json.dumps(refused.body()).encode())

    async def _answer(
        self, record: Request, send: Send, status: int, headers: list[tuple[bytes, bytes]], body: bytes
    ) -> None:
        record.status = status
        usual = {
            "Date": format_datetime(self._world.now(), usegmt=True),
            "Server": "github.com",
            "X-GitHub-Request-Id": uuid.uuid4().hex[:20].upper(),
            "X-GitHub-Media-Type": "github.v3; format=json",
            "x-github-api-version-selected": record.headers.get("x-github-api-version", "2022-11-28"),
        }
        usual |= self._faults.headers("graphql" if record.path == "/graphql" else "core")
        given = {name.lower() for name, _ in headers}
        whole = [each for each in headers if each[0].lower() != b"content-length"]
        whole += [
            (name.encode(), value.encode()) for name, value in usual.items() if name.lower().encode() not in given
        ]
        if status != 204:
            whole.append((b"content-length", str(len(body)).encode()))
        await send({"type": "http.response.start", "status": status, "headers": whole})
        await send({"type": "http.response.body", "body": b"" if status == 204 else body})


def _below_root(path: str) -> str:
    if path.startswith(GRAPHQL):
        return "/graphql"
    return path.removeprefix(API) if path.startswith(f"{API}/") else path


def _json(body: bytes) -> Any:
    if not body:
        return None
    try:
        return json.loads(body)
    except ValueError:
        return body


def _planned_headers(plan: Plan | None) -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode(), value.encode()) for name, value in (plan.headers if plan else {}).items()]


async def _read(receive: Receive) -> bytes:
    body = bytearray()
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            return bytes(body)


def _replay(body: bytes) -> Receive:
    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    return receive


async def _drop(record: Request, send: Send) -> None:
    """Close the connection without an answer."""
    record.status = 0
    # `send` is a method of uvicorn's cycle of request and answer, which has the connection.
    cycle = send.__self__  # type: ignore[attr-defined]
    cycle.transport.abort()
    while not cycle.disconnected:
        await asyncio.sleep(0)
