"""One issue's work, done until it rests: events handled, runs advanced, everything shown. Then the step can end.

The same inbox, engine and projector as the App's, for one issue alone; nothing here waits for a person. What is left to
do is read from the database each time.
"""

import asyncio
import logging
from typing import Any
from uuid import UUID

from sqlalchemy import or_, select

from app.clock import Clock
from app.inbound.inbox import Inbox
from app.surface.projector import Projector
from engine.domain.errors import DevflowError
from engine.facade import Engine
from engine.store import leases
from engine.store.host_tables import deliveries, projections
from engine.store.tables import runs

POLL_SECONDS = 0.15
STUCK_SECONDS = 180.0
PATIENCE_SECONDS = 90.0
_log = logging.getLogger(__name__)


class Drive:
    """Does the work of one issue; `run` is called once."""

    def __init__(
        self,
        engine: Engine,
        inbox: Inbox,
        projector: Projector,
        clock: Clock,
        *,
        repository_id: int,
        issue_number: int,
        shared: set[str] | None = None,
    ) -> None:
        """Take the step's surroundings.

        In a database that others use as well, `shared` names the events that are this issue's; None: all are.
        """
        self._engine = engine
        self._inbox = inbox
        self._projector = projector
        self._clock = clock
        self._repository_id = repository_id
        self._issue_number = issue_number
        self._shared = shared

    async def run(self, stop: asyncio.Event) -> None:
        """Work until nothing is left to do, or until `stop` is set; what is under way is handed back then.

        What GitHub does not take now is waited for, but not for long: the next event goes on with it. Raises
        `internal_error` where a run does not move.
        """
        attending = asyncio.create_task(self._attend(), name="attending")
        try:
            advancing = asyncio.create_task(self._advance_all(stop), name="advancing")
            await asyncio.wait({attending, advancing}, return_when=asyncio.FIRST_COMPLETED)
            if attending.done():
                advancing.cancel()
                await asyncio.wait({advancing})
                attending.result()
            await advancing
        finally:
            attending.cancel()
            await asyncio.wait({attending})

    async def _advance_all(self, stop: asyncio.Event) -> None:
        before: Any = None
        hurried = False
        since = self._clock.now()
        while not stop.is_set():
            run_id = await self._runnable()
            if run_id is not None:
                await self._advance(run_id, stop)
                continue
            left = await self._left()
            if not left and not hurried:
                hurried = True
                await self._projector.hasten(await self._runs())
                continue
            if not left:
                return
            if left != before:
                before, since = left, self._clock.now()
            elif (self._clock.now() - since).total_seconds() > PATIENCE_SECONDS:
                _log.warning("GitHub does not take everything now; what is left is kept for the next event")
                return
            await asyncio.sleep(POLL_SECONDS)

    async def _runnable(self) -> UUID | None:
        """Return the first run of the issue that needs a worker and may have one."""
        settings = self._engine.settings
        for run_id in await self._runs():
            async with self._engine.database.read() as tx:
                if await leases.runnable(tx, settings.worker_dead_after_seconds, only_run=run_id):
                    return run_id
        return None

    async def _advance(self, run_id: UUID, stop: asyncio.Event) -> None:
        """Have a worker drive the run until it needs none."""
        ending = asyncio.Event()
        working = asyncio.create_task(self._engine.worker(run_id).run(ending), name=f"worker {run_id}")
        since, before = self._clock.now(), None
        try:
            while not (stop.is_set() or working.done()):
                row = await self._engine.row(run_id)
                if row["lease_worker"] is None and not leases.needs_worker(row):
                    return
                position = (row["event_seq"], row["updated_at"], row["lease_worker"])
                if position != before or row["lease_worker"] is not None:
                    since, before = self._clock.now(), position
                elif (self._clock.now() - since).total_seconds() > STUCK_SECONDS:
                    raise DevflowError(
                        "internal_error",
                        f"run {row['number']} could not be advanced for {STUCK_SECONDS:.0f} s; the log says why",
                        recovery_hint="what was done is kept; run the job again, or let the next event go on",
                    )
                await asyncio.wait({working}, timeout=POLL_SECONDS)
        finally:
            ending.set()
            await working

    async def _attend(self) -> None:
        """Handle events and show runs, one after the other, until cancelled."""
        while True:
            for delivery_id in await self._inbox.waiting():
                if self._shared is None or delivery_id in self._shared:
                    await self._inbox.handle(delivery_id)
            ours = {str(run_id) for run_id in await self._runs()}
            for run_id in await self._projector.waiting():
                if run_id in ours:
                    await self._projector.project(UUID(run_id))
            await asyncio.sleep(POLL_SECONDS)

    async def _left(self) -> list[Any]:
        """Return what is still to be handled or shown; what only has to be looked at again later does not count."""
        events = select(deliveries.c.delivery_id, deliveries.c.attempts).where(deliveries.c.state == "received")
        if self._shared is not None:
            events = events.where(deliveries.c.delivery_id.in_(self._shared))
        shown = (projections.c.run_id, projections.c.attempts, projections.c.projected_at)
        to_show = select(*shown).where(
            projections.c.run_id.in_(self._of_issue().with_only_columns(runs.c.run_id)),
            or_(projections.c.dirty, projections.c.claimed_by.is_not(None)),
        )
        async with self._engine.database.read() as tx:
            return [tuple(row.values()) for statement in (events, to_show) for row in await tx.all(statement)]

    async def _runs(self) -> list[UUID]:
        """Return the runs of the issue, the first one first."""
        async with self._engine.database.read() as tx:
            return [row["run_id"] for row in await tx.all(self._of_issue().order_by(runs.c.number))]

    def _of_issue(self) -> Any:
        here = (runs.c.repository_id == self._repository_id) & (runs.c.issue_number == self._issue_number)
        return select(runs.c.run_id).where(here)
