"""The door: a webhook request is checked, stored and only then answered; what it says is read later, from the store.

Nothing of the body is interpreted here. An answer of 2xx means that the delivery is committed; after any other one
GitHub counts it as failed, and it is asked for again.
"""

import asyncio
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response
from starlette.requests import ClientDisconnect, Request

from app.github.signature import verify
from app.inbound.mailbox import Mailbox
from engine.domain.errors import DevflowError
from engine.store.deliveries import NewDelivery

PATH = "/webhooks/github"
MAX_BODY = 25 * 1024 * 1024
_BODY_SECONDS = 10.0  # GitHub itself gives up after 10
_LARGE = 256 * 1024
_IN_FLIGHT = 200 * 1024 * 1024
_EVENT = re.compile(r"[a-z_]{1,64}")
_DELIVERY = re.compile(r"[\x21-\x7e]{1,100}")
_KEPT = ("x-github-hook-id", "x-github-hook-installation-target-id", "x-github-hook-installation-target-type")
_log = logging.getLogger(__name__)


class Refusal(Exception):  # noqa: N818 - what the door says, not a fault of it
    """The request is not taken: the HTTP status, and the error for its body."""

    def __init__(self, status: int, error: DevflowError) -> None:
        self.status = status
        self.error = error
        super().__init__(str(error))


@dataclass
class _Load:
    """How much of a request is in memory: from its first byte until it is answered, checked and stored included."""

    size: int = 0


class Door:
    """Takes webhook requests; `secrets` are all valid at once, so that one can be changed for another."""

    def __init__(self, secrets: Sequence[str], mailbox: Mailbox) -> None:
        self._secrets = tuple(secrets)
        self._mailbox = mailbox
        self._in_flight = 0

    def router(self) -> APIRouter:
        """Return the door's one route."""
        router = APIRouter()
        # a plain route: there is nothing for the framework to read or validate
        router.add_route(PATH, self.receive, methods=["POST"], include_in_schema=False)
        return router

    async def receive(self, request: Request) -> Response:
        """Answer one request: 202 stored, 200 known already, else why not."""
        load = _Load()
        try:
            delivery = await self._read(request, load)
            new = await self._mailbox.put(delivery)
        except Refusal as refusal:
            return _refused(refusal.status, refusal.error)
        except ClientDisconnect:
            return _refused(400, _wrong("the request ended before its body did"))
        except DevflowError as error:
            _log.warning("a delivery could not be stored: %s", error)
            return _refused(503, error)
        finally:
            self._in_flight -= load.size
        return JSONResponse({"delivery": delivery.delivery_id}, status_code=202 if new else 200)

    async def _read(self, request: Request, load: "_Load") -> NewDelivery:
        headers = request.headers
        if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            raise Refusal(415, _wrong("the body must be application/json", "set the App's content type to JSON"))
        event, delivery_id = headers.get("x-github-event", ""), headers.get("x-github-delivery", "")
        if not _EVENT.fullmatch(event) or not _DELIVERY.fullmatch(delivery_id):
            raise Refusal(400, _wrong("X-GitHub-Event and X-GitHub-Delivery are needed, as GitHub sends them"))
        announced = headers.get("content-length", "")
        if announced.isascii() and announced.isdecimal() and int(announced[:20]) > MAX_BODY:
            raise _too_large()
        body = await self._body(request, load)
        signature = headers.get("x-hub-signature-256")
        # hashing a large body would hold up everybody else's
        valid = (
            await asyncio.to_thread(verify, self._secrets, body, signature)
            if len(body) > _LARGE
            else verify(self._secrets, body, signature)
        )
        if not valid:
            hint = "set the App's webhook secret to one of GITHUB_WEBHOOK_SECRETS"
            raise Refusal(401, _wrong("the signature is missing or not ours (X-Hub-Signature-256)", hint))
        kept = {name: value[:100] for name in _KEPT if (value := headers.get(name, "")) and value.isprintable()}
        return NewDelivery(delivery_id=delivery_id, event=event, headers=kept, body=body)

    async def _body(self, request: Request, load: "_Load") -> bytes:
        chunks: list[bytes] = []
        try:
            async with asyncio.timeout(_BODY_SECONDS):
                async for chunk in request.stream():
                    load.size += len(chunk)
                    self._in_flight += len(chunk)
                    if load.size > MAX_BODY:
                        raise _too_large()
                    if self._in_flight > _IN_FLIGHT:
                        busy = DevflowError("database_unavailable", "too much is arriving at once")
                        raise Refusal(503, busy)
                    chunks.append(chunk)
        except TimeoutError:
            raise Refusal(400, _wrong("the body did not arrive in time")) from None
        return b"".join(chunks)


def _too_large() -> Refusal:
    return Refusal(413, _wrong(f"the body has more than {MAX_BODY} bytes"))


def _wrong(message: str, hint: str = "send webhooks as GitHub does; see docs/github-app.md") -> DevflowError:
    return DevflowError("usage", message, recovery_hint=hint)


def _refused(status: int, error: DevflowError) -> Response:
    headers = {"Connection": "close"} if status == 413 else None
    return JSONResponse({"error": error.to_json()}, status_code=status, headers=headers)
