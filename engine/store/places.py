"""Places: how many runs may be driven at once over all workers, which one comes next, and which one has to wait.

Only runs of a host are counted and capped; what a person drives on a local repository is never refused. A run holds a
place while a worker that lives holds its lease. What only has to be stopped or closed needs none.
"""

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import RowMapping, select, text

from engine.domain.states import RunState
from engine.settings import Settings
from engine.store.database import Transaction
from engine.store.runs import ENDED
from engine.store.tables import runs, workers
from engine.store.workers import alive, lives

_LOCK = text("SELECT pg_advisory_xact_lock(:key)")
_LOCK_KEY = 0x706C6163  # any number that no other lock of one number uses


@dataclass(frozen=True)
class Caps:
    """How many runs of hosted repositories all workers together drive at once."""

    in_all: int
    per_repository: int

    @classmethod
    def of(cls, settings: Settings) -> "Caps":
        """Return the caps that an operator has set."""
        return cls(settings.max_concurrent_runs, settings.max_concurrent_runs_per_repository)

    def leave_room(self, repository_id: int, driven: Counter[int]) -> bool:
        """Whether one more run of the repository may be driven beside those that are."""
        in_all = sum(count for repository, count in driven.items() if repository > 0)
        return in_all < self.in_all and driven[repository_id] < self.per_repository


class MustWait(Exception):  # noqa: N818 - nothing is wrong
    """The run may not be taken now; whoever looks again later will find it."""


def is_to_begin(state: str, started_at: datetime | None) -> bool:
    """Whether a run is still to begin, and so has to wait for earlier runs of its issue."""
    return started_at is None and not RunState(state).terminal


def is_short(run: RowMapping) -> bool:
    """Whether the run only has to be stopped or closed."""
    return RunState(run["state"]).terminal or run["requested_action"] is not None


def needs_place(run: RowMapping) -> bool:
    """Whether the caps hold for taking the run."""
    return run["repository_id"] > 0 and not is_short(run)


async def one_at_a_time(tx: Transaction) -> None:
    """Have whoever counts places and takes one do so alone, until the end of the transaction."""
    await tx.execute(_LOCK.bindparams(key=_LOCK_KEY))


async def driven(tx: Transaction, dead_after_seconds: float, leave_out: Collection[UUID] = ()) -> Counter[int]:
    """Return how many runs of each repository are driven by a worker that lives."""
    statement = (
        select(runs.c.repository_id, runs.c.run_id, workers, alive(dead_after_seconds).label("alive"))
        .select_from(runs.join(workers, workers.c.worker_id == runs.c.lease_worker))
        .where(runs.c.lease_worker.is_not(None), ~ENDED)
    )
    rows = await tx.all(statement)
    return Counter(row["repository_id"] for row in rows if row["run_id"] not in leave_out and lives(row))


async def behind_others(tx: Transaction, run_ids: Collection[UUID], dead_after_seconds: float) -> set[UUID]:
    """Return which of the runs, none of which has begun, have to wait for an earlier run of their issue.

    An earlier run is out of the way when it has ended, its report is written, and no worker that lives holds it.
    """
    if not run_ids:
        return set()
    later = runs.alias("later")
    statement: Any = (
        select(later.c.run_id, ENDED.label("ended"), runs.c.final_report_path, workers)
        .add_columns(alive(dead_after_seconds).label("alive"))
        .select_from(
            later.join(
                runs,
                (runs.c.repository_id == later.c.repository_id)
                & (runs.c.issue_number == later.c.issue_number)
                & (runs.c.number < later.c.number),
            ).outerjoin(workers, workers.c.worker_id == runs.c.lease_worker)
        )
        .where(later.c.run_id.in_(list(run_ids)))
        .where(~ENDED | runs.c.final_report_path.is_(None) | runs.c.lease_worker.is_not(None))
    )
    rows = await tx.all(statement)
    return {row["run_id"] for row in rows if not row["ended"] or row["final_report_path"] is None or lives(row)}


def in_fair_order(candidates: Iterable[RowMapping], driven: Counter[int], caps: Caps | None, limit: int) -> list[UUID]:
    """Return which of the candidates, oldest first, are to be driven next: as if they were taken one after the other.

    A free place goes to the repository that has the fewest, then to the oldest run. What needs no place goes first.
    """
    chosen: list[UUID] = []
    queues: dict[int, list[RowMapping]] = {}
    for run in candidates:
        if is_short(run):
            chosen.append(run["run_id"])
        else:
            queues.setdefault(run["repository_id"], []).append(run)
    taken = Counter(driven)
    while queues and len(chosen) < limit:
        repository_id = min(queues, key=lambda it: (taken[it], queues[it][0]["created_at"], queues[it][0]["run_id"]))
        queue = queues[repository_id]
        if caps is not None and repository_id > 0 and not caps.leave_room(repository_id, taken):
            del queues[repository_id]
            continue
        chosen.append(queue.pop(0)["run_id"])
        taken[repository_id] += 1
        if not queue:
            del queues[repository_id]
    return chosen[:limit]
