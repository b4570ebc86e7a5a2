"""The ledger as rows: one for each model call, and the money that the run's row keeps in step with them.

`engine/metering.py` decides amounts; here they are written. A row is inserted `reserved` before the call and ended
exactly once, in the transaction that takes its reservation off the run.
"""

from dataclasses import dataclass, field
from decimal import ROUND_UP, Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import RowMapping, func, select, update
from sqlalchemy.dialects.postgresql import insert

from engine.agents.base import Usage
from engine.store.agent_tables import ledger
from engine.store.database import FencedRun, Transaction
from engine.store.runs import update_run
from engine.store.tables import runs

_TEN_PLACES = Decimal("1E-10")  # the columns' scale; rounded up so that the sum of rows never exceeds the run's


@dataclass(frozen=True)
class CallContext:
    """Who calls which model for what; the same for all calls of one session."""

    phase_key: str
    session_id: UUID
    persona_name: str
    persona_version: int
    backend: str
    model: str
    role: str


@dataclass(frozen=True)
class Cost:
    """What a call cost in US dollars and how that is known; `total` None is unknown."""

    total: Decimal | None
    source: str | None
    input: Decimal | None = None
    output: Decimal | None = None


@dataclass(frozen=True)
class Ending:
    """How a call ended: `settled`, `failed` (never ran, costs nothing) or `unknown` (may have run)."""

    status: str
    cost: Cost | None
    usage: Usage = field(default_factory=Usage)
    error_code: str | None = None
    request_id: str | None = None
    latency_ms: int | None = None


async def add_call(
    tx: FencedRun, context: CallContext, call_id: UUID, turn_index: int, reserved: Decimal | None
) -> None:
    """Insert a call in status `reserved` and reserve its amount on the run."""
    amount = _money(reserved)
    await tx.execute(
        insert(ledger).values(
            repository_id=tx.repository_id,
            call_id=call_id,
            run_id=tx.run_id,
            phase_key=context.phase_key,
            session_id=context.session_id,
            epoch=tx.lease.epoch,
            persona_name=context.persona_name,
            persona_version=context.persona_version,
            backend=context.backend,
            model=context.model,
            role=context.role,
            turn_index=turn_index,
            status="reserved",
            reserved_usd=amount,
        )
    )
    if amount:
        await update_run(tx, reserved_usd=runs.c.reserved_usd + amount)


async def end_call(tx: FencedRun, call_id: UUID, ending: Ending, *, last_ai_message: str | None = None) -> bool:
    """End a reserved call and move its money from reserved to spent; False where it was ended before."""
    cost = ending.cost or Cost(Decimal(0), None)
    usage = ending.usage
    row = await tx.maybe(
        update(ledger)
        .where(ledger.c.repository_id == tx.repository_id, ledger.c.call_id == call_id, ledger.c.status == "reserved")
        .values(
            status=ending.status,
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            cached_tokens=usage.cached_tokens,
            reasoning_tokens=usage.reasoning_tokens,
            input_usd=_money(cost.input),
            output_usd=_money(cost.output),
            cost_usd=_money(cost.total),
            cost_source=cost.source,
            error_code=ending.error_code,
            provider_request_id=ending.request_id,
            latency_ms=ending.latency_ms,
            ended_at=func.clock_timestamp(),
        )
        .returning(ledger.c.reserved_usd)
    )
    if row is None:
        return False
    changes: dict[str, Any] = {"reserved_usd": runs.c.reserved_usd - (row["reserved_usd"] or Decimal(0))}
    if ending.status != "failed":
        changes["llm_call_count"] = runs.c.llm_call_count + 1
        changes["total_tokens"] = runs.c.total_tokens + (usage.input_tokens or 0) + (usage.output_tokens or 0)
        if cost.total is None:
            changes["unpriced_calls"] = runs.c.unpriced_calls + 1
        else:
            changes["spent_usd"] = runs.c.spent_usd + _money(cost.total)
    if last_ai_message:
        changes["last_ai_message"] = last_ai_message
    await update_run(tx, **changes)
    return True


async def open_calls(tx: FencedRun, *, own: bool = False) -> list[RowMapping]:
    """Return the run's calls that earlier holders of the lease (and `own`: this one) reserved and never ended."""
    before = tx.lease.epoch + own
    return await tx.all(
        select(ledger)
        .where(
            ledger.c.repository_id == tx.repository_id,
            ledger.c.run_id == tx.run_id,
            ledger.c.status == "reserved",
            ledger.c.epoch < before,
        )
        .order_by(ledger.c.started_at, ledger.c.call_id)
    )


async def totals(tx: Transaction, repository_id: int, run_id: UUID) -> dict[str, Any]:
    """Return `{calls, input_tokens, output_tokens, cost_usd}` of a run; `cost_usd` is None where one price is unknown.

    Calls that never ran (`failed`) and calls under way (`reserved`) are not counted.
    """
    ran = ledger.c.status.in_(["settled", "unknown"])
    row = await tx.one(
        select(
            func.count().label("calls"),
            func.coalesce(func.sum(ledger.c.input_tokens), 0).label("input_tokens"),
            func.coalesce(func.sum(ledger.c.output_tokens), 0).label("output_tokens"),
            func.coalesce(func.sum(ledger.c.cost_usd), 0).label("cost_usd"),
            func.count().filter(ledger.c.cost_usd.is_(None)).label("unpriced"),
        ).where(ledger.c.repository_id == repository_id, ledger.c.run_id == run_id, ran)
    )
    return {
        "calls": row["calls"],
        "input_tokens": int(row["input_tokens"]),
        "output_tokens": int(row["output_tokens"]),
        "cost_usd": None if row["unpriced"] else row["cost_usd"],
    }


async def by_phase(tx: Transaction, repository_id: int, run_id: UUID) -> dict[str, RowMapping]:
    """Return `{calls, cost_usd, unpriced, recorded}` of each phase that has asked a model, by phase key.

    `cost_usd` is the sum of the prices that are known, `recorded` counts the calls of a recorded agent.
    """
    rows = await tx.all(
        select(
            ledger.c.phase_key,
            func.count().label("calls"),
            func.coalesce(func.sum(ledger.c.cost_usd), 0).label("cost_usd"),
            func.count().filter(ledger.c.cost_usd.is_(None)).label("unpriced"),
            func.count().filter(ledger.c.backend == "replay").label("recorded"),
        )
        .where(
            ledger.c.repository_id == repository_id,
            ledger.c.run_id == run_id,
            ledger.c.status.in_(["settled", "unknown"]),
        )
        .group_by(ledger.c.phase_key)
    )
    return {row["phase_key"]: row for row in rows}


def _money(amount: Decimal | None) -> Decimal | None:
    return None if amount is None else amount.quantize(_TEN_PLACES, rounding=ROUND_UP)
