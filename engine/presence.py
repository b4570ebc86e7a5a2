"""A process's presence: one identity in `workers`, and the heartbeat that keeps its leases and claims its own.

What a process runs side by side shares one: at most one worker for runs and one attendant a queue, because a holder's
own lease or claim is renewed for it. When no heartbeat has come through for so long that others may take over, every
work under way is told to stop.
"""

import asyncio
import logging
from collections.abc import Callable
from types import TracebackType
from uuid import UUID

from engine.dispatch import end, repeat
from engine.domain.errors import DevflowError
from engine.settings import Settings
from engine.store import workers
from engine.store.database import Database
from engine.store.workers import WorkerIdentity

_log = logging.getLogger(__name__)


class Presence:
    """An async context manager, entered once: registered and beating inside it, signed off after it.

    Entering raises `database_unavailable` where the database cannot be reached; later losses are waited out.
    """

    def __init__(self, database: Database, settings: Settings) -> None:
        self.identity = WorkerIdentity.of_this_process()
        self.dead_after_seconds: float = settings.worker_dead_after_seconds
        self._database = database
        self._every = settings.heartbeat_seconds
        self._when_unheard: list[Callable[[], int]] = []
        self._alarm: asyncio.TimerHandle | None = None
        self._service: asyncio.Task[None] | None = None

    @property
    def worker_id(self) -> UUID:
        """The id to hold leases and claims by."""
        return self.identity.worker_id

    @property
    def service(self) -> "asyncio.Task[None]":
        """The heartbeat's task, which only ends by failing, or with the presence."""
        if self._service is None:
            raise RuntimeError("the presence has not been entered")
        return self._service

    def when_unheard(self, stop: Callable[[], int]) -> None:
        """Have `stop` called when others may take this process for dead; it returns how many pieces of work it ends."""
        self._when_unheard.append(stop)

    def never_mind(self, stop: Callable[[], int]) -> None:
        """Take a `stop` of `when_unheard` back."""
        self._when_unheard.remove(stop)

    async def __aenter__(self) -> "Presence":
        await self._beat()
        self._service = asyncio.create_task(repeat(self._beat, self._every), name="heartbeat")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await end(self.service)
        if self._alarm is not None:
            self._alarm.cancel()
        try:
            async with self._database.transaction() as tx:
                await workers.stop(tx, self.worker_id)
        except DevflowError as failure:
            _log.warning("the worker could not sign off: %s", failure)

    async def _beat(self) -> None:
        sent_at = asyncio.get_running_loop().time()
        async with self._database.transaction() as tx:
            await workers.register(tx, self.identity)
        # One beat before the others may take this process for dead and its work for theirs.
        self._set_alarm(sent_at + self.dead_after_seconds - self._every)

    def _set_alarm(self, at: float) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm = asyncio.get_running_loop().call_at(at, self._unheard)

    def _unheard(self) -> None:
        if stopped := sum(stop() for stop in self._when_unheard):
            _log.error("no heartbeat came through: stopping %d pieces of work", stopped)
        self._set_alarm(asyncio.get_running_loop().time() + self._every)
