"""Runs as rows: creating, finding, listing and moving them between states.

`update_run` and `set_state` are the only ways to change a run; both take the locked row and keep it current.
"""

import re
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import Row, RowMapping, String, cast, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert

from engine.domain.errors import DevflowError
from engine.domain.states import RunState, check_transition
from engine.store import projections
from engine.store.database import LockedRun, Transaction
from engine.store.tables import bindings, repositories, run_inputs, runs

ENDED = runs.c.state.in_([state for state in RunState if state.terminal])


@dataclass(frozen=True)
class NewRun:
    """Everything that is frozen when a run is created. `options` are plain JSON values."""

    repository_id: int
    run_id: UUID
    location: str
    title: str
    workflow: str
    template_hash: str
    queue: str
    base_branch: str
    base_sha: str
    head_sha: str
    options: dict[str, Any]
    budget_usd: Decimal | None
    requirements_md: str
    objective: str
    metadata: dict[str, Any]
    model_override: str | None
    input_hash: str
    extra: dict[str, Any] = field(default_factory=dict)
    issue_number: int | None = None
    retry_of: UUID | None = None
    trigger_key: str | None = None


async def lock_repository(tx: Transaction, repository_id: int, location: str) -> None:
    """Hold the repository's row until the transaction ends: starts of one repository come one after the other.

    It is locked before any run of the repository, never after one.
    """
    await tx.execute(
        insert(repositories)
        .values(repository_id=repository_id, location=location)
        .on_conflict_do_update(index_elements=["repository_id"], set_={"location": location})
    )


async def next_number(tx: Transaction, repository_id: int, location: str) -> int:
    """Take the repository's next run number; runs of one repository take theirs one after the other."""
    statement = (
        insert(repositories)
        .values(repository_id=repository_id, location=location, next_run_number=2)
        .on_conflict_do_update(
            index_elements=["repository_id"],
            set_={"next_run_number": repositories.c.next_run_number + 1, "location": location},
        )
        .returning(repositories.c.next_run_number)
    )
    row: Row[Any] = (await tx.execute(statement)).one()
    return int(row[0]) - 1


async def create_run(tx: Transaction, new: NewRun, number: int, branch: str) -> LockedRun:
    """Insert the run and its frozen input in state `created`; returns the run locked in this transaction."""
    row = await tx.one(
        insert(runs)
        .values(
            repository_id=new.repository_id,
            run_id=new.run_id,
            number=number,
            issue_number=new.issue_number if new.issue_number is not None else number,
            title=new.title,
            workflow=new.workflow,
            template_hash=new.template_hash,
            state=RunState.CREATED,
            queue=new.queue,
            branch=branch,
            base_branch=new.base_branch,
            base_sha=new.base_sha,
            head_sha=new.head_sha,
            options=new.options,
            budget_usd=new.budget_usd,
            retry_of=new.retry_of,
            trigger_key=new.trigger_key,
        )
        .returning(runs)
    )
    await tx.execute(
        insert(run_inputs).values(
            repository_id=new.repository_id,
            run_id=new.run_id,
            requirements_md=new.requirements_md,
            objective=new.objective,
            extra=new.extra,
            metadata=new.metadata,
            model_override=new.model_override,
            input_hash=new.input_hash,
        )
    )
    return LockedRun(tx.connection, row)


async def update_run(tx: LockedRun, **values: Any) -> None:
    """Change columns of the locked run and refresh `tx.row`."""
    tx.row = await tx.one(
        update(runs)
        .where(runs.c.run_id == tx.run_id)
        .values(updated_at=func.clock_timestamp(), **values)
        .returning(runs)
    )
    await projections.touch(tx)


async def set_state(tx: LockedRun, state: RunState, **values: Any) -> None:
    """Move the locked run to `state`, as the table of transitions allows."""
    old = RunState(tx.row["state"])
    check_transition(old, state)
    values["paused_from_state"] = old if state is RunState.PAUSED else None
    if state.terminal or state is RunState.PAUSED:
        values |= {"requested_action": None, "requested_by": None, "requested_note": None}
    if state.terminal:
        values["ended_at"] = func.clock_timestamp()
    await update_run(tx, state=state, **values)


async def get_run(tx: Transaction, run_id: UUID) -> RowMapping:
    """Return the run's row; raises `run_not_found`."""
    row = await tx.maybe(select(runs).where(runs.c.run_id == run_id))
    if row is None:
        raise DevflowError("run_not_found", f"there is no run {run_id}")
    return row


async def get_inputs(tx: Transaction, run_id: UUID) -> RowMapping:
    """Return the frozen input of a run; raises `run_metadata_missing`."""
    row = await tx.maybe(select(run_inputs).where(run_inputs.c.run_id == run_id))
    if row is None:
        raise DevflowError("run_metadata_missing", f"run {run_id} has lost its input")
    return row


async def get_location(tx: Transaction, repository_id: int) -> str:
    """Return how the host named the repository when a run of it was created last."""
    row = await tx.one(select(repositories.c.location).where(repositories.c.repository_id == repository_id))
    return str(row["location"])


async def get_bindings(tx: Transaction, run_id: UUID) -> list[RowMapping]:
    """Return which persona fills which role, by role."""
    return await tx.all(select(bindings).where(bindings.c.run_id == run_id).order_by(bindings.c.role))


async def find_run(tx: Transaction, reference: str) -> UUID:
    """Return the one run whose id is, begins or ends with `reference` (at least 4 hex digits, dashes allowed)."""
    digits = reference.strip().lower().replace("-", "")
    if not re.fullmatch(r"[0-9a-f]{4,32}", digits):
        raise DevflowError(
            "run_not_found", f"{reference!r} is no run id: give an id, or at least 4 hex digits of its begin or end"
        )
    text = func.replace(cast(runs.c.run_id, String), "-", "")
    found = await tx.all(
        select(runs.c.run_id)
        .where(or_(text.startswith(digits), text.endswith(digits)))
        .order_by(runs.c.run_id)
        .limit(6)
    )
    if not found:
        raise DevflowError("run_not_found", f"there is no run {reference}")
    if len(found) > 1:
        ids = ", ".join(str(row["run_id"]) for row in found[:5])
        raise DevflowError("run_id_ambiguous", f"{reference} fits {len(found)} runs or more: {ids}")
    run_id: UUID = found[0]["run_id"]
    return run_id


async def list_runs(tx: Transaction, state: RunState | None = None) -> list[RowMapping]:
    """Return runs, newest first; where times tie, in order of insertion."""
    statement = select(runs).order_by(runs.c.created_at.desc(), runs.c.number.desc())
    return await tx.all(statement.where(runs.c.state == state) if state else statement)


async def find_by_trigger(tx: Transaction, repository_id: int, key: str) -> RowMapping | None:
    """Return the run that this trigger has started."""
    return await tx.maybe(select(runs).where(runs.c.repository_id == repository_id, runs.c.trigger_key == key))


async def of_issue(tx: Transaction, repository_id: int, issue_number: int) -> list[RowMapping]:
    """Return all runs of an issue, newest first."""
    here = (runs.c.repository_id == repository_id) & (runs.c.issue_number == issue_number)
    return await tx.all(select(runs).where(here).order_by(runs.c.number.desc()))


async def live_of_issue(tx: Transaction, repository_id: int, issue_number: int) -> list[RowMapping]:
    """Return the runs of an issue that have not ended: the one that was started first, then those that wait."""
    here = (runs.c.repository_id == repository_id) & (runs.c.issue_number == issue_number)
    order = (runs.c.started_at.is_(None), runs.c.number)
    return await tx.all(select(runs).where(here, ~ENDED).order_by(*order))


async def live_of_repository(tx: Transaction, repository_id: int) -> list[RowMapping]:
    """Return the runs of a repository that have not ended, oldest first."""
    here = runs.c.repository_id == repository_id
    return await tx.all(select(runs).where(here, ~ENDED).order_by(runs.c.number))


async def on_branch(tx: Transaction, repository_id: int, branch: str) -> RowMapping | None:
    """Return the run whose own branch this is; the branch's name contains the run's short id."""
    here = (runs.c.repository_id == repository_id) & (runs.c.branch == branch)
    return await tx.maybe(select(runs).where(here).order_by(runs.c.number.desc()).limit(1))


async def waits_for(tx: Transaction, run: RowMapping) -> RowMapping | None:
    """Return the first earlier run of the same issue that is not over: ended, closed, and held by nobody."""
    over = ENDED & runs.c.final_report_path.is_not(None) & runs.c.lease_worker.is_(None)
    here = (runs.c.repository_id == run["repository_id"]) & (runs.c.issue_number == run["issue_number"])
    earlier = select(runs).where(here, runs.c.number < run["number"], ~over).order_by(runs.c.number).limit(1)
    return await tx.maybe(earlier)


async def next_waiting(tx: Transaction, run: RowMapping) -> RowMapping | None:
    """Return the first later run of the same issue that has not begun."""
    here = (runs.c.repository_id == run["repository_id"]) & (runs.c.issue_number == run["issue_number"])
    later = here & (runs.c.number > run["number"]) & (runs.c.state == RunState.CREATED)
    return await tx.maybe(select(runs).where(later).order_by(runs.c.number).limit(1))
