"""Asks GitHub again for deliveries that never arrived, because GitHub does not repeat them by itself.

Runs beside the door: a look at the start, over all that GitHub keeps, and one every 10 minutes over what came since.
What GitHub then sends has the same delivery id, so that a delivery that did arrive is not handled twice.
"""

import asyncio
import contextlib
import logging
from collections import Counter
from datetime import datetime, timedelta

from app.clock import Clock
from app.github.app import GitHubApp
from app.github.faults import HostFault, Refused, RetryLater
from app.github.shapes import HookDelivery
from engine.domain.errors import DevflowError
from engine.store import deliveries
from engine.store.database import Database

LONGEST = timedelta(days=3)  # GitHub gives nothing older again
INTERVAL_SECONDS = 600.0
_OVERLAP = timedelta(minutes=10)  # GitHub lists an attempt some time after it was made
_MOST_ASKS = 3  # one that fails each time, for a wrong secret perhaps, is not asked for for ever

log = logging.getLogger(__name__)


class Redelivery:
    """Looks for deliveries that failed and that are not stored, and asks for them again."""

    def __init__(
        self, app: GitHubApp, database: Database, clock: Clock, *, interval_seconds: float = INTERVAL_SECONDS
    ) -> None:
        self._app = app
        self._database = database
        self._clock = clock
        self._interval = interval_seconds
        self._looked_at: datetime | None = None
        self._asked: Counter[str] = Counter()

    async def run(self, stop: asyncio.Event) -> None:
        """Look again and again until `stop`; what goes wrong is logged, and the next look begins where it stopped."""
        while not stop.is_set():
            try:
                await self.look()
            except (HostFault, DevflowError) as fault:
                log.warning("could not look for deliveries that failed: %s", fault)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), self._interval)

    async def look(self) -> list[str]:
        """Ask for what is missing since the last look (the first one: 3 days) and return its delivery ids.

        Raises a fault of GitHub or of the database; nothing is forgotten then.
        """
        now = self._clock.now()
        earliest = now - LONGEST
        since = earliest if self._looked_at is None else max(self._looked_at - _OVERLAP, earliest)
        asked = [delivery.guid for delivery in await self._missing(since) if await self._ask(delivery)]
        self._looked_at = now
        if asked:
            log.info("asked GitHub again for %d deliveries that had not arrived", len(asked))
        return asked

    async def _missing(self, since: datetime) -> list[HookDelivery]:
        failed = await self._app.failed_deliveries(since)
        self._asked = Counter({it.guid: self._asked[it.guid] for it in failed})
        failed = [it for it in failed if self._asked[it.guid] < _MOST_ASKS]
        if not failed:
            return []
        async with self._database.read() as tx:
            known = await deliveries.known(tx, [delivery.guid for delivery in failed])
        return [delivery for delivery in failed if delivery.guid not in known]

    async def _ask(self, delivery: HookDelivery) -> bool:
        try:
            await self._app.redeliver(delivery.id)
        except RetryLater:
            raise
        except HostFault as fault:
            reason = fault.message if isinstance(fault, Refused) else str(fault)
            log.warning("GitHub does not deliver %s again: %s", delivery.guid, reason)
            self._asked[delivery.guid] = _MOST_ASKS
            return False
        self._asked[delivery.guid] += 1
        return True
