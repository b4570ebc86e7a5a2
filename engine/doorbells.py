"""Hears doorbells: PgQueuer's loop on a connection of its own, under a supervisor.

PgQueuer does not listen again after its connection is lost, and only finds out at its next poll. So the loop is ended
as soon as the connection closes, and begun anew until it holds, through any number of database restarts.
"""

import asyncio
import json
import logging
import time
from collections.abc import Callable
from datetime import timedelta

import asyncpg
from pgqueuer.adapters.drivers.asyncpg import AsyncpgDriver
from pgqueuer.core.qm import QueueManager
from pgqueuer.domain.errors import PgqException
from pgqueuer.domain.models import Job
from pgqueuer.ports.driver import NotifyCallback

from engine.store.address import connect_arguments
from engine.store.jobs import QUEUE_SETTINGS, queries

_log = logging.getLogger(__name__)
_LOST = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, PgqException)
_BACK_OFF_FIRST = 0.1
_BACK_OFF_MOST = 5.0
_STEADY_SECONDS = 10.0
_GRACE_SECONDS = 2.0
_REPICK_AFTER = timedelta(seconds=10)


class _Driver(AsyncpgDriver):
    """Hears of new jobs only: each job that is done and deleted would wake all listeners of all queues for nothing."""

    async def add_listener(self, channel: str, callback: NotifyCallback) -> None:
        """Call `callback` with what is said on the channel, but for changes of the table that bring no work."""

        def heard(payload: str | bytes | bytearray) -> None:
            said = json.loads(payload)
            if said.get("type") != "table_changed_event" or said.get("operation") == "insert":
                callback(payload)

        await super().add_listener(channel, heard)


class _Manager(QueueManager):
    """PgQueuer's loop without what our jobs do not need, which is four statements in five."""

    async def verify_structure(self) -> None:
        """Ask nothing: our migrations have made the tables."""

    async def _effective_dequeue_timeout(self, dequeue_timeout: timedelta) -> timedelta:
        # PgQueuer asks here for jobs that come due without being told of. None of ours is put off, and whatever was
        # enqueued after the last look has left its notification.
        return dequeue_timeout


async def listen(
    url: str, queue: str, on_doorbell: Callable[[bytes], None], stop: asyncio.Event, poll_seconds: float
) -> None:
    """Call `on_doorbell` with each job's payload until `stop` is set; a lost database is waited for.

    `poll_seconds` bounds how late a job is whose notification was lost.
    """
    delay = _BACK_OFF_FIRST
    while not stop.is_set():
        began = time.monotonic()
        try:
            await _listen_once(url, queue, on_doorbell, stop, poll_seconds)
        except _LOST as error:
            _log.warning("lost the queue's connection, listening again in %.1f s: %s", delay, error)
        if time.monotonic() - began > _STEADY_SECONDS:
            delay = _BACK_OFF_FIRST
        await _until(stop, delay)
        delay = min(2 * delay, _BACK_OFF_MOST)


async def _listen_once(
    url: str, queue: str, on_doorbell: Callable[[bytes], None], stop: asyncio.Event, poll_seconds: float
) -> None:
    connection = await asyncpg.connect(**connect_arguments(url))
    closed = asyncio.Event()
    connection.add_termination_listener(lambda _: closed.set())
    manager = _Manager(queries(connection, _Driver), channel=QUEUE_SETTINGS.channel)

    @manager.entrypoint(queue)
    async def doorbell(job: Job) -> None:
        on_doorbell(job.payload or b"")

    loop = asyncio.create_task(
        manager.run(
            dequeue_timeout=timedelta(seconds=poll_seconds),
            heartbeat_timeout=_REPICK_AFTER,
            shutdown_on_listener_failure=True,
            log_aggregation_interval=timedelta(0),
        )
    )
    ends = [asyncio.create_task(event.wait()) for event in (closed, stop)]
    try:
        await asyncio.wait({loop, *ends}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        manager.shutdown.set()
        if not closed.is_set():
            await asyncio.wait({loop}, timeout=_GRACE_SECONDS)
        connection.terminate()  # what still waits for an answer on it ends with an error
        for task in ends:
            task.cancel()
        if not loop.done():
            await asyncio.wait({loop}, timeout=_GRACE_SECONDS)
        loop.cancel()
        await asyncio.wait({loop, *ends})
    error = None if loop.cancelled() else loop.exception()
    if error is not None and not stop.is_set():
        raise error


async def _until(stop: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        return
