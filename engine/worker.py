"""A worker: it hears doorbells, takes leases and has the runner advance each run, as many at a time as it has slots.

A doorbell only says that there is something to do. The worker then looks in the database which runs need somebody and
have nobody, in the order that is fair between repositories, and drives as many as it has free slots, each in a task of
its own. So a database restart ends no job half-way, and which doorbell reached which worker does not matter. It looks
as well when it has handed a lease back, which may have freed a place, and every few seconds for what nobody rang for.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any
from uuid import UUID

from sqlalchemy import update

from engine.dispatch import Dispatcher, attend
from engine.domain.errors import DevflowError, Fenced
from engine.presence import Presence
from engine.settings import Settings
from engine.store import deliveries, jobs, leases, places, workers
from engine.store.database import Database, Lease
from engine.store.places import MustWait
from engine.store.runs import get_run
from engine.store.tables import runs

Advance = Callable[[Lease], Awaitable[None]]

_log = logging.getLogger(__name__)
_PRUNE_SECONDS = 3600.0
_PASSED_OVER_SECONDS = 1.0


class Worker:
    """One worker of this process, for all runs or for `only_run`; its `run` is called once.

    Without a `presence` of the process to share, it has one of its own.
    """

    def __init__(
        self,
        database: Database,
        advance: Advance,
        *,
        settings: Settings,
        only_run: UUID | None = None,
        presence: Presence | None = None,
    ) -> None:
        self._own_presence = presence is None
        self._presence = presence or Presence(database, settings)
        self.identity = self._presence.identity
        self._database = database
        self._advance = advance
        self._settings = settings
        self._only_run = only_run
        self._queue = jobs.private_queue(only_run) if only_run else jobs.ADVANCE_RUN
        # Who drives one run by hand is never refused: it is a person's own process.
        self._caps = None if only_run else places.Caps.of(settings)
        self._look_again = asyncio.Event()
        self._heard = 0
        self._passed_over: dict[UUID, float] = {}  # what could not be taken, until when it is not tried again
        slots = min(settings.worker_slots, settings.max_concurrent_runs)
        self._dispatcher: Dispatcher[UUID] = Dispatcher("run", self._drive, slots, self._look_again.set)
        self._pruned_at = time.monotonic()

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set, then drain for `shutdown_drain_seconds`, cancel what still runs and hand it back.

        Raises `database_unavailable` where the database cannot be reached at the start; later losses are waited out.
        """
        async with AsyncExitStack() as stack:
            if self._own_presence:
                await stack.enter_async_context(self._presence)
            await self._claim_queue()
            stack.push_async_callback(self._leave_queue)
            self._presence.when_unheard(self._dispatcher.stop_all)
            stack.callback(self._presence.never_mind, self._dispatcher.stop_all)
            await attend(
                self._dispatcher,
                url=self._database.url,
                queue=self._queue,
                on_doorbell=self._on_doorbell,
                sweep=self._look,
                sweep_seconds=self._settings.sweep_seconds,
                wake=self._look_again,
                heartbeat=self._presence.service,
                stop=stop,
                drain_seconds=self._settings.shutdown_drain_seconds,
            )

    def _on_doorbell(self, payload: bytes) -> None:
        try:
            run_id = UUID(payload.decode())
        except ValueError:
            _log.error("a doorbell names no run: %r", payload[:80])
            return
        self._heard += 1
        self._passed_over.pop(run_id, None)
        self._look_again.set()

    async def _look(self) -> None:
        """Take in hand what needs a worker, as far as there are free slots."""
        now = time.monotonic()
        self._passed_over = {run_id: until for run_id, until in self._passed_over.items() if until > now}
        if self._dispatcher.free:
            async with self._database.read() as tx:
                found = await leases.runnable(
                    tx,
                    self._settings.worker_dead_after_seconds,
                    only_run=self._only_run,
                    shared_queue=None if self._only_run else self._queue,
                    idle_worker=self.identity.worker_id,
                    driven=[*self._dispatcher.known(), *self._passed_over],
                    caps=self._caps,
                    limit=self._dispatcher.free,
                )
            for run_id in found:
                self._dispatcher.hear(run_id)
        await self._prune()

    async def _drive(self, run_id: UUID) -> None:
        lease = await self._take(run_id)
        try:
            while lease is not None:
                before = await self._position(run_id)
                await self._advance(lease)
                if await leases.hand_back(self._database, lease):
                    lease = None
                    self._passed_over.clear()  # a place is free
                elif await self._position(run_id) == before:
                    raise RuntimeError(f"run {run_id} has work left, and advancing it changed nothing")
        except Fenced:
            lease = None
            raise
        finally:
            if lease is not None:
                await self._give_up(lease)

    async def _take(self, run_id: UUID) -> Lease | None:
        heard = self._heard
        dead_after = self._settings.worker_dead_after_seconds
        try:
            return await leases.take(
                self._database,
                run_id,
                self.identity.worker_id,
                dead_after,
                self._queue,
                caps=self._caps,
                if_needed=True,
            )
        except MustWait as reason:
            _log.debug("%s", reason)
        except DevflowError as error:
            if error.code not in ("worker_already_running", "run_not_found"):
                raise
            _log.debug("%s", error)
        if heard == self._heard:  # otherwise what has just rung may be what has just changed
            self._passed_over[run_id] = time.monotonic() + _PASSED_OVER_SECONDS
        return None

    async def _give_up(self, lease: Lease) -> None:
        try:
            await leases.hand_back(self._database, lease, leases.nothing)
        except Fenced as lost:
            _log.info("%s", lost)
        except DevflowError as error:  # the next look finds a lease of ours that we do not drive
            _log.warning("the lease on run %s could not be handed back: %s", lease.run_id, error)

    async def _position(self, run_id: UUID) -> tuple[Any, ...]:
        async with self._database.read() as tx:
            row = await get_run(tx, run_id)
        return row["state"], row["event_seq"], row["updated_at"]

    async def _prune(self) -> None:
        if time.monotonic() - self._pruned_at < _PRUNE_SECONDS:
            return
        self._pruned_at = time.monotonic()
        async with self._database.transaction() as tx:
            await jobs.prune(tx)
            await workers.prune(tx)
            await deliveries.prune(tx)

    async def _claim_queue(self) -> None:
        # A run at its gate needs no lease, and without this what people decide would ring where we do not listen.
        if self._only_run is not None:
            free = (runs.c.run_id == self._only_run) & runs.c.lease_worker.is_(None)
            async with self._database.transaction() as tx:
                await tx.execute(update(runs).where(free).values(queue=self._queue))

    async def _leave_queue(self) -> None:
        if self._only_run is None:
            return
        try:
            async with self._database.transaction() as tx:
                # from now on any worker may hear what people decide about it
                mine = (runs.c.run_id == self._only_run) & (runs.c.queue == self._queue)
                await tx.execute(update(runs).where(mine).values(queue=jobs.ADVANCE_RUN))
                # those that hear the shared queue also sweep, and find what is left to do
                await jobs.forget(tx, self._only_run)
        except DevflowError as error:
            _log.warning("the run's own queue could not be given up: %s", error)
