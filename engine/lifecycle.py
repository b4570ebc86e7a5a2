"""How a run pauses, goes on and ends: each function writes the state, its event and the doorbell in one transaction."""

from sqlalchemy import RowMapping

from engine.domain.errors import DevflowError
from engine.domain.events import (
    ApprovalRequested,
    ApprovalResolved,
    Event,
    PhaseFailed,
    PhaseSkipped,
    RunAborted,
    RunCompleted,
    RunFailed,
    RunPaused,
    RunResumed,
)
from engine.domain.states import PhaseState, RequestState, RunState
from engine.store import approvals, jobs, phases, sessions
from engine.store.database import LockedRun
from engine.store.events import append, clean_json
from engine.store.runs import set_state, update_run

GATES_OUTSIDE_A_PHASE = ("budget_exceeded", "session_recovery_required")


async def complete_run(tx: LockedRun) -> None:
    """End the run with its result."""
    await set_state(tx, RunState.COMPLETED, error_code=None, error_message=None)
    await append(tx, RunCompleted())
    await _ended(tx)


async def fail_run(tx: LockedRun, error: DevflowError, phase_key: str | None = None) -> None:
    """End the run without its result; `phase_key` names the phase that failed, the other live ones are skipped."""
    message = clean_json(error.message)
    phase = None if phase_key is None else await phases.get_phase(tx, tx.run_id, phase_key)
    if phase is not None and phase["state"] in phases.OPEN:
        await append(
            tx,
            PhaseFailed(
                phase_key=phase["phase_key"],
                round=phase["round"],
                attempt=phase["attempts"],
                code=error.code,
                message=message,
            ),
        )
    await _close(tx, RequestState.EXPIRED, by="devflow", failed=phase_key, code=error.code)
    await set_state(tx, RunState.FAILED, error_code=error.code, error_message=message)
    await append(tx, RunFailed(code=error.code, message=message))
    await _ended(tx)


async def abort_run(tx: LockedRun, by: str, note: str | None) -> None:
    """End the run because a person wants it."""
    await _close(tx, RequestState.ABORTED, by=by, failed=None, code=None)
    await set_state(tx, RunState.ABORTED, error_code=None, error_message=None)
    await append(tx, RunAborted(by=by, note=note))
    await _ended(tx)


async def pause_for_person(tx: LockedRun, by: str, note: str | None) -> None:
    """Stop the run because a person wants it, until one resumes it; its event has the note by itself."""
    message = f"paused by {by}"
    await pause_run(tx, "paused_by_person", f"{message}: {note}" if note else message, by, note)


async def pause_run(tx: LockedRun, code: str, message: str, by: str | None = None, note: str | None = None) -> None:
    """Stop the run until a person resumes it, or answers the request that budget and session questions post."""
    message = clean_json(message)
    await set_state(tx, RunState.PAUSED, error_code=code, error_message=message)
    told = message if note is None else clean_json(note)
    await append(tx, RunPaused(number=tx.row["event_seq"], code=code, message=told, by=by))
    if code in GATES_OUTSIDE_A_PHASE:
        request, _ = await approvals.post_request(tx, phase_key=approvals.OUTSIDE_PHASE, gate_key=code)
        await append(tx, approval_requested(request))


async def resume_run(tx: LockedRun, reason: str) -> None:
    """Let a paused run go on from the state in which it was paused."""
    state = RunState(tx.row["paused_from_state"])
    await set_state(tx, state, error_code=None, error_message=None)
    await note_resumed(tx, reason)
    await jobs.ring_run(tx)


async def note_resumed(tx: LockedRun, reason: str, dropped_commits: list[str] | None = None) -> None:
    """Write that the run goes on, and which phases it will not do again."""
    number = tx.row["event_seq"]
    await append(tx, RunResumed(number=number, reason=reason, dropped_commits=dropped_commits or []))
    for row in await phases.list_phases(tx, tx.run_id):
        if row["state"] == PhaseState.COMPLETED:
            await append(tx, PhaseSkipped(phase_key=row["phase_key"], reason="completed before", number=number))


async def close_request(tx: LockedRun, request: RowMapping, state: RequestState, event: Event) -> None:
    """Give a request its final state and write the event."""
    await approvals.resolve_request(tx, request, state)
    await append(tx, event)


def approval_requested(request: RowMapping) -> ApprovalRequested:
    """Return the event for a request that was just posted."""
    return ApprovalRequested(
        phase_key=request["phase_key"],
        gate_key=request["gate_key"],
        request_id=str(request["request_id"]),
        round=request["round"],
        required_approvals=request["required_approvals"],
        digest=request["bound_digest"],
        commit=request["commit_sha"],
    )


def approval_resolved(request: RowMapping, action: str, by: str, note: str | None = None) -> ApprovalResolved:
    """Return the event for a request that was answered or overtaken."""
    return ApprovalResolved(
        phase_key=request["phase_key"],
        gate_key=request["gate_key"],
        request_id=str(request["request_id"]),
        action=action,
        by=by,
        note=note,
    )


async def _close(tx: LockedRun, state: RequestState, *, by: str, failed: str | None, code: str | None) -> None:
    request = await approvals.pending_request(tx, tx.run_id)
    if request is not None:
        await close_request(tx, request, state, approval_resolved(request, str(state), by))
    for key in await phases.close_phases(tx, failed, code):
        await append(tx, PhaseSkipped(phase_key=key, reason="the run ended", number=tx.row["event_seq"]))


async def _ended(tx: LockedRun) -> None:
    await sessions.close_sessions(tx)
    # the doorbell lets whoever drives the run write its report
    await update_run(tx)
    await jobs.ring_run(tx)
