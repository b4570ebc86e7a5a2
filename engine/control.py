"""What people do to a run besides starting it: answer its gate, pause, resume and abort it.

Each is one transaction on the locked run, after whatever had to be looked up in git. A token makes a repetition
harmless: the same command with the same token has no second effect, and gives no error.
"""

from uuid import UUID

from engine import lifecycle
from engine.domain.errors import DevflowError
from engine.domain.states import Action, RunState
from engine.gates import Answer, Decided, decide, repeated_answer
from engine.runner.plan import load_plan, load_workflow
from engine.runner.refresh import check_answer
from engine.services import Services
from engine.settings import Settings
from engine.store import approvals, commands, jobs, leases, runs
from engine.store.database import LockedRun
from engine.store.events import clean_json


async def answer_gate(services: Services, run_id: UUID, answer: Answer) -> Decided:
    """Record what a person answered at the run's gate; see `gates.decide` for what it raises.

    The answer is checked against what the branch holds now: an approval of changed content supersedes the request. A
    revision goes on from there: who pushed and asks for more wants both.
    """
    if answer.action is Action.ABORT:
        return await _abort(services, run_id, answer)
    async with services.database.locked(run_id) as tx:
        if (repeated := await repeated_answer(tx, answer)) is not None:
            return repeated
        seen = tx.row
    checked = await check_answer(services, seen, answer.action, answer.sha)
    async with services.database.locked(run_id) as tx:
        before = tx.row["head_sha"]
        decided = await decide(tx, await load_workflow(tx, tx.row), answer, checked.request_id)
        went_on = decided.moved and decided.state is RunState.EXECUTING
        if checked.pushed is not None and went_on and before == seen["head_sha"]:
            await runs.update_run(tx, head_sha=checked.pushed, pushed_sha=checked.pushed)
        return decided


async def _abort(services: Services, run_id: UUID, answer: Answer) -> Decided:
    async with services.database.locked(run_id) as tx:
        if (repeated := await repeated_answer(tx, answer)) is not None:
            return repeated
        state = RunState(tx.row["state"])
        if state.terminal:
            raise DevflowError("run_already_terminal", f"the run is {state}")
        if await approvals.pending_request(tx, run_id) is not None:
            return await decide(tx, await load_workflow(tx, tx.row), answer)
        await commands.remember(tx, answer.token, "abort", answer.by)
        await end_run(tx, services.settings, answer.by, answer.note)
        return Decided(RunState(tx.row["state"]), moved=True)


async def end_run(tx: LockedRun, settings: Settings, by: str, note: str | None) -> None:
    """Abort the locked run: at once where nobody works on it, else by its worker, which is asked to stop."""
    asks = await approvals.pending_request(tx, tx.run_id) is not None
    if not asks and await leases.lease_is_live(tx, settings.worker_dead_after_seconds):
        await runs.update_run(tx, requested_action="abort", requested_by=by, requested_note=note)
        return
    if not asks:
        await leases.revoke(tx)
    await lifecycle.abort_run(tx, by, note)


async def pause(services: Services, run_id: UUID, by: str, note: str | None, token: str | None) -> RunState:
    """Ask the run to stop at its next safe point, or stop it at once where nobody drives it."""
    note = clean_json(note)
    async with services.database.locked(run_id) as tx:
        state = RunState(tx.row["state"])
        if not await commands.remember(tx, token, "pause", by):
            return state
        if state.terminal:
            raise DevflowError("run_already_terminal", f"the run is {state}")
        if state is RunState.PAUSED:
            raise DevflowError("illegal_transition", "the run is paused already")
        if tx.row["requested_action"] == "abort":
            raise DevflowError("illegal_transition", f"{tx.row['requested_by']} has ended the run; it is stopping")
        live = await leases.lease_is_live(tx, services.settings.worker_dead_after_seconds)
        if state is not RunState.AWAITING_APPROVAL and live:
            await runs.update_run(tx, requested_action="pause", requested_by=by, requested_note=note)
        else:
            if not live:
                await leases.revoke(tx)
            await lifecycle.pause_for_person(tx, by, note)
        return RunState(tx.row["state"])


async def resume(services: Services, run_id: UUID, by: str | None, token: str | None) -> RunState:
    """Let a paused run go on; a run at its gate, or one whose worker is gone, only needs somebody to drive it.

    Raises `run_already_terminal`, `worker_already_running`, `template_load_failed`, `run_metadata_missing`, or
    `illegal_transition` where a request is pending.
    """
    await load_plan(services.database, run_id)
    reason = f"resumed by {by}" if by else "resumed by a person"
    async with services.database.locked(run_id) as tx:
        state = RunState(tx.row["state"])
        if not await commands.remember(tx, token, "resume", by or ""):
            return state
        if state.terminal:
            raise DevflowError("run_already_terminal", f"the run is {state}")
        request = await approvals.pending_request(tx, run_id)
        holder = await leases.live_holder(tx, services.settings.worker_dead_after_seconds)
        if holder is None and state is not RunState.EXECUTING:
            await leases.revoke(tx)  # nobody will hand it back any more
        if state is RunState.PAUSED:
            if request is not None:
                raise DevflowError(
                    "illegal_transition",
                    f"the run is paused and its {request['gate_key']} gate waits for an answer",
                    recovery_hint="answer it with `devflow approve RUN`, reject or abort",
                )
            await lifecycle.resume_run(tx, reason)
        elif state in (RunState.EXECUTING, RunState.CREATED):
            if holder is not None:
                raise DevflowError("worker_already_running", f"the run is being worked on by {holder}")
            if tx.row["requested_action"] == "pause":
                await runs.update_run(tx, requested_action=None, requested_by=None, requested_note=None)
            if state is RunState.EXECUTING and tx.row["lease_worker"] is None:
                await lifecycle.note_resumed(tx, reason)  # a take-over notes it by itself
            await jobs.ring_run(tx)
        return RunState(tx.row["state"])
