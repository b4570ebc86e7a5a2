"""Approval requests and decisions as rows. What a decision does to the run stands in `engine/gates.py`."""

from typing import Any
from uuid import UUID

from sqlalchemy import RowMapping, func, select, update
from sqlalchemy.dialects.postgresql import insert

from engine.domain.errors import DevflowError
from engine.domain.ids import uuid7
from engine.domain.states import Action, RequestState, check_transition
from engine.store.database import LockedRun, Transaction
from engine.store.tables import approval_requests, decisions

OUTSIDE_PHASE = "-"


async def pending_request(tx: Transaction, run_id: UUID) -> RowMapping | None:
    """Return the run's pending request; a run has one at most."""
    return await tx.maybe(
        select(approval_requests).where(
            approval_requests.c.run_id == run_id, approval_requests.c.state == RequestState.PENDING
        )
    )


async def list_requests(tx: Transaction, run_id: UUID) -> list[RowMapping]:
    """Return all requests of a run in the order in which they were posted."""
    return await tx.all(
        select(approval_requests)
        .where(approval_requests.c.run_id == run_id)
        .order_by(approval_requests.c.created_at, approval_requests.c.request_id)
    )


async def get_request(tx: Transaction, request_id: UUID) -> RowMapping | None:
    """Return one request, or None."""
    return await tx.maybe(select(approval_requests).where(approval_requests.c.request_id == request_id))


async def list_decisions(tx: Transaction, request_id: UUID) -> list[RowMapping]:
    """Return the decisions on a request in the order in which they came."""
    return await tx.all(
        select(decisions).where(decisions.c.request_id == request_id).order_by(decisions.c.at, decisions.c.decision_id)
    )


async def decision_by_token(tx: LockedRun, token: str) -> RowMapping | None:
    """Return the decision that carries this client token on any request of the run."""
    return await tx.maybe(
        select(decisions)
        .join(
            approval_requests,
            (approval_requests.c.repository_id == decisions.c.repository_id)
            & (approval_requests.c.request_id == decisions.c.request_id),
        )
        .where(approval_requests.c.run_id == tx.run_id, decisions.c.token == token)
        .limit(1)
    )


async def post_request(
    tx: LockedRun,
    *,
    phase_key: str,
    gate_key: str,
    required_approvals: int = 1,
    digest: str | None = None,
    tree: str | None = None,
    commit: str | None = None,
) -> tuple[RowMapping, bool]:
    """Post a request, unless the run has one pending: then that one is returned with False."""
    pending = await pending_request(tx, tx.run_id)
    if pending is not None:
        return pending, False
    same_gate = approval_requests.c.run_id == tx.run_id
    same_gate &= (approval_requests.c.phase_key == phase_key) & (approval_requests.c.gate_key == gate_key)
    last = (await tx.execute(select(func.max(approval_requests.c.round)).where(same_gate))).scalar_one()
    round_ = (last or 0) + 1
    row = await tx.one(
        insert(approval_requests)
        .values(
            repository_id=tx.repository_id,
            request_id=uuid7(),
            run_id=tx.run_id,
            key=f"{tx.run_id}:{phase_key}:{gate_key}:{round_}",
            phase_key=phase_key,
            gate_key=gate_key,
            round=round_,
            state=RequestState.PENDING,
            required_approvals=required_approvals,
            bound_digest=digest,
            bound_tree=tree,
            commit_sha=commit,
        )
        .returning(approval_requests)
    )
    return row, True


async def resolve_request(tx: LockedRun, request: RowMapping, state: RequestState) -> None:
    """Give the request its final state."""
    check_transition(RequestState(request["state"]), state)
    await tx.one(
        update(approval_requests)
        .where(approval_requests.c.request_id == request["request_id"])
        .values(state=state, resolved_at=func.clock_timestamp())
        .returning(approval_requests.c.request_id)
    )


async def add_decision(
    tx: LockedRun,
    request: RowMapping,
    *,
    token: str,
    action: Action,
    by: str,
    note: str | None,
    by_id: int | None = None,
) -> None:
    """Record what one person answered."""
    values: dict[str, Any] = {"token": token, "action": action, "by": by, "by_id": by_id, "note": note}
    await tx.execute(
        insert(decisions).values(
            repository_id=tx.repository_id, decision_id=uuid7(), request_id=request["request_id"], **values
        )
    )


async def approvers(tx: Transaction, request_id: UUID) -> list[str]:
    """Return the distinct people who approved a request, by the names they had; an id tells more than a name."""
    rows = await list_decisions(tx, request_id)
    people = {_person(row["by"], row["by_id"]): row["by"] for row in rows if row["action"] == Action.APPROVE}
    return sorted(people.values())


async def has_approved(tx: Transaction, request_id: UUID, by: str, by_id: int | None) -> bool:
    """Whether this person is among those who approved the request."""
    rows = await list_decisions(tx, request_id)
    given = {_person(row["by"], row["by_id"]) for row in rows if row["action"] == Action.APPROVE}
    return _person(by, by_id) in given


def _person(by: str, by_id: int | None) -> str | int:
    return by if by_id is None else by_id


def refuse_replay(previous: str, action: Action) -> None:
    """Raise `already_decided` where a known client token comes with another action than the first time."""
    if previous != action:
        raise DevflowError("already_decided", f"this answer was already given as {previous}, it cannot become {action}")
