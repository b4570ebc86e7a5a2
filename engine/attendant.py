"""An attendant: it hears one queue's doorbells and has each thing handled, one at a time per key.

The doorbell's payload is the key. Whether there is anything to do, the handler finds out by claiming the row; what
nobody rang for, the sweeper brings. It stands beside the worker, which does the same for runs with leases.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from engine.dispatch import Dispatcher, attend
from engine.presence import Presence
from engine.store.database import Database

_log = logging.getLogger(__name__)

Handle = Callable[[str], Awaitable[None]]
Waiting = Callable[[], Awaitable[list[str]]]


class Attendant:
    """The one attendant of a queue in this presence; its `run` is called once.

    `handle` claims by `presence.worker_id` and gives the claim back; where it raises, the key is left alone for a
    growing time. `waiting` returns the keys that are due and may be claimed, what the attendant has in hand included.
    """

    def __init__(
        self,
        database: Database,
        queue: str,
        handle: Handle,
        waiting: Waiting,
        *,
        presence: Presence,
        concurrency: int,
        sweep_seconds: float,
        drain_seconds: float,
    ) -> None:
        self._database = database
        self._queue = queue
        self._waiting = waiting
        self._presence = presence
        self._sweep_seconds = sweep_seconds
        self._drain_seconds = drain_seconds
        self._dispatcher: Dispatcher[str] = Dispatcher(queue, handle, concurrency)

    async def run(self, stop: asyncio.Event) -> None:
        """Attend until `stop` is set, then let what is in hand go on for `drain_seconds` and cancel the rest."""
        self._presence.when_unheard(self._dispatcher.stop_all)
        try:
            await attend(
                self._dispatcher,
                url=self._database.url,
                queue=self._queue,
                on_doorbell=self._on_doorbell,
                sweep=self._sweep,
                sweep_seconds=self._sweep_seconds,
                heartbeat=self._presence.service,
                stop=stop,
                drain_seconds=self._drain_seconds,
            )
        finally:
            self._presence.never_mind(self._dispatcher.stop_all)

    def _on_doorbell(self, payload: bytes) -> None:
        try:
            self._dispatcher.hear(payload.decode())
        except UnicodeDecodeError:
            _log.error("a doorbell of %s has no readable key: %r", self._queue, payload[:80])

    async def _sweep(self) -> None:
        known = set(self._dispatcher.known())
        for key in await self._waiting():
            if key not in known:
                self._dispatcher.hear(key)
