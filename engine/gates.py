"""What a person's answer does: the rules of gates, applied to the locked run in one transaction."""

from dataclasses import dataclass
from decimal import Decimal
from uuid import UUID

from sqlalchemy import RowMapping

from engine import lifecycle
from engine.domain.errors import DevflowError
from engine.domain.pricing import parse_usd
from engine.domain.states import Action, RequestState, RunState
from engine.domain.workflow import Workflow
from engine.store import approvals, commands, jobs, phases
from engine.store.database import LockedRun
from engine.store.runs import set_state, update_run

MIN_SHA = 7


@dataclass(frozen=True)
class Answer:
    """What one person answered; `token` makes a repetition harmless.

    `sha` says which commit they looked at and `request_id` which request they saw; `by_id` is their id at the host,
    where it knows them by more than a name.
    """

    action: Action
    by: str
    token: str
    note: str | None = None
    sha: str | None = None
    by_id: int | None = None
    request_id: UUID | None = None


@dataclass(frozen=True)
class Decided:
    """What became of an answer: whether it moved the run, and how many approvals a gate still lacks."""

    state: RunState
    moved: bool
    missing_approvals: int = 0


async def decide(tx: LockedRun, workflow: Workflow, answer: Answer, checked: UUID | None = None) -> Decided:
    """Record an answer to the run's pending request and let it take effect.

    `checked` is the request whose content was found to be on the branch, and in the commit that `answer.sha` names.
    Raises `run_already_terminal`, `illegal_transition`, `already_decided` or `approval_superseded`; then nothing
    has changed.
    """
    if (repeated := await repeated_answer(tx, answer)) is not None:
        return repeated
    request = await _pending(tx, answer.action)
    await _check_version(tx, request, answer, checked)
    outside = request["phase_key"] == approvals.OUTSIDE_PHASE
    if answer.action is Action.REVISE and (outside or tx.row["state"] == RunState.PAUSED):
        raise DevflowError(
            "illegal_transition",
            f"a paused run takes no revision at its {request['gate_key']} gate",
            recovery_hint="answer it with approve, reject or abort",
        )
    if answer.action is Action.APPROVE:
        return await _approve(tx, request, answer, outside=outside)
    if answer.action is Action.REVISE and not (answer.note or "").strip():
        raise DevflowError(
            "usage", "a revision needs to say what to change", recovery_hint="say it after the word, or with --note"
        )
    await _add_decision(tx, request, answer)
    state = {
        Action.REJECT: RequestState.REJECTED,
        Action.REVISE: RequestState.REVISED,
        Action.ABORT: RequestState.ABORTED,
    }[answer.action]
    event = lifecycle.approval_resolved(request, answer.action, answer.by, answer.note)
    await lifecycle.close_request(tx, request, state, event)
    if answer.action is Action.ABORT:
        await lifecycle.abort_run(tx, answer.by, answer.note)
    elif answer.action is Action.REJECT:
        await _reject(tx, request, answer, outside=outside)
    else:
        await _revise(tx, workflow, request, answer)
    return Decided(RunState(tx.row["state"]), moved=True)


async def repeated_answer(tx: LockedRun, answer: Answer) -> Decided | None:
    """Return what an answer comes to whose token is known: nothing; `already_decided` where it was another action."""
    previous = await approvals.decision_by_token(tx, answer.token)
    action = previous["action"] if previous is not None else None
    if action is None:
        command = await commands.find(tx, tx.run_id, answer.token)
        action = command["command"] if command is not None else None
    if action is None:
        return None
    approvals.refuse_replay(action, answer.action)
    return Decided(RunState(tx.row["state"]), moved=False)


async def _pending(tx: LockedRun, action: Action) -> RowMapping:
    state = RunState(tx.row["state"])
    if state.terminal:
        raise DevflowError("run_already_terminal", f"the run is {state}")
    request = await approvals.pending_request(tx, tx.run_id)
    if request is not None:
        return request
    if state is RunState.EXECUTING:
        answered = [row for row in await approvals.list_requests(tx, tx.run_id) if row["resolved_at"]]
        if answered:
            last = answered[-1]
            raise DevflowError(
                "already_decided", f"gate {last['gate_key']} of phase {last['phase_key']} is {last['state']} already"
            )
    hint = "continue it with `devflow resume RUN`" if state is RunState.PAUSED else "wait until it asks"
    raise DevflowError(
        "illegal_transition", f"cannot {action}: the run is {state} and asks nothing", recovery_hint=hint
    )


async def _check_version(tx: LockedRun, request: RowMapping, answer: Answer, checked: UUID | None) -> None:
    """Raise `approval_superseded` unless the pending request is the one that the person saw, by its id or content."""
    pending_id = request["request_id"]
    commit = str(request["commit_sha"] or "")
    if checked is not None and checked != pending_id:
        raise DevflowError("approval_superseded", f"another gate was posted meanwhile, for commit {commit[:12]}")
    if answer.request_id is not None and answer.request_id != pending_id:
        seen = await approvals.get_request(tx, answer.request_id)
        # whoever names a commit has seen the content, though they answered where it was asked about before
        if not (answer.sha and seen is not None and _same_gate(seen, request)):
            where = f" for commit {commit[:12]}" if commit else ""
            raise DevflowError("approval_superseded", f"the request that this answers was overtaken by one{where}")
    if answer.sha is None or not commit or checked == pending_id:
        return
    if len(answer.sha) < MIN_SHA or not commit.startswith(answer.sha.lower()):
        raise DevflowError(
            "approval_superseded", f"the gate now stands for commit {commit[:12]}, not {answer.sha[:12]}"
        )


def _same_gate(one: RowMapping, other: RowMapping) -> bool:
    return all(one[name] == other[name] for name in ("run_id", "phase_key", "gate_key"))


async def _add_decision(tx: LockedRun, request: RowMapping, answer: Answer) -> None:
    await approvals.add_decision(
        tx, request, token=answer.token, action=answer.action, by=answer.by, note=answer.note, by_id=answer.by_id
    )


async def _approve(tx: LockedRun, request: RowMapping, answer: Answer, *, outside: bool) -> Decided:
    given = await approvals.approvers(tx, request["request_id"])
    if await approvals.has_approved(tx, request["request_id"], answer.by, answer.by_id):
        raise DevflowError(
            "already_decided",
            f"{answer.by} has approved this already: {len(given)} of {request['required_approvals']} approvals",
            recovery_hint="another person has to approve as well",
        )
    if request["gate_key"] == "budget_exceeded":
        await _raise_budget(tx, answer)
    await _add_decision(tx, request, answer)
    missing = request["required_approvals"] - len(given) - 1
    if missing > 0:
        await update_run(tx)
        return Decided(RunState(tx.row["state"]), moved=False, missing_approvals=missing)
    event = lifecycle.approval_resolved(request, answer.action, answer.by, answer.note)
    await lifecycle.close_request(tx, request, RequestState.APPROVED, event)
    if outside:
        await lifecycle.resume_run(tx, f"{request['gate_key']} answered by {answer.by}")
    elif tx.row["state"] == RunState.PAUSED:
        # a run that was paused at its gate goes on at once: the answer is what it was waiting for
        await lifecycle.resume_run(tx, f"its gate was answered by {answer.by}")
        await set_state(tx, RunState.EXECUTING)
    else:
        await set_state(tx, RunState.EXECUTING)
        await jobs.ring_run(tx)
    return Decided(RunState(tx.row["state"]), moved=True)


async def _raise_budget(tx: LockedRun, answer: Answer) -> None:
    note = (answer.note or "").strip()
    try:
        amount = parse_usd(note) if note.startswith("+") else Decimal(0)
    except ValueError:
        amount = Decimal(0)
    if not amount:
        raise DevflowError(
            "usage",
            "say by how many US dollars the cap may rise",
            recovery_hint="devflow approve RUN --note '+2.00'",
        )
    await update_run(tx, budget_usd=tx.row["budget_usd"] + amount)


async def _reject(tx: LockedRun, request: RowMapping, answer: Answer, *, outside: bool) -> None:
    reason = f": {answer.note}" if answer.note else ""
    error = DevflowError("approval_rejected", f"{answer.by} rejected the {request['gate_key']} gate{reason}")
    await lifecycle.fail_run(tx, error, None if outside else request["phase_key"])


async def _revise(tx: LockedRun, workflow: Workflow, request: RowMapping, answer: Answer) -> None:
    spec = workflow.phase(request["phase_key"])
    if await send_back_or_fail(tx, workflow, spec.key, spec.revise_from or spec.key, answer.note or ""):
        await set_state(tx, RunState.EXECUTING)
        await jobs.ring_run(tx)


async def send_back_or_fail(tx: LockedRun, workflow: Workflow, source: str, target: str, feedback: str) -> bool:
    """Send the work back from phase `source` to `target`, at most `max_revisions` times; then the run has failed.

    Returns whether the work was sent back.
    """
    limit = workflow.phase(source).max_revisions
    if (await phases.get_phase(tx, tx.run_id, source))["revisions"] >= limit:
        error = DevflowError("revisions_exhausted", f"phase {source} has sent the work back {limit} times already")
        await lifecycle.fail_run(tx, error, source)
        return False
    await phases.send_back(tx, target, source, feedback)
    return True
