"""What can be read of runs: rows, the pinned JSON, the documents that people are shown. Nothing here changes anything.

`Engine` is a `Reader` that can act as well. Everything comes from the database as it is at that moment.
"""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import RowMapping

from engine import documents, views
from engine.domain.states import RunState
from engine.runner.report import build_report, report_markdown
from engine.store import approvals, events, leases, runs, snapshot
from engine.store.database import Database


class Reader:
    """Reads the runs of one database."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def find(self, reference: str) -> UUID:
        """Return the run that `reference` names; raises `run_not_found` or `run_id_ambiguous`."""
        async with self.database.read() as tx:
            return await runs.find_run(tx, reference)

    async def row(self, run_id: UUID) -> RowMapping:
        """Return the run's row as it stands."""
        async with self.database.read() as tx:
            return await runs.get_run(tx, run_id)

    async def inputs(self, run_id: UUID) -> RowMapping:
        """Return the run's frozen input; `metadata` has `requested_by`, and for a hosted run `trigger`."""
        async with self.database.read() as tx:
            return await runs.get_inputs(tx, run_id)

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

    async def runs_of_issue(self, repository_id: int, issue_number: int) -> list[RowMapping]:
        """Return the rows of all runs of an issue, newest first."""
        async with self.database.read() as tx:
            return await runs.of_issue(tx, repository_id, issue_number)

    async def run_of_issue(self, repository_id: int, issue_number: int) -> RowMapping | None:
        """Return the run that a command on the issue means: the live one, started before waiting, else the newest."""
        async with self.database.read() as tx:
            live = await runs.live_of_issue(tx, repository_id, issue_number)
            known = live or await runs.of_issue(tx, repository_id, issue_number)
            return known[0] if known else None

    async def live_runs(self, repository_id: int) -> list[RowMapping]:
        """Return the rows of the repository's runs that have not ended, oldest first."""
        async with self.database.read() as tx:
            return await runs.live_of_repository(tx, repository_id)

    async def run_on_branch(self, repository_id: int, branch: str) -> RowMapping | None:
        """Return the run whose own branch this is, or None."""
        async with self.database.read() as tx:
            return await runs.on_branch(tx, repository_id, branch)

    async def waits_for(self, run_id: UUID) -> RowMapping | None:
        """Return the earlier run of the same issue that has to be over before this one begins, or None."""
        async with self.database.read() as tx:
            return await runs.waits_for(tx, await runs.get_run(tx, run_id))

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

    async def export_run(self, run_id: UUID, conversations: bool = True) -> bytes:
        """Return the run with all its rows as a snapshot; see `snapshot.export_run`."""
        async with self.database.read(consistent=True) as tx:
            return await snapshot.export_run(tx, run_id, conversations=conversations)

    async def requests(self, run_id: UUID) -> list[RowMapping]:
        """Return the rows of the run's approval requests, in the order in which they were posted."""
        async with self.database.read() as tx:
            return await approvals.list_requests(tx, run_id)

    async def decisions(self, request_id: UUID) -> list[RowMapping]:
        """Return the rows of the decisions on a request, in the order in which they came."""
        async with self.database.read() as tx:
            return await approvals.list_decisions(tx, request_id)

    async def pending_document(self, run_id: UUID) -> dict[str, Any] | None:
        """Return what the run's pending gate asks about: the request's row and the artifact's Markdown."""
        return await documents.pending_document(self.database, run_id)

    async def request_document(self, request_id: UUID) -> dict[str, Any] | None:
        """Return the same of any request, or None; `markdown` says so where its content was overtaken."""
        return await documents.request_document(self.database, request_id)

    async def artifact_document(self, run_id: UUID, phase_key: str) -> dict[str, Any] | None:
        """Return the valid artifact of a phase's current round with its `markdown`, or None where there is none."""
        return await documents.artifact_document(self.database, run_id, phase_key)

    async def report(self, run_id: UUID) -> tuple[views.Json, str]:
        """Return the run's report as JSON and as Markdown, from the store: its file may be elsewhere."""
        async with self.database.read() as tx:
            report = await build_report(tx, run_id)
        return report, report_markdown(report).decode()

    async def last_heartbeat(self, run_id: UUID) -> datetime | None:
        """Return when the worker that holds the run's lease was last heard of, or None where nobody holds it."""
        async with self.database.read() as tx:
            return await leases.last_heartbeat(tx, run_id)
