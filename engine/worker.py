"""A worker: it hears doorbells, takes leases and has the runner advance each run, as many at a time as it is told.

Three services run side by side: the listener (see `doorbells`), the heartbeat, and the sweeper, which rings for runs
that nobody looks at. A doorbell only names a run, and its job ends at once; the run is driven by a task of the worker's
own. So a database restart ends no job half-way, and a doorbell for a run that is being driven costs one look at its
row afterwards, because handing a lease back looks for work under the row lock anyway.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

from sqlalchemy import update

from engine.domain.errors import DevflowError, Fenced
from engine.doorbells import listen
from engine.settings import Settings
from engine.store import jobs, leases, workers
from engine.store.database import Database, Lease
from engine.store.runs import get_run
from engine.store.tables import runs
from engine.store.workers import WorkerIdentity

Advance = Callable[[Lease], Awaitable[None]]

_log = logging.getLogger(__name__)
_BACK_OFF_FIRST = 1.0
_BACK_OFF_MOST = 60.0
_PRUNE_SECONDS = 3600.0
_UNWIND_SECONDS = 30.0


class Worker:
    """One worker of this process, for all runs or for `only_run`; its `run` is called once."""

    def __init__(
        self, database: Database, advance: Advance, *, settings: Settings, only_run: UUID | None = None
    ) -> None:
        self.identity = WorkerIdentity.of_this_process()
        self._database = database
        self._advance = advance
        self._settings = settings
        self._only_run = only_run
        self._queue = jobs.private_queue(only_run) if only_run else jobs.ADVANCE_RUN
        self._open = False
        self._driving: dict[UUID, asyncio.Task[None]] = {}
        self._waiting: dict[UUID, None] = {}  # a set that keeps the order in which they rang
        self._rang_again: set[UUID] = set()
        self._failures: dict[UUID, int] = {}
        self._not_before: dict[UUID, float] = {}
        self._heard_at = 0.0
        self._pruned_at = time.monotonic()

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set, then drain for `shutdown_drain_seconds`, cancel what still runs and hand it back.

        Raises `database_unavailable` where the database cannot be reached at the start; later losses are waited out.
        """
        await self._beat()
        await self._claim_queue()
        self._open = True
        deaf = asyncio.Event()
        listening = listen(self._database.url, self._queue, self._on_doorbell, deaf, self._settings.sweep_seconds)
        heartbeat = asyncio.create_task(self._repeat(self._beat, self._settings.heartbeat_seconds))
        sweeper = asyncio.create_task(self._repeat(self._sweep, self._settings.sweep_seconds))
        listener = asyncio.create_task(listening)
        stopped = asyncio.create_task(stop.wait())
        drain_seconds = 0.0
        try:
            done, _ = await asyncio.wait({heartbeat, sweeper, listener, stopped}, return_when=asyncio.FIRST_COMPLETED)
            for service in done - {stopped}:
                service.result()  # a service that ends by itself has failed, and this raises why
            drain_seconds = self._settings.shutdown_drain_seconds
        finally:
            self._open = False
            self._waiting.clear()
            deaf.set()
            await _end(sweeper, stopped)
            await self._drain(drain_seconds)
            await asyncio.wait({listener})
            await _end(heartbeat)
            await self._sign_off()

    def _on_doorbell(self, payload: bytes) -> None:
        try:
            run_id = UUID(payload.decode())
        except ValueError:
            _log.error("a doorbell names no run: %r", payload[:80])
            return
        if not self._open or time.monotonic() < self._not_before.get(run_id, 0.0):
            return
        if run_id in self._driving:
            self._rang_again.add(run_id)
        else:
            self._waiting[run_id] = None
            self._start_waiting()

    def _start_waiting(self) -> None:
        while self._waiting and len(self._driving) < self._settings.max_concurrent_runs:
            run_id = next(iter(self._waiting))
            del self._waiting[run_id]
            task = asyncio.create_task(self._drive(run_id), name=f"run {run_id}")
            self._driving[run_id] = task
            task.add_done_callback(lambda _, run_id=run_id: self._driven(run_id))  # type: ignore[misc]

    def _driven(self, run_id: UUID) -> None:
        del self._driving[run_id]
        if run_id in self._rang_again and self._open:
            self._waiting[run_id] = None
        self._rang_again.discard(run_id)
        self._start_waiting()

    async def _drive(self, run_id: UUID) -> None:
        lease = None
        try:
            lease = await self._take(run_id)
            while lease is not None:
                before = await self._position(run_id)
                await self._advance(lease)
                if await leases.hand_back(self._database, lease):
                    lease = None
                elif await self._position(run_id) == before:
                    raise RuntimeError(f"run {run_id} has work left, and advancing it changed nothing")
            self._failures.pop(run_id, None)
        except Fenced as lost:
            lease = None
            _log.info("%s", lost)
        except Exception:  # noqa: BLE001 - logged below, with its traceback
            # Nothing is lost by going on: the run's row still asks for a worker, and the sweeper rings for it again.
            _log.exception("run %s could not be advanced and is left alone for %.0f s", run_id, self._back_off(run_id))
        finally:
            if lease is not None:
                await self._give_up(lease)

    async def _take(self, run_id: UUID) -> Lease | None:
        try:
            async with self._database.read() as tx:
                if not leases.needs_worker(await get_run(tx, run_id)):
                    return None  # a doorbell that came late
            dead_after = self._settings.worker_dead_after_seconds
            return await leases.take(self._database, run_id, self.identity.worker_id, dead_after, self._queue)
        except DevflowError as error:
            if error.code not in ("worker_already_running", "run_not_found"):
                raise
            _log.debug("%s", error)
            return None

    async def _give_up(self, lease: Lease) -> None:
        try:
            await leases.hand_back(self._database, lease, leases.nothing)
        except Fenced as lost:
            _log.info("%s", lost)
        except DevflowError as error:  # the sweeper finds a lease of ours that we do not drive
            _log.warning("the lease on run %s could not be handed back: %s", lease.run_id, error)

    async def _position(self, run_id: UUID) -> tuple[Any, ...]:
        async with self._database.read() as tx:
            row = await get_run(tx, run_id)
        return row["state"], row["event_seq"], row["updated_at"]

    def _back_off(self, run_id: UUID) -> float:
        failures = self._failures[run_id] = self._failures.get(run_id, 0) + 1
        delay: float = min(_BACK_OFF_FIRST * 2 ** min(failures - 1, 10), _BACK_OFF_MOST)
        self._not_before[run_id] = time.monotonic() + delay
        return delay

    async def _repeat(self, step: Callable[[], Awaitable[None]], seconds: float) -> None:
        while True:
            try:
                async with asyncio.timeout(max(seconds, 1.0)):
                    await step()
            except (DevflowError, TimeoutError) as error:
                if isinstance(error, DevflowError) and error.code != "database_unavailable":
                    raise
                _log.warning("%s failed: %s", step.__name__.strip("_"), error or "no answer in time")
            self._stop_if_unheard()
            await asyncio.sleep(seconds)

    async def _beat(self) -> None:
        sent_at = time.monotonic()
        async with self._database.transaction() as tx:
            await workers.register(tx, self.identity)
        self._heard_at = sent_at

    def _stop_if_unheard(self) -> None:
        # By the next beat the others may take this worker for dead and its runs for theirs.
        silence = time.monotonic() - self._heard_at + self._settings.heartbeat_seconds
        if silence >= self._settings.worker_dead_after_seconds and self._driving:
            _log.error("no heartbeat came through: stopping %d runs", len(self._driving))
            for task in self._driving.values():
                task.cancel()

    async def _sweep(self) -> None:
        now = time.monotonic()
        self._not_before = {run_id: until for run_id, until in self._not_before.items() if until > now}
        async with self._database.transaction() as tx:
            free = await leases.runnable(
                tx,
                self._settings.worker_dead_after_seconds,
                only_run=self._only_run,
                shared_queue=None if self._only_run else self._queue,
                idle_worker=self.identity.worker_id,
                driven=[*self._driving, *self._waiting, *self._not_before],
            )
            for run_id in free:
                await jobs.ring_unless_queued(tx, self._queue, run_id)
        if now - self._pruned_at > _PRUNE_SECONDS:
            self._pruned_at = now
            async with self._database.transaction() as tx:
                await jobs.prune(tx)
                await workers.prune(tx)

    async def _drain(self, seconds: float) -> None:
        if self._driving and seconds > 0:
            await asyncio.wait(self._driving.values(), timeout=seconds)
        left = list(self._driving.values())
        for task in left:
            task.cancel()
        if left:
            _, stuck = await asyncio.wait(left, timeout=_UNWIND_SECONDS)
            for task in stuck:
                _log.error("%s does not end; its lease runs out by itself", task.get_name())

    async def _claim_queue(self) -> None:
        # A run at its gate needs no lease, and without this what people decide would ring where we do not listen.
        if self._only_run is not None:
            free = (runs.c.run_id == self._only_run) & runs.c.lease_worker.is_(None)
            async with self._database.transaction() as tx:
                await tx.execute(update(runs).where(free).values(queue=self._queue))

    async def _sign_off(self) -> None:
        try:
            async with self._database.transaction() as tx:
                if self._only_run is not None:  # from now on any worker may hear what people decide about it
                    mine = (runs.c.run_id == self._only_run) & (runs.c.queue == self._queue)
                    await tx.execute(update(runs).where(mine).values(queue=jobs.ADVANCE_RUN))
                    # those that hear the shared queue also sweep, and find what is left to do
                    await jobs.forget(tx, self._only_run)
                await workers.stop(tx, self.identity.worker_id)
        except DevflowError as error:
            _log.warning("the worker could not sign off: %s", error)


async def _end(*tasks: asyncio.Task[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
