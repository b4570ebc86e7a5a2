"""A retry: a new run that adopts the completed phases, the bindings and the work of one that failed or was aborted."""

from typing import Any
from uuid import UUID

from sqlalchemy import RowMapping

from engine.domain.canonical import input_hash
from engine.domain.errors import DevflowError
from engine.domain.events import PhaseSkipped
from engine.domain.ids import uuid7
from engine.domain.states import PhaseState, RunState
from engine.domain.workflow import Workflow
from engine.hosted import run_in_flight
from engine.prepare import run_created, write_bindings
from engine.runner.plan import load_plan
from engine.services import Services
from engine.store import commands, jobs, phases, projections, runs
from engine.store.database import LockedRun, lock_run
from engine.store.events import append
from engine.store.runs import NewRun
from engine.workspace.publish import branch_name


async def create_retry(
    services: Services, run_id: UUID, by: str, token: str | None = None, by_id: int | None = None
) -> UUID:
    """Create a run that goes on where `run_id` failed or was aborted; returns its id, for a known token the same one.

    Raises `illegal_transition` for a run in another state, and `run_in_flight` where the issue of a hosted one has
    another that is live.
    """
    plan = await load_plan(services.database, run_id)
    async with services.database.read() as tx:
        location = await runs.get_location(tx, plan.repository_id)
    async with services.database.transaction() as tx:
        await runs.lock_repository(tx, plan.repository_id, location)
        old = await lock_run(tx, run_id)
        key = None if token is None else f"retry:{token}"
        if not await commands.remember(old, token, "retry", by):
            return await _first_answer(old, key)
        _refuse_unless_retryable(old.row)
        hosted = old.repository_id > 0
        if hosted:
            live = await runs.live_of_issue(tx, old.repository_id, old.row["issue_number"])
            if live:
                raise run_in_flight(live[0])
        # what a rollback threw away is not adopted: its branch is gone
        done = [] if old.row["discard_branch"] else await _completed(old)
        new = await _new_run(old, done, location, by, by_id, key)
        run = await _insert(old, new, plan.workflow)
        await append(run, run_created(new, by))
        for row in done:
            await phases.adopt_phase(run, run_id, row)
            await append(run, PhaseSkipped(phase_key=row["phase_key"], reason=f"adopted from run {run_id}", number=0))
        if hosted:
            await projections.create(run)
        await jobs.ring_run(run)
        return new.run_id


async def _first_answer(old: LockedRun, key: str | None) -> UUID:
    made = None if key is None else await runs.find_by_trigger(old, old.repository_id, key)
    if made is None:
        raise DevflowError("run_metadata_missing", f"the retry of run {old.run_id} is known, but its run is not there")
    run_id: UUID = made["run_id"]
    return run_id


def _refuse_unless_retryable(run: RowMapping) -> None:
    state = RunState(run["state"])
    if state in (RunState.FAILED, RunState.ABORTED):
        return
    hint = (
        "start a new one with `devflow run`" if state is RunState.COMPLETED else "continue it with `devflow resume RUN`"
    )
    raise DevflowError(
        "illegal_transition",
        f"the run is {state}; only a failed or aborted one can be retried",
        recovery_hint=hint,
    )


async def _completed(old: LockedRun) -> list[RowMapping]:
    return [row for row in await phases.list_phases(old, old.run_id) if row["state"] == PhaseState.COMPLETED]


async def _new_run(
    old: LockedRun, done: list[RowMapping], location: str, by: str, by_id: int | None, key: str | None
) -> NewRun:
    row = old.row
    new_id = uuid7()
    inputs = await runs.get_inputs(old, old.run_id)
    metadata: dict[str, Any] = inputs["metadata"]
    hashed = inputs["input_hash"]
    if old.repository_id > 0:
        # whoever retries is the one who asks for this run, and is told what becomes of it
        metadata = metadata | {"requested_by": by, "requested_by_id": by_id}
        hashed = input_hash(inputs["requirements_md"], inputs["objective"], metadata, inputs["extra"])
    private = row["queue"] != jobs.ADVANCE_RUN
    return NewRun(
        repository_id=old.repository_id,
        run_id=new_id,
        location=location,
        title=row["title"],
        workflow=row["workflow"],
        template_hash=row["template_hash"],
        queue=jobs.private_queue(new_id) if private else jobs.ADVANCE_RUN,
        base_branch=row["base_branch"],
        base_sha=row["base_sha"],
        head_sha=next((phase["commit_sha"] for phase in reversed(done) if phase["commit_sha"]), row["base_sha"]),
        options=row["options"],
        budget_usd=row["budget_usd"],
        requirements_md=inputs["requirements_md"],
        objective=inputs["objective"],
        metadata=metadata,
        extra=inputs["extra"],
        model_override=inputs["model_override"],
        input_hash=hashed,
        issue_number=row["issue_number"] if old.repository_id > 0 else None,
        retry_of=old.run_id,
        trigger_key=key,
    )


async def _insert(old: LockedRun, new: NewRun, workflow: Workflow) -> LockedRun:
    number = await runs.next_number(old, new.repository_id, new.location)
    branch = branch_name(new.issue_number if new.issue_number is not None else number, new.title, new.run_id)
    run = await runs.create_run(old, new, number, branch)
    await write_bindings(run, [dict(row) for row in await runs.get_bindings(old, old.run_id)])
    await phases.create_phases(run, [phase.key for phase in workflow.phases])
    return run
