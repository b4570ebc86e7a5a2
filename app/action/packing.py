"""One issue's rows, on their way between the step's database and what is kept of the issue.

The database is this step's alone. A mark says whether something has happened in it that people will see the effects of,
so that the keeper need not pack everything to find out.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import func, select

from engine.facade import Engine
from engine.store import deliveries, projections, snapshot, surfaces
from engine.store.deliveries import NewDelivery
from engine.store.host_tables import commands
from engine.store.host_tables import deliveries as delivery_rows
from engine.store.snapshot_format import invalid
from engine.store.tables import decisions, runs


@dataclass(frozen=True)
class IssueRows:
    """The rows of one issue; without `conversations`, what models and tools said is left out."""

    engine: Engine
    repository_id: int
    issue_number: int
    conversations: bool

    async def mark(self) -> Any:
        """Return a value that is another one after each step of a run, each decision and each handled event."""
        shown = (
            runs.c.run_id,
            runs.c.epoch,
            runs.c.event_seq,
            runs.c.state,
            runs.c.requested_action,
            runs.c.head_sha,
            runs.c.pushed_sha,
        )
        counts = (
            select(func.count()).select_from(decisions),
            select(func.count()).select_from(commands),
            select(func.count(), func.count(delivery_rows.c.responses), func.count(delivery_rows.c.handled_at)),
        )
        async with self.engine.database.read() as tx:
            found: list[Any] = [tuple(row.values()) for row in await tx.all(select(*shown).order_by(runs.c.run_id))]
            for statement in counts:
                found.append(tuple((await tx.execute(statement)).one()))
        return found

    async def pack(self) -> tuple[dict[UUID, bytes], bytes]:
        """Return a snapshot of each run, and the rows of the issue itself."""
        async with self.engine.database.transaction() as tx:
            await deliveries.forget_bodies(tx)
        rows = await self.engine.runs_of_issue(self.repository_id, self.issue_number)
        ids: list[UUID] = [row["run_id"] for row in rows]
        packed = {
            run_id: await self.engine.export_run(run_id, conversations=self.conversations) for run_id in sorted(ids)
        }
        async with self.engine.database.read() as tx:
            return packed, await snapshot.export_host_rows(tx, self.repository_id)

    async def unpack(self, packed: Mapping[UUID, bytes], issue_rows: bytes | None) -> None:
        """Write what was packed into the database, which is empty.

        Raises `snapshot_invalid` where it is not whole, or not this issue's: nobody would look at another's runs.
        """
        for run_id, data in packed.items():
            row = await self.engine.row(await self.engine.import_run(data))
            found = (row["run_id"], row["repository_id"], row["issue_number"])
            if found != (run_id, self.repository_id, self.issue_number):
                raise invalid(f"the file of run {run_id} holds another one, or one of another issue")
        if issue_rows is not None:
            async with self.engine.database.transaction() as tx:
                await snapshot.import_host_rows(tx, snapshot.read_host_rows(issue_rows, self.repository_id))
                await deliveries.forget_answers(tx)  # they would be given as they stand, whoever wrote them

    async def take_in(self, new: Sequence[NewDelivery]) -> None:
        """Store the events that are not known, in their order."""
        for delivery in new:
            async with self.engine.database.transaction() as tx:  # each with a time of its own
                await deliveries.store_many(tx, [delivery])

    async def known(self, delivery_ids: Sequence[str]) -> set[str]:
        """Return which events were stored already."""
        async with self.engine.database.read() as tx:
            return await deliveries.known(tx, delivery_ids)

    async def outcome_of(self, delivery_id: str) -> str | None:
        """Return in a few words what became of an event, None where it is still to be handled."""
        async with self.engine.database.read() as tx:
            row = await deliveries.get(tx, delivery_id)
        return None if row is None or row["state"] == "received" else row["outcome"]

    async def pull_number(self, run_id: UUID) -> int | None:
        """Return the number of a run's pull request, None where there is none yet."""
        async with self.engine.database.read() as tx:
            row = await surfaces.get(tx, self.repository_id, f"run/{run_id}/pull")
        return int(row["external_id"]) if row is not None and row["external_id"] else None

    async def are_worth_keeping(self) -> bool:
        """Whether there is a run, an answer that was given, or an event that is still to be handled."""
        async with self.engine.database.read() as tx:
            if await deliveries.unfinished(tx) or await surfaces.any_of_repository(tx, self.repository_id):
                return True
        return await self.engine.run_of_issue(self.repository_id, self.issue_number) is not None

    async def have_live_run(self) -> bool:
        """Whether a run of the issue has not ended."""
        rows = await self.engine.runs_of_issue(self.repository_id, self.issue_number)
        return any(row["ended_at"] is None for row in rows)

    async def is_live(self) -> bool:
        """Whether a run of the issue has not ended or is not fully shown, or an event is still to be handled."""
        async with self.engine.database.read() as tx:
            busy = await projections.unfinished_issues(tx, self.repository_id)
            return bool(busy or await deliveries.unfinished(tx))
