"""States of runs, phases, approval requests and agent sessions, and the one table of legal transitions."""

from enum import StrEnum

from engine.domain.errors import DevflowError


class RunState(StrEnum):
    """Where a run stands; the last three are terminal."""

    CREATED = "created"
    EXECUTING = "executing"
    AWAITING_APPROVAL = "awaiting_approval"
    PAUSED = "paused"
    COMPLETED = "completed"
    FAILED = "failed"
    ABORTED = "aborted"

    @property
    def terminal(self) -> bool:
        """Whether nothing can happen to the run any more."""
        return self in (RunState.COMPLETED, RunState.FAILED, RunState.ABORTED)


class PhaseState(StrEnum):
    """Where a phase of a run stands."""

    PENDING = "pending"
    RUNNING = "running"
    VALIDATING = "validating"
    AWAITING_APPROVAL = "awaiting_approval"
    COMPLETED = "completed"
    FAILED = "failed"
    SKIPPED = "skipped"


class RequestState(StrEnum):
    """Where an approval request stands."""

    PENDING = "pending"
    APPROVED = "approved"
    REJECTED = "rejected"
    REVISED = "revised"
    ABORTED = "aborted"
    SUPERSEDED = "superseded"
    EXPIRED = "expired"


class SessionState(StrEnum):
    """Where an agent session stands."""

    CREATED = "CREATED"
    READY = "READY"
    BUSY = "BUSY"
    CLOSED = "CLOSED"
    FAILED_NEEDS_HUMAN = "FAILED_NEEDS_HUMAN"


class Action(StrEnum):
    """What a person may answer at a gate."""

    APPROVE = "approve"
    REJECT = "reject"
    REVISE = "revise"
    ABORT = "abort"


_R, _P, _Q, _S = RunState, PhaseState, RequestState, SessionState

# By type first: members of two string enums with the same spelling are equal and would share a key.
TRANSITIONS: dict[type[StrEnum], dict[StrEnum, frozenset[StrEnum]]] = {
    RunState: {
        _R.CREATED: frozenset({_R.EXECUTING, _R.PAUSED, _R.FAILED, _R.ABORTED}),
        _R.EXECUTING: frozenset({_R.AWAITING_APPROVAL, _R.PAUSED, _R.COMPLETED, _R.FAILED, _R.ABORTED}),
        _R.AWAITING_APPROVAL: frozenset({_R.EXECUTING, _R.PAUSED, _R.FAILED, _R.ABORTED}),
        _R.PAUSED: frozenset({_R.CREATED, _R.EXECUTING, _R.AWAITING_APPROVAL, _R.FAILED, _R.ABORTED}),
        _R.COMPLETED: frozenset(),
        _R.FAILED: frozenset(),
        _R.ABORTED: frozenset(),
    },
    PhaseState: {
        _P.PENDING: frozenset({_P.RUNNING, _P.FAILED, _P.SKIPPED}),  # setup can fail before the first attempt
        _P.RUNNING: frozenset({_P.VALIDATING, _P.AWAITING_APPROVAL, _P.COMPLETED, _P.FAILED, _P.PENDING, _P.SKIPPED}),
        _P.VALIDATING: frozenset({_P.RUNNING, _P.AWAITING_APPROVAL, _P.COMPLETED, _P.FAILED, _P.PENDING, _P.SKIPPED}),
        _P.AWAITING_APPROVAL: frozenset({_P.COMPLETED, _P.PENDING, _P.FAILED, _P.SKIPPED}),
        _P.COMPLETED: frozenset({_P.PENDING}),  # a later gate or review sends the work back
        _P.FAILED: frozenset(),
        _P.SKIPPED: frozenset(),
    },
    RequestState: {
        _Q.PENDING: frozenset({_Q.APPROVED, _Q.REJECTED, _Q.REVISED, _Q.ABORTED, _Q.SUPERSEDED, _Q.EXPIRED}),
        _Q.APPROVED: frozenset(),
        _Q.REJECTED: frozenset(),
        _Q.REVISED: frozenset(),
        _Q.ABORTED: frozenset(),
        _Q.SUPERSEDED: frozenset(),
        _Q.EXPIRED: frozenset(),
    },
    SessionState: {
        _S.CREATED: frozenset({_S.READY, _S.CLOSED, _S.FAILED_NEEDS_HUMAN}),
        _S.READY: frozenset({_S.BUSY, _S.CLOSED, _S.FAILED_NEEDS_HUMAN}),
        _S.BUSY: frozenset({_S.READY, _S.CLOSED, _S.FAILED_NEEDS_HUMAN}),
        _S.CLOSED: frozenset(),
        _S.FAILED_NEEDS_HUMAN: frozenset(),
    },
}


def check_transition(old: StrEnum, new: StrEnum) -> None:
    """Raise `illegal_transition` unless the table allows the step from `old` to `new`."""
    if new not in TRANSITIONS[type(old)][old]:
        raise DevflowError(
            "illegal_transition", f"a {type(old).__name__.removesuffix('State').lower()} cannot go from {old} to {new}"
        )
