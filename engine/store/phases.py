"""Phases of a run as rows: their states, attempts and rounds, and what their work left: artifacts and checks."""

from typing import Any
from uuid import UUID

from sqlalchemy import RowMapping, func, select, update
from sqlalchemy.dialects.postgresql import insert

from engine.domain.states import PhaseState, check_transition
from engine.store.database import LockedRun, Transaction
from engine.store.tables import artifacts, checks, phases

OPEN = (PhaseState.PENDING, PhaseState.RUNNING, PhaseState.VALIDATING, PhaseState.AWAITING_APPROVAL)


async def create_phases(tx: LockedRun, keys: list[str]) -> None:
    """Insert the run's phases, all pending, in the order of `keys`."""
    rows = [
        {
            "repository_id": tx.repository_id,
            "run_id": tx.run_id,
            "phase_key": key,
            "position": position,
            "state": PhaseState.PENDING,
        }
        for position, key in enumerate(keys)
    ]
    await tx.execute(insert(phases).values(rows))


async def list_phases(tx: Transaction, run_id: UUID) -> list[RowMapping]:
    """Return the run's phases in their order."""
    return await tx.all(select(phases).where(phases.c.run_id == run_id).order_by(phases.c.position))


async def current_phase(tx: Transaction, run_id: UUID) -> RowMapping | None:
    """Return the first phase that is not completed, or None where all are."""
    rows = await list_phases(tx, run_id)
    return next((row for row in rows if row["state"] != PhaseState.COMPLETED), None)


async def get_phase(tx: Transaction, run_id: UUID, key: str) -> RowMapping:
    """Return one phase of a run."""
    return await tx.one(select(phases).where(phases.c.run_id == run_id, phases.c.phase_key == key))


async def update_phase(tx: LockedRun, key: str, **values: Any) -> None:
    """Change columns of one phase of the locked run."""
    await tx.one(
        update(phases)
        .where(phases.c.run_id == tx.run_id, phases.c.phase_key == key)
        .values(values)
        .returning(phases.c.phase_key)
    )


async def set_phase_state(tx: LockedRun, key: str, state: PhaseState, **values: Any) -> None:
    """Move one phase to `state`, as the table of transitions allows; the same state again only changes columns."""
    old = PhaseState((await get_phase(tx, tx.run_id, key))["state"])
    if old is not state:
        check_transition(old, state)
    if state is PhaseState.RUNNING and old is PhaseState.PENDING:
        values["started_at"] = func.clock_timestamp()
        values["ended_at"] = None
    if state in (PhaseState.COMPLETED, PhaseState.FAILED):
        values["ended_at"] = func.clock_timestamp()
    await update_phase(tx, key, state=state, **values)


async def send_back(tx: LockedRun, target: str, source: str, feedback: str) -> None:
    """Reset the phases from `target` to `source` to pending, each with a new round; `target` gets the feedback."""
    rows = await list_phases(tx, tx.run_id)
    first = next(row["position"] for row in rows if row["phase_key"] == target)
    last = next(row["position"] for row in rows if row["phase_key"] == source)
    for row in rows[first : last + 1]:
        if row["state"] != PhaseState.PENDING:
            check_transition(PhaseState(row["state"]), PhaseState.PENDING)
        key = row["phase_key"]
        await update_phase(
            tx,
            key,
            state=PhaseState.PENDING,
            round=row["round"] + 1,
            attempts=0,
            feedback=feedback if key == target else None,
            revisions=row["revisions"] + (key == source),
            artifact_digest=None,
            commit_sha=None,
            tree_sha=None,
        )


async def adopt_phase(tx: LockedRun, old_run: UUID, old: RowMapping) -> None:
    """Give the locked run a completed phase of another run, with its artifact and checks."""
    await update_phase(
        tx,
        old["phase_key"],
        state=PhaseState.COMPLETED,
        **{
            name: old[name]
            for name in (
                "attempts",
                "round",
                "revisions",
                "artifact_digest",
                "commit_sha",
                "tree_sha",
                "started_at",
                "ended_at",
            )
        },
    )
    for table in (artifacts, checks):
        rows = await tx.all(
            select(table).where(
                table.c.run_id == old_run,
                table.c.phase_key == old["phase_key"],
                table.c.round == old["round"],
                table.c.attempt == old["attempts"],
            )
        )
        if rows:
            await tx.execute(insert(table).values([dict(row) | {"run_id": tx.run_id} for row in rows]))


async def close_phases(tx: LockedRun, failed: str | None, code: str | None) -> list[str]:
    """Leave no live phase in a run that ends: `failed` names the one that failed, the others are skipped.

    Returns the keys of the phases that were skipped.
    """
    skipped = []
    for row in await list_phases(tx, tx.run_id):
        key, state = row["phase_key"], PhaseState(row["state"])
        if key == failed and state in OPEN:
            await set_phase_state(tx, key, PhaseState.FAILED, error_code=code)
        elif state in OPEN:
            await set_phase_state(tx, key, PhaseState.SKIPPED)
            skipped.append(key)
    return skipped


async def save_artifact(
    tx: LockedRun,
    phase: RowMapping,
    *,
    path: str,
    schema: str,
    body: bytes,
    digest: str,
    errors: list[dict[str, str]],
) -> None:
    """Store what an attempt submitted, valid or not; the same attempt again replaces its own row."""
    values = {"path": path, "schema": schema, "body": body, "digest": digest, "valid": not errors, "errors": errors}
    await tx.execute(
        insert(artifacts)
        .values(**_attempt_of(tx, phase), **values)
        .on_conflict_do_update(
            index_elements=["repository_id", "run_id", "phase_key", "round", "attempt"],
            set_={**values, "commit_sha": None},
        )
    )


async def mark_artifact_committed(tx: LockedRun, phase: RowMapping, commit: str) -> None:
    """Note the commit that holds the artifact of the phase's current attempt."""
    await tx.execute(
        update(artifacts)
        .where(
            artifacts.c.run_id == tx.run_id,
            artifacts.c.phase_key == phase["phase_key"],
            artifacts.c.round == phase["round"],
            artifacts.c.attempt == phase["attempts"],
        )
        .values(commit_sha=commit)
    )


async def current_artifact(tx: Transaction, run_id: UUID, phase: RowMapping) -> RowMapping | None:
    """Return the artifact of the phase's current attempt, valid or not."""
    return await tx.maybe(
        select(artifacts).where(
            artifacts.c.run_id == run_id,
            artifacts.c.phase_key == phase["phase_key"],
            artifacts.c.round == phase["round"],
            artifacts.c.attempt == phase["attempts"],
        )
    )


async def artifact_by_digest(tx: Transaction, run_id: UUID, phase_key: str, digest: str) -> RowMapping | None:
    """Return the valid artifact of a phase that has this digest, of whichever round; None where it was replaced."""
    return await tx.maybe(
        select(artifacts)
        .where(
            artifacts.c.run_id == run_id,
            artifacts.c.phase_key == phase_key,
            artifacts.c.digest == digest,
            artifacts.c.valid,
        )
        .order_by(artifacts.c.round.desc(), artifacts.c.attempt.desc())
        .limit(1)
    )


async def previous_artifact(tx: Transaction, run_id: UUID, phase: RowMapping) -> RowMapping | None:
    """Return the last valid artifact of the phase's earlier rounds."""
    rows = await tx.all(
        select(artifacts)
        .where(
            artifacts.c.run_id == run_id,
            artifacts.c.phase_key == phase["phase_key"],
            artifacts.c.round < phase["round"],
            artifacts.c.valid,
        )
        .order_by(artifacts.c.round.desc(), artifacts.c.attempt.desc())
        .limit(1)
    )
    return rows[0] if rows else None


async def list_artifacts(tx: Transaction, run_id: UUID) -> list[RowMapping]:
    """Return all artifacts of a run in the order in which they came."""
    return await tx.all(select(artifacts).where(artifacts.c.run_id == run_id).order_by(artifacts.c.created_at))


async def approved_artifacts(tx: Transaction, run_id: UUID) -> list[RowMapping]:
    """Return the artifacts of completed phases, by digest, in the order of the phases."""
    return await tx.all(
        select(artifacts)
        .join(
            phases,
            (phases.c.run_id == artifacts.c.run_id)
            & (phases.c.phase_key == artifacts.c.phase_key)
            & (phases.c.round == artifacts.c.round)
            & (phases.c.attempts == artifacts.c.attempt)
            & (phases.c.artifact_digest == artifacts.c.digest),
        )
        .where(artifacts.c.run_id == run_id, artifacts.c.valid, phases.c.state == PhaseState.COMPLETED)
        .order_by(phases.c.position)
    )


async def save_check(tx: LockedRun, phase: RowMapping, values: dict[str, Any]) -> None:
    """Store the result of one check of the phase's current attempt; the same check again replaces it."""
    await tx.execute(
        insert(checks)
        .values(**_attempt_of(tx, phase), **values)
        .on_conflict_do_update(
            index_elements=["repository_id", "run_id", "phase_key", "round", "attempt", "name"], set_=values
        )
    )


async def list_checks(tx: Transaction, run_id: UUID) -> list[RowMapping]:
    """Return all check results of a run: by phase, round, attempt and name."""
    return await tx.all(
        select(checks)
        .join(phases, (phases.c.run_id == checks.c.run_id) & (phases.c.phase_key == checks.c.phase_key))
        .where(checks.c.run_id == run_id)
        .order_by(phases.c.position, checks.c.round, checks.c.attempt, checks.c.name)
    )


def _attempt_of(tx: LockedRun, phase: RowMapping) -> dict[str, Any]:
    return {
        "repository_id": tx.repository_id,
        "run_id": tx.run_id,
        "phase_key": phase["phase_key"],
        "round": phase["round"],
        "attempt": phase["attempts"],
    }
