"""Money around a model call: the most it can cost is reserved before it, what it did cost is settled after it.

Stands between the agent loop and the ledger. Under a cap everything fails closed: a price that is unknown, a table
that breaks and a reply that does not say what it used are never taken for nothing.
"""

import asyncio
import logging
import time
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Protocol
from uuid import UUID

from engine.agents.base import Reply, Usage
from engine.domain.errors import DevflowError
from engine.domain.ids import uuid7
from engine.last_writes import best_effort
from engine.store.database import Database, FencedRun, Lease
from engine.store.ledger import CallContext, Cost, Ending, add_call, end_call, open_calls

_log = logging.getLogger(__name__)
_LAST_MESSAGE = 4000
RECORDED = Cost(Decimal(0), "recorded", Decimal(0), Decimal(0))


class Prices(Protocol):
    """What metering needs of a price table; amounts are US dollars."""

    def worst_case(self, model: str, request_bytes: int, max_output_tokens: int) -> Decimal | None:
        """Return the most that one call can cost, or None where the model has no price."""

    def cost(self, model: str, usage: Usage) -> tuple[Decimal, Decimal] | None:
        """Return what input and output cost, or None where the model has no price."""


@dataclass(frozen=True)
class Reservation:
    """One model call under way; `amount` is what is reserved for it, None where its price is unknown."""

    call_id: UUID
    amount: Decimal | None
    started: float = field(default_factory=time.monotonic)

    @property
    def elapsed_ms(self) -> int:
        """Milliseconds since the reservation was made."""
        return round((time.monotonic() - self.started) * 1000)


class Meter:
    """Writes the ledger of one session and holds its calls to the run's cap."""

    def __init__(self, database: Database, lease: Lease, context: CallContext, prices: Prices) -> None:
        self._database = database
        self._lease = lease
        self._context = context
        self._prices = prices

    async def reserve(self, turn_index: int, request_bytes: int, max_output_tokens: int) -> Reservation:
        """Reserve the most that a call can cost; or write nothing and raise `budget_exceeded` or `price_unknown`."""
        reservation = Reservation(uuid7(), self._worst_case(request_bytes, max_output_tokens))
        try:
            async with self._database.fenced(self._lease) as tx:
                self._hold_to_cap(tx, reservation.amount)
                await add_call(tx, self._context, reservation.call_id, turn_index, reservation.amount)
        except asyncio.CancelledError:
            await best_effort(self.fail(reservation, "cancelled"))  # the commit may have passed
            raise
        return reservation

    async def settle(self, tx: FencedRun, reservation: Reservation, reply: Reply) -> None:
        """End a call with its reply, inside the transaction that stores the reply."""
        await self._end(tx, reservation, reply.usage, reply.request_id, text=reply.text)

    async def settle_useless(
        self, reservation: Reservation, usage: Usage, error_code: str, request_id: str | None
    ) -> None:
        """End a call that was answered, and says what it used, but gave no usable turn."""
        async with self._database.fenced(self._lease) as tx:
            await self._end(tx, reservation, usage, request_id, error_code=error_code)

    async def fail(self, reservation: Reservation, error_code: str, request_id: str | None = None) -> None:
        """End a call that never ran: it costs nothing and its reservation is released."""
        ending = Ending("failed", None, Usage(), error_code, request_id, reservation.elapsed_ms)
        async with self._database.fenced(self._lease) as tx:
            await end_call(tx, reservation.call_id, ending)

    async def lose(self, reservation: Reservation, error_code: str, request_id: str | None = None) -> None:
        """End a call of which nobody knows whether it ran: charged at its reservation, once."""
        ending = _unknown(reservation.amount, self._context.backend, error_code, request_id, reservation.elapsed_ms)
        async with self._database.fenced(self._lease) as tx:
            await end_call(tx, reservation.call_id, ending)

    async def _end(
        self,
        tx: FencedRun,
        reservation: Reservation,
        usage: Usage,
        request_id: str | None,
        *,
        error_code: str | None = None,
        text: str = "",
    ) -> None:
        cost = self._cost(usage, reservation.amount, capped=tx.row["budget_usd"] is not None)
        ending = Ending("settled", cost, usage, error_code, request_id, reservation.elapsed_ms)
        if not await end_call(tx, reservation.call_id, ending, last_ai_message=text.strip()[:_LAST_MESSAGE]):
            raise DevflowError("internal_error", f"the ledger's call {reservation.call_id} was ended before its reply")

    def _hold_to_cap(self, tx: FencedRun, worst: Decimal | None) -> None:
        cap: Decimal | None = tx.row["budget_usd"]
        if cap is None:
            return
        if worst is None:
            raise DevflowError(
                "price_unknown", f"the run has a cap of {_usd(cap)}, and the price of {self._context.model} is unknown"
            )
        spent: Decimal = tx.row["spent_usd"]
        reserved: Decimal = tx.row["reserved_usd"]
        if spent + reserved + worst > cap:
            held = f", {_usd(reserved)} reserved" if reserved else ""
            raise DevflowError(
                "budget_exceeded",
                f"the cap is {_usd(cap)}, {_usd(spent)} spent{held}; the next call could cost up to {_usd(worst)}",
                details={"cap_usd": str(cap), "spent_usd": str(spent + reserved), "next_call_usd": str(worst)},
            )

    def _worst_case(self, request_bytes: int, max_output_tokens: int) -> Decimal | None:
        if self._context.backend == "replay":
            return Decimal(0)
        try:
            worst = self._prices.worst_case(self._context.model, request_bytes, max_output_tokens)
        except Exception as error:
            raise DevflowError(
                "price_unknown", f"the price of {self._context.model} cannot be told: {type(error).__name__}"
            ) from error
        if worst is not None and not (worst.is_finite() and worst >= 0):
            raise DevflowError("price_unknown", f"the price of {self._context.model} is no amount of money: {worst}")
        return worst

    def _cost(self, usage: Usage, reserved: Decimal | None, *, capped: bool) -> Cost:
        if self._context.backend == "replay":
            return RECORDED
        if usage.cost_usd is not None:
            return Cost(usage.cost_usd, "server")
        if usage.input_tokens is not None and usage.output_tokens is not None:
            try:
                priced = self._prices.cost(self._context.model, usage)
            except Exception:  # noqa: BLE001 - the reply is paid for: losing it would not bring the money back
                _log.exception("the price table broke on %s; charged at the reservation", self._context.model)
                return Cost(reserved, "reservation" if reserved is not None else None)
            if priced is not None:
                return Cost(priced[0] + priced[1], "table", *priced)
        if capped and reserved is not None:
            return Cost(reserved, "reservation")
        return Cost(None, None)


async def settle_orphans(tx: FencedRun, *, own: bool = False) -> int:
    """End the calls that earlier holders of the lease left open, charged at their reservations; returns how many.

    With `own` also those of this lease: for a run that has ended, and so has no call under way.
    """
    orphans = await open_calls(tx, own=own)
    for row in orphans:
        await end_call(tx, row["call_id"], _unknown(row["reserved_usd"], row["backend"], "fenced", None, None))
    return len(orphans)


def _unknown(
    reserved: Decimal | None, backend: str, error_code: str, request_id: str | None, latency_ms: int | None
) -> Ending:
    cost = Cost(reserved, "reservation" if reserved is not None else None)
    if backend == "replay":
        cost = RECORDED
    return Ending("unknown", cost, Usage(), error_code, request_id, latency_ms)


def _usd(amount: Decimal) -> str:
    """Return an amount with at least two decimals and no trailing noise: `$5.00`, `$0.0042`."""
    text = f"{amount:.6f}".rstrip("0")
    whole, _, decimals = text.partition(".")
    return f"${whole}.{decimals:0<2}"
