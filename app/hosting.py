"""Everything that a GitHub App's process runs: the engine, the way to GitHub, and who attends to what.

`devflow serve` puts the door in front of it, `devflow worker` runs it without. One `Host` is one process's: one pool of
connections for the app beside the engine's, one presence, and side by side the inbox, the projector, the worker for
runs, and the look for deliveries that never arrived.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any

from app.clock import Clock, SystemClock
from app.github.app import GitHubApp
from app.github.auth import AppCredentials
from app.github.redelivery import Redelivery
from app.github.remotes import GitHubRemotes
from app.inbound.context import House
from app.inbound.inbox import Inbox
from app.settings import AppSettings
from app.surface.projector import Projector
from engine.agents.replay_agent import parse_cassette
from engine.attendant import Attendant
from engine.facade import Engine
from engine.presence import Presence
from engine.settings import Settings
from engine.store import jobs
from engine.store.database import Database
from engine.store.embedded import open_embedded

_INBOX_CONCURRENCY = 8
_PROJECTOR_CONCURRENCY = 4
_log = logging.getLogger(__name__)


class Host:
    """One process's engine and GitHub App; open it with `Host.open`."""

    def __init__(self, engine: Engine, app: GitHubApp, database: Database, clock: Clock, settings: AppSettings) -> None:
        self.engine = engine
        self.app = app
        self.database = database
        self.clock = clock
        self.settings = settings

    @classmethod
    @asynccontextmanager
    async def open(
        cls, settings: Settings, app_settings: AppSettings, clock: Clock | None = None
    ) -> AsyncIterator["Host"]:
        """Connect to the database, migrate it, and close everything at the end; GitHub is not asked anything yet.

        Raises `config_invalid`, `database_unavailable` or `database_schema_newer`.
        """
        clock = clock or SystemClock()
        if app_settings.cassette is not None:
            parse_cassette(app_settings.cassette[1], app_settings.cassette[0])
        async with AsyncExitStack() as stack:
            if settings.database_url is None:
                embedded = await open_embedded(settings.data_dir)
                stack.push_async_callback(embedded.close)
                settings = replace(settings, database_url=embedded.url)
            database = Database(str(settings.database_url))
            stack.push_async_callback(database.close)
            app = GitHubApp(
                AppCredentials(app_settings.app_id, app_settings.private_key),
                database,
                clock,
                api_url=app_settings.api_url,
                server_url=app_settings.server_url,
                seconds_between_writes=app_settings.seconds_between_writes,
            )
            stack.push_async_callback(app.close)
            engine = await stack.enter_async_context(Engine.open(settings, GitHubRemotes(app)))
            yield cls(engine, app, database, clock, app_settings)

    async def run(self, stop: asyncio.Event, *, slots: int | None = None) -> None:
        """Attend to deliveries, runs and surfaces until `stop` is set; then drain and hand everything back.

        `slots` says how many runs are driven at once (None: as the settings say). Raises what made a part of it fail,
        after the others were stopped as well.
        """
        engine = self.engine
        if slots is not None:
            engine = Engine(replace(engine.settings, worker_slots=slots), engine.database, GitHubRemotes(self.app))
        async with Presence(self.database, engine.settings) as presence:
            ending = asyncio.Event()
            parts: list[Coroutine[Any, Any, None]] = [
                *(attendant.run(ending) for attendant in self._attendants(engine, presence)),
                engine.worker(presence=presence).run(ending),
                Redelivery(self.app, self.database, self.clock).run(ending),
            ]
            await _side_by_side(parts, stop, ending)

    def _attendants(self, engine: Engine, presence: Presence) -> list[Attendant]:
        settings = engine.settings
        projector = Projector(
            engine,
            self.app,
            self.clock,
            worker_id=presence.worker_id,
            dead_after_seconds=settings.worker_dead_after_seconds,
        )
        house = House(engine, self.app, self.clock, projector, self.settings.cassette)
        inbox = Inbox(house, presence.worker_id, settings.worker_dead_after_seconds)
        return [
            Attendant(
                self.database,
                queue,
                who.handle,
                who.waiting,
                presence=presence,
                concurrency=concurrency,
                sweep_seconds=settings.sweep_seconds,
                drain_seconds=settings.shutdown_drain_seconds,
            )
            for queue, who, concurrency in (
                (jobs.HANDLE_DELIVERY, inbox, _INBOX_CONCURRENCY),
                (jobs.RUN_CHANGED, projector, _PROJECTOR_CONCURRENCY),
            )
        ]


async def _side_by_side(parts: list[Coroutine[Any, Any, None]], stop: asyncio.Event, ending: asyncio.Event) -> None:
    """Run all parts until `stop`, or until one of them ends by itself; then tell all to end, and wait for them."""
    tasks = [asyncio.create_task(part) for part in parts]
    stopped = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({*tasks, stopped}, return_when=asyncio.FIRST_COMPLETED)
    except asyncio.CancelledError:
        for task in tasks:
            task.cancel()
        raise
    finally:
        ending.set()
        stopped.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
    failures = [result for result in results if isinstance(result, Exception)]
    for failure in failures[1:]:
        _log.error("a part of the process failed", exc_info=failure)
    if failures:
        raise failures[0]
