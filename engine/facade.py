"""The engine as its hosts see it: start a run, answer its gates, pause, resume, abort, retry and read it.

The command line, the server and the Action call these methods and nothing below them. An `Engine` holds no state of any
run: two runs on one engine, or one run on two engines, cannot mix.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from uuid import UUID

from engine import consents, control
from engine.domain.errors import DevflowError, error_of
from engine.domain.states import Action, RunState
from engine.frozen import check_frozen
from engine.gates import Answer, Decided
from engine.hosted import create_hosted_run
from engine.ports import Remotes
from engine.presence import Presence
from engine.reading import Reader
from engine.retry import create_retry
from engine.runner.advance import Runner
from engine.runner.refresh import refresh
from engine.services import Services
from engine.settings import Settings
from engine.start import HostedStart, Started, StartRequest, create_run_from
from engine.store import leases, migrate, runs, snapshot
from engine.store.database import Database
from engine.store.embedded import open_embedded
from engine.store.events import clean_json
from engine.worker import Worker

_log = logging.getLogger(__name__)


class Engine(Reader):
    """One engine over one database; open it with `Engine.open`."""

    def __init__(self, settings: Settings, database: Database, remotes: Remotes) -> None:
        super().__init__(database)
        self.settings = settings
        self._services = Services(settings, database, remotes)
        self.consents = consents.Consents(database)

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: Settings, remotes: Remotes, *, closes_runs: bool = True) -> AsyncIterator["Engine"]:
        """Connect to the database (the embedded one where the settings name none), migrate it, and close it at the end.

        With `closes_runs`, a run that has ended and whose process died before it was closed gets its report now. Raises
        `database_unavailable` or `database_schema_newer`.
        """
        async with AsyncExitStack() as stack:
            url = settings.database_url
            if url is None:
                embedded = await open_embedded(settings.data_dir)
                stack.push_async_callback(embedded.close)
                url = embedded.url
            await migrate.upgrade(url)
            database = Database(url)
            stack.push_async_callback(database.close)
            engine = cls(settings, database, remotes)
            if closes_runs:
                await engine.write_missing_reports()
            yield engine

    async def start(self, request: StartRequest) -> UUID:
        """Create a run and ring for it; whatever is wrong with the request is raised before a run exists."""
        return await create_run_from(self._services, request)

    async def start_hosted(self, start: HostedStart) -> Started:
        """Create the run of a trigger on a hosted repository; the same trigger twice is one run.

        Whatever is wrong is raised before a run exists; `run_in_flight` where the issue has a live run and the policy
        is to reject a second one.
        """
        return await create_hosted_run(self._services, start)

    async def answer(self, run_id: UUID, answer: Answer) -> Decided:
        """Record what a person answered at the run's gate; see `control.answer_gate` and `gates.decide`."""
        return await control.answer_gate(self._services, run_id, replace(answer, note=clean_json(answer.note)))

    async def refresh(self, run_id: UUID) -> bool:
        """Follow a push to the run's branch; returns whether its gate was posted anew for changed content.

        Raises `approval_superseded` where the artifact was edited and is not valid now; the request stays.
        """
        return await refresh(self._services, run_id)

    async def pause(self, run_id: UUID, by: str, note: str | None = None, *, token: str | None = None) -> RunState:
        """Ask the run to stop at its next safe point, or stop it at once where nobody drives it."""
        return await control.pause(self._services, run_id, by, note, token)

    async def resume(self, run_id: UUID, by: str | None = None, *, token: str | None = None) -> RunState:
        """Let a paused run go on, or one whose worker is gone; see `control.resume` for what it raises."""
        return await control.resume(self._services, run_id, by, token)

    async def abort(
        self, run_id: UUID, by: str, note: str | None = None, *, token: str, by_id: int | None = None
    ) -> Decided:
        """End the run, in whatever state it is; raises `run_already_terminal`."""
        return await self.answer(run_id, Answer(Action.ABORT, by=by, token=token, note=note, by_id=by_id))

    async def retry(self, run_id: UUID, by: str, *, token: str | None = None, by_id: int | None = None) -> UUID:
        """Start a new run that adopts the completed phases of a failed or aborted one; returns its id.

        The same token again returns the same run. Raises `illegal_transition` or `run_in_flight`.
        """
        return await create_retry(self._services, run_id, by, token, by_id)

    async def other_holder(self, run_id: UUID, worker_id: UUID) -> str | None:
        """Return which living worker but `worker_id` holds the run's lease, as words for people, or None."""
        async with self.database.locked(run_id) as tx:
            if tx.row["lease_worker"] == worker_id:
                return None
            return await leases.live_holder(tx, self.settings.worker_dead_after_seconds)

    async def import_run(self, data: bytes) -> UUID:
        """Write the run of a snapshot into the database; returns its id. The same run again changes nothing.

        Raises `snapshot_invalid` before anything is written, and `snapshot_conflict`.
        """
        read = await asyncio.to_thread(snapshot.read_snapshot, data)
        async with self.database.transaction() as tx:
            await snapshot.import_run(tx, read)
        return read.run_id

    async def check_frozen(self, run_id: UUID, default_branch: str, cassette: tuple[str, bytes] | None = None) -> None:
        """Hold a run that was read from where others can write against its repository; raises `state_untrusted`."""
        await check_frozen(self._services, run_id, default_branch, cassette)

    async def settle(self, run_id: UUID) -> None:
        """Write the report of a run that has ended and has none, in this process."""
        async with self.database.read() as tx:
            run = await runs.get_run(tx, run_id)
        if RunState(run["state"]).terminal and run["final_report_path"] is None:
            await self._runner().settle(run_id)

    async def write_missing_reports(self) -> None:
        """Close runs that have ended and lack their report or their worker; those of living workers are left alone."""
        async with self.database.read() as tx:
            unclosed = await leases.unclosed(tx, self.settings.worker_dead_after_seconds)
        for run_id in unclosed:
            try:
                await self._runner().settle(run_id)
            except Exception as raised:
                # one run that cannot be closed must not keep every command from being used
                error = error_of(raised)
                if error.code == "database_unavailable":
                    raise
                unforeseen = not isinstance(raised, DevflowError | OSError)
                _log.warning("the report of run %s is still missing: %s", run_id, error, exc_info=unforeseen)

    def worker(self, only_run: UUID | None = None, presence: Presence | None = None) -> Worker:
        """Return a worker that advances runs: all of them, or only one.

        A worker for one run takes that run's doorbells alone, and stops at once: whoever drives it pauses it first.
        `presence` is the process's own, where it runs more than this worker.
        """
        settings = self.settings if only_run is None else replace(self.settings, shutdown_drain_seconds=0)
        return Worker(self.database, self._runner().advance, settings=settings, only_run=only_run, presence=presence)

    def _runner(self) -> Runner:
        return Runner(self._services)
