"""Signed webhooks on their way: kept in order, held back on demand, sent by one thread, each with what came back.

Sending never blocks whoever acted: a server that answers slowly delays the deliveries behind it and nothing else.
"""

import contextlib
import hashlib
import hmac
import http.client
import json
import socket
import threading
import time
import uuid
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from tests.github_double.world import World

_TIMEOUT_SECONDS = 10  # GitHub's own limit for an answer


@dataclass(eq=False)
class Delivery:
    """One attempt at one webhook; `status_code` and `answer` are None until it was tried (502: nobody listened)."""

    id: int
    guid: str
    event: str
    action: str | None
    headers: dict[str, str]
    body: bytes
    installation_id: int | None
    repository_id: int | None
    redelivery: bool = False
    made_by_hand: bool = False
    status_code: int | None = None
    answer: str | None = None
    answer_headers: dict[str, str] | None = None
    delivered_at: datetime | None = None
    duration: float = 0.0

    @property
    def payload(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    @property
    def status(self) -> str:
        """What GitHub's list of deliveries says of it."""
        if self.answer_headers is None:
            return "failed to connect to host"
        good = self.status_code is not None and self.status_code < 400
        return "OK" if good else f"Invalid HTTP Response: {self.status_code}"


class Outbox:
    """Every delivery of one double, and the thread that sends them."""

    def __init__(self, world: "World") -> None:
        self.webhook_url: str | None = None
        self.deliveries: list[Delivery] = []
        self._world = world
        self._changed = threading.Condition()
        self._queue: deque[Delivery] = deque()
        self._held: list[Delivery] = []
        self._holding = False
        self._busy = False
        self._stopping = False
        self._connection: http.client.HTTPConnection | None = None
        self._thread = threading.Thread(target=self._run, name="github-double-webhooks", daemon=True)

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def stop(self) -> None:
        """Stop sending; what is on its way is cut off."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        deadline = time.monotonic() + _TIMEOUT_SECONDS
        while self._thread.is_alive() and time.monotonic() < deadline:
            connection = self._connection
            if connection is not None and connection.sock is not None:
                with contextlib.suppress(OSError):
                    connection.sock.shutdown(socket.SHUT_RDWR)
            self._thread.join(0.05)

    def add(
        self,
        event: str,
        payload: dict[str, Any],
        installation_id: int | None,
        repository_id: int | None,
        *,
        body: bytes | None = None,
        guid: str | None = None,
        headers: dict[str, str] | None = None,
        made_by_hand: bool = False,
    ) -> Delivery:
        """Sign a payload and queue it; `body` replaces its bytes, `headers` are set over the usual ones."""
        data = json.dumps(payload, separators=(",", ":"), ensure_ascii=False).encode() if body is None else body
        guid = guid or str(uuid.uuid4())
        action = payload.get("action")
        with self._changed:
            delivery = Delivery(
                self._world.new_id("delivery"),
                guid,
                event,
                action,
                self._headers(event, guid, data) | (headers or {}),
                data,
                installation_id,
                repository_id,
                made_by_hand=made_by_hand,
            )
            self._put(delivery)
        return delivery

    def again(self, delivery: Delivery, *, new_guid: bool = False) -> Delivery:
        """Queue the same bytes once more, under the same GUID or as if it were another delivery."""
        guid = str(uuid.uuid4()) if new_guid else delivery.guid
        with self._changed:
            copy = replace(
                delivery,
                id=self._world.new_id("delivery"),
                guid=guid,
                headers=delivery.headers | {"X-GitHub-Delivery": guid},
                redelivery=not new_guid,
                status_code=None,
                answer=None,
                answer_headers=None,
                delivered_at=None,
            )
            self._put(copy)
        return copy

    def hold(self) -> None:
        """Keep back what comes from now on."""
        with self._changed:
            self._holding = True

    def release(self, order: Sequence[int | Delivery] | None = None) -> list[Delivery]:
        """Send what was held, all of it as it came, or these (positions or deliveries) in this order.

        Those that `order` leaves out stay held; holding ends when none is left.
        """
        with self._changed:
            chosen = self._held if order is None else [self._held[o] if isinstance(o, int) else o for o in order]
            chosen = list(chosen)
            self._held = [each for each in self._held if each not in chosen]
            self._holding = bool(self._held)
            if self.webhook_url is not None:
                self._queue.extend(chosen)
            self._changed.notify_all()
        return chosen

    @property
    def held(self) -> list[Delivery]:
        """What is held back now, as it came."""
        return list(self._held)

    def wait(self, timeout: float = 20.0) -> None:
        """Return when all that was queued has been answered; held ones do not count."""
        with self._changed:
            if not self._changed.wait_for(lambda: not self._queue and not self._busy, timeout):
                raise TimeoutError(f"{len(self._queue)} webhooks still wait to be delivered")

    def _put(self, delivery: Delivery) -> None:
        self.deliveries.append(delivery)
        if self._holding:
            self._held.append(delivery)
        elif self.webhook_url is not None:
            self._queue.append(delivery)
            self._changed.notify_all()

    def _headers(self, event: str, guid: str, body: bytes) -> dict[str, str]:
        app = self._world.app
        key = app.webhook_secret.encode()
        return {
            "Accept": "*/*",
            "Content-Type": "application/json",
            "User-Agent": "GitHub-Hookshot/5c0ffee",
            "X-GitHub-Delivery": guid,
            "X-GitHub-Event": event,
            "X-GitHub-Hook-ID": str(app.hook_id),
            "X-GitHub-Hook-Installation-Target-ID": str(app.id),
            "X-GitHub-Hook-Installation-Target-Type": "integration",
            "X-Hub-Signature": "sha1=" + hmac.new(key, body, hashlib.sha1).hexdigest(),
            "X-Hub-Signature-256": "sha256=" + hmac.new(key, body, hashlib.sha256).hexdigest(),
        }

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._queue or self._stopping)
                if self._stopping:
                    return
                delivery = self._queue.popleft()
                self._busy = True
            try:
                self._send(delivery)
            finally:
                with self._changed:
                    self._busy = False
                    self._changed.notify_all()

    def _send(self, delivery: Delivery) -> None:
        began = time.monotonic()
        target = urlsplit(self.webhook_url or "")
        connection = http.client.HTTPConnection(target.hostname or "", target.port, timeout=_TIMEOUT_SECONDS)
        self._connection = connection
        try:
            connection.request("POST", target.path or "/", delivery.body, delivery.headers)
            answer = connection.getresponse()
            delivery.answer = answer.read().decode("utf-8", "replace")
            delivery.answer_headers = dict(answer.getheaders())
            delivery.status_code = answer.status
        except (OSError, http.client.HTTPException) as error:
            delivery.answer = str(error)
            delivery.status_code = 502
        finally:
            connection.close()
            self._connection = None
        delivery.duration = round(time.monotonic() - began, 2)
        delivery.delivered_at = self._world.now()
