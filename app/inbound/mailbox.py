"""Deliveries on their way into the database: those that arrive at the same time share one transaction.

The door hands a delivery over and waits until it is committed. While one transaction is under way the next batch
gathers, so the time that a commit takes is paid once for many deliveries and no delivery waits for company.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from typing import Protocol

from engine.domain.errors import DevflowError
from engine.store import deliveries
from engine.store.database import Database
from engine.store.deliveries import NewDelivery

_log = logging.getLogger(__name__)
_BATCH = 64
_BATCH_BYTES = 8_000_000
_STORE_SECONDS = 8.0  # GitHub itself gives up after 10


class Store(Protocol):
    """Keeps deliveries for good and rings for each that is new."""

    async def __call__(self, batch: Sequence[NewDelivery]) -> set[str]:
        """Store the deliveries in one transaction; return the ids of those that were new."""


def database_store(database: Database) -> Store:
    """Return the store of a database."""

    async def store(batch: Sequence[NewDelivery]) -> set[str]:
        async with database.transaction() as tx:
            return await deliveries.store_many(tx, list(batch))

    return store


class Mailbox:
    """Gathers deliveries and stores them; one for each door, used from one event loop."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._waiting: deque[tuple[NewDelivery, asyncio.Future[bool]]] = deque()
        self._emptying: asyncio.Task[None] | None = None

    async def put(self, delivery: NewDelivery) -> bool:
        """Store a delivery; returns whether it is new. Only what is committed returns.

        Raises `database_unavailable`, also where the database takes too long; the delivery may be there all the same,
        and is then known when it comes again.
        """
        arrived: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append((delivery, arrived))
        if self._emptying is None:
            self._emptying = asyncio.create_task(self._empty(), name="storing deliveries")
        try:
            async with asyncio.timeout(_STORE_SECONDS):
                return await arrived
        except TimeoutError:
            raise DevflowError("database_unavailable", "the database did not take the delivery in time") from None

    async def close(self) -> None:
        """Wait until what was put is stored or refused."""
        if self._emptying is not None:
            await asyncio.wait({self._emptying})

    async def _empty(self) -> None:
        try:
            while batch := self._next_batch():
                await self._store_batch(batch)
        finally:
            self._emptying = None

    def _next_batch(self) -> list[tuple[NewDelivery, asyncio.Future[bool]]]:
        batch: list[tuple[NewDelivery, asyncio.Future[bool]]] = []
        size = 0
        while self._waiting and len(batch) < _BATCH and (not batch or size < _BATCH_BYTES):
            delivery, arrived = self._waiting.popleft()
            if arrived.done():
                continue  # whoever brought it waits no longer and will come again
            batch.append((delivery, arrived))
            size += len(delivery.body)
        return batch

    async def _store_batch(self, batch: list[tuple[NewDelivery, asyncio.Future[bool]]]) -> None:
        first = {delivery.delivery_id: delivery for delivery, _ in reversed(batch)}
        try:
            async with asyncio.timeout(_STORE_SECONDS):
                new = set(await self._store(list(first.values())))
        except Exception as raised:  # noqa: BLE001 - whoever brought a delivery is told, with the reason
            for _, arrived in batch:
                if not arrived.done():
                    arrived.set_exception(_as_error(raised))
            return
        for delivery, arrived in batch:
            if not arrived.done():
                arrived.set_result(delivery.delivery_id in new)
            new.discard(delivery.delivery_id)


def _as_error(raised: Exception) -> DevflowError:
    if isinstance(raised, DevflowError):
        return raised
    if isinstance(raised, TimeoutError):
        return DevflowError("database_unavailable", "the database did not take the delivery in time")
    _log.error("deliveries could not be stored", exc_info=raised)
    return DevflowError("database_unavailable", "the delivery could not be stored")
