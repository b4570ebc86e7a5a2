"""The engine as its hosts see it: start a run, answer its gates, pause, resume, retry, find and read it.

The command line, the server and the Action call these methods and nothing below them. An `Engine` holds no state of any
run: two runs on one engine, or one run on two engines, cannot mix.
"""

import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import RowMapping

from engine import consents, lifecycle, views
from engine.documents import pending_document
from engine.domain.errors import DevflowError, error_of
from engine.domain.states import Action, RunState
from engine.gates import Answer, Decided, decide, repeated_answer
from engine.ports import Remotes
from engine.runner.advance import Runner
from engine.runner.plan import load_plan, load_workflow
from engine.runner.refresh import pushed_since, refresh_gate
from engine.services import Services
from engine.settings import Settings
from engine.start import StartRequest, create_retry, create_run_from
from engine.store import approvals, events, jobs, leases, migrate, runs
from engine.store.database import Database, LockedRun
from engine.store.embedded import open_embedded
from engine.worker import Worker

_log = logging.getLogger(__name__)


class Engine:
    """One engine over one database; open it with `Engine.open`."""

    def __init__(self, settings: Settings, database: Database, remotes: Remotes) -> None:
        self.settings = settings
        self.database = database
        self._services = Services(settings, database, remotes)
        self.consents = consents.Consents(database)

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: Settings, remotes: Remotes) -> AsyncIterator["Engine"]:
        """Connect to the database (the embedded one where the settings name none), migrate it, and close it at the end.

        A run that has ended and whose process died before it was closed gets its report now. Raises
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
            await engine.write_missing_reports()
            yield engine

    async def start(self, request: StartRequest) -> UUID:
        """Create a run and ring for it; whatever is wrong with the request is raised before a run exists."""
        return await create_run_from(self._services, request)

    async def answer(self, run_id: UUID, answer: Answer) -> Decided:
        """Record what a person answered at the run's gate; see `gates.decide` for what it raises.

        An approval is checked against what the branch holds now: changed content supersedes the request. A revision
        goes on from there: who pushed and asks for more wants both.
        """
        answer = replace(answer, note=events.clean_json(answer.note))
        if answer.action is Action.ABORT:
            return await self._abort(run_id, answer)
        if answer.action is Action.APPROVE:
            await refresh_gate(self._services, await self.row(run_id))
        seen = await self.row(run_id)
        pushed = await pushed_since(self._services, seen) if answer.action is Action.REVISE else None
        async with self.database.locked(run_id) as tx:
            decided = await decide(tx, await load_workflow(tx, tx.row), answer)
            if pushed is not None and decided.state is RunState.EXECUTING and tx.row["head_sha"] == seen["head_sha"]:
                await runs.update_run(tx, head_sha=pushed, pushed_sha=pushed)
            return decided

    async def _abort(self, run_id: UUID, answer: Answer) -> Decided:
        async with self.database.locked(run_id) as tx:
            if (repeated := await repeated_answer(tx, answer)) is not None:
                return repeated
            state = RunState(tx.row["state"])
            if state.terminal:
                raise DevflowError("run_already_terminal", f"the run is {state}")
            if await approvals.pending_request(tx, run_id) is not None:
                return await decide(tx, await load_workflow(tx, tx.row), answer)
            if await self._lease_is_live(tx):
                await runs.update_run(tx, requested_action="abort", requested_by=answer.by, requested_note=answer.note)
            else:
                await leases.revoke(tx)
                await lifecycle.abort_run(tx, answer.by, answer.note)
            return Decided(RunState(tx.row["state"]), moved=True)

    async def pause(self, run_id: UUID, by: str, note: str | None = None) -> RunState:
        """Ask the run to stop at its next safe point, or stop it at once where nobody drives it."""
        note = events.clean_json(note)
        async with self.database.locked(run_id) as tx:
            state = RunState(tx.row["state"])
            if state.terminal:
                raise DevflowError("run_already_terminal", f"the run is {state}")
            if state is RunState.PAUSED:
                raise DevflowError("illegal_transition", "the run is paused already")
            if tx.row["requested_action"] == "abort":
                raise DevflowError("illegal_transition", f"{tx.row['requested_by']} has ended the run; it is stopping")
            live = await self._lease_is_live(tx)
            if state is not RunState.AWAITING_APPROVAL and live:
                await runs.update_run(tx, requested_action="pause", requested_by=by, requested_note=note)
            else:
                if not live:
                    await leases.revoke(tx)
                await lifecycle.pause_run(tx, "paused_by_person", note or f"paused by {by}", by)
            return RunState(tx.row["state"])

    async def resume(self, run_id: UUID) -> RunState:
        """Let a paused run go on; a run at its gate, or one whose worker is gone, only needs somebody to drive it.

        Raises `run_already_terminal`, `worker_already_running`, `template_load_failed`, `run_metadata_missing`, or
        `illegal_transition` where a request is pending.
        """
        await load_plan(self.database, run_id)
        async with self.database.locked(run_id) as tx:
            state = RunState(tx.row["state"])
            if state.terminal:
                raise DevflowError("run_already_terminal", f"the run is {state}")
            request = await approvals.pending_request(tx, run_id)
            holder = await leases.live_holder(tx, self.settings.worker_dead_after_seconds)
            if holder is None and state is not RunState.EXECUTING:
                await leases.revoke(tx)  # nobody will hand it back any more
            if state is RunState.PAUSED:
                if request is not None:
                    raise DevflowError(
                        "illegal_transition",
                        f"the run is paused and its {request['gate_key']} gate waits for an answer",
                        recovery_hint="answer it with `devflow approve RUN`, reject or abort",
                    )
                await lifecycle.resume_run(tx, "resumed by a person")
            elif state in (RunState.EXECUTING, RunState.CREATED):
                if holder is not None:
                    raise DevflowError("worker_already_running", f"the run is being worked on by {holder}")
                if tx.row["requested_action"] == "pause":
                    await runs.update_run(tx, requested_action=None, requested_by=None, requested_note=None)
                if state is RunState.EXECUTING and tx.row["lease_worker"] is None:
                    await lifecycle.note_resumed(tx, "resumed by a person")  # a take-over notes it by itself
                await jobs.ring_run(tx)
            return RunState(tx.row["state"])

    async def retry(self, run_id: UUID, by: str) -> UUID:
        """Start a new run that adopts the completed phases of a failed or aborted one; returns its id."""
        return await create_retry(self._services, run_id, by)

    async def last_heartbeat(self, run_id: UUID) -> datetime | None:
        """Return when the worker that holds the run's lease was last heard of, or None where nobody holds it."""
        async with self.database.read() as tx:
            return await leases.last_heartbeat(tx, run_id)

    async def other_holder(self, run_id: UUID, worker_id: UUID) -> str | None:
        """Return which living worker but `worker_id` holds the run's lease, as words for people, or None."""
        async with self.database.locked(run_id) as tx:
            if tx.row["lease_worker"] == worker_id:
                return None
            return await leases.live_holder(tx, self.settings.worker_dead_after_seconds)

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

    def worker(self, only_run: UUID | None = None) -> Worker:
        """Return a worker that advances runs: all of them, or only one.

        A worker for one run takes that run's doorbells alone, and stops at once: whoever drives it pauses it first.
        """
        settings = self.settings if only_run is None else replace(self.settings, shutdown_drain_seconds=0)
        return Worker(self.database, self._runner().advance, settings=settings, only_run=only_run)

    async def find(self, reference: str) -> UUID:
        """Return the run that `reference` names; raises `run_not_found` or `run_id_ambiguous`."""
        async with self.database.read() as tx:
            return await runs.find_run(tx, reference)

    async def row(self, run_id: UUID) -> RowMapping:
        """Return the run's row as it stands."""
        async with self.database.read() as tx:
            return await runs.get_run(tx, run_id)

    async def summary(self, run_id: UUID) -> views.Json:
        """Return the answer of `run` and `resume`."""
        async with self.database.read() as tx:
            return await views.run_summary(tx, run_id)

    async def details(self, run_id: UUID) -> views.Json:
        """Return the answer of `show`."""
        async with self.database.read() as tx:
            return await views.run_details(tx, run_id)

    async def list_runs(self, state: RunState | None = None) -> list[views.Json]:
        """Return the rows of `runs`, newest first."""
        async with self.database.read() as tx:
            return [views.run_row(row) for row in await runs.list_runs(tx, state)]

    async def events(self, run_id: UUID, after: int = 0) -> list[views.Json]:
        """Return the run's events with a sequence number above `after`, in order."""
        async with self.database.read() as tx:
            await runs.get_run(tx, run_id)
            return [views.event_row(row) for row in await events.history(tx, run_id, after)]

    async def broken_link(self, run_id: UUID) -> tuple[int, int | None]:
        """Return how many events the run has, and where their hash chain breaks (None: nowhere)."""
        async with self.database.read() as tx:
            run = await runs.get_run(tx, run_id)
            rows = await events.history(tx, run_id)
        broken = events.first_broken_link(rows)
        if broken is None and (len(rows) != run["event_seq"] or (rows and rows[-1]["hash"] != run["event_hash"])):
            broken = len(rows) + 1
        return len(rows), broken

    async def pending_document(self, run_id: UUID) -> dict[str, Any] | None:
        """Return what the run's pending gate asks about: the request's row and the artifact's Markdown."""
        return await pending_document(self.database, run_id)

    async def _lease_is_live(self, tx: LockedRun) -> bool:
        return await leases.lease_is_live(tx, self.settings.worker_dead_after_seconds)

    def _runner(self) -> Runner:
        return Runner(self._services)
