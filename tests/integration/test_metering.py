"""Money: reserved before a call, settled after it, never spent beyond the cap, never taken for nothing."""

import asyncio
from decimal import Decimal
from typing import Any

import pytest

from engine.agents.base import Usage
from engine.agents.conversation import Conversation, find_or_open
from engine.domain.errors import DevflowError
from engine.domain.pricing import PriceTable
from engine.metering import Meter, settle_orphans
from engine.store.database import Database, Lease
from engine.store.ledger import totals
from tests.integration.agent_bench import (
    DESK,
    PRICES,
    PROMPT,
    context,
    leased_run,
    ledger_rows,
    reply,
    run_row,
    taken_over,
)

# PRICES: 10 dollars a million tokens in, 100 out. 10,000 bytes and 9,000 tokens are at most 0.10 + 0.90 = 1.00.
DOLLAR = (0, 10_000, 9_000)
NOTHING: PriceTable = PriceTable({})


class BrokenTable:
    """A price table whose parser breaks."""

    def worst_case(self, model: str, request_bytes: int, max_output_tokens: int) -> Decimal | None:
        raise ZeroDivisionError(model)

    def cost(self, model: str, usage: Usage) -> tuple[Decimal, Decimal] | None:
        raise KeyError(model)


class HalfBrokenTable(BrokenTable):
    """A price table that breaks only after the call."""

    def worst_case(self, model: str, request_bytes: int, max_output_tokens: int) -> Decimal | None:
        return Decimal(1)


class OddTable(BrokenTable):
    """A price table whose prices are no amounts."""

    def __init__(self, worst: str) -> None:
        self.worst = Decimal(worst)

    def worst_case(self, model: str, request_bytes: int, max_output_tokens: int) -> Decimal | None:
        return self.worst


async def meter_for(
    database: Database, *, budget: str | None = None, prices: Any = PRICES, backend: str = "openai"
) -> tuple[Meter, Conversation, Lease]:
    lease = await leased_run(database, budget=budget)
    conversation = await find_or_open(database, lease, DESK)
    await conversation.prompt(PROMPT, "key", 1)
    return Meter(database, lease, context(conversation, backend=backend), prices), conversation, lease


async def money(database: Database, lease: Lease) -> tuple[Decimal, Decimal, int]:
    """Return (reserved, spent, unpriced calls) of the run."""
    row = await run_row(database, lease)
    return row["reserved_usd"], row["spent_usd"], row["unpriced_calls"]


async def test_a_call_is_reserved_at_the_most_it_can_cost_and_settled_at_what_it_did(database: Database) -> None:
    meter, conversation, lease = await meter_for(database, budget="5")

    reservation = await meter.reserve(*DOLLAR)
    before = await money(database, lease)
    await conversation.record(reply(usage=Usage(1000, 500)), meter, reservation)

    assert before == (Decimal(1), Decimal(0), 0)
    assert await money(database, lease) == (Decimal(0), Decimal("0.06"), 0)
    (row,) = await ledger_rows(database)
    assert (row["status"], row["cost_source"]) == ("settled", "table")
    assert (row["input_usd"], row["output_usd"], row["cost_usd"]) == (
        Decimal("0.01"),
        Decimal("0.05"),
        Decimal("0.06"),
    )
    assert row["ended_at"] >= row["started_at"]
    assert row["latency_ms"] >= 0
    assert row["provider_request_id"] == "request-1"


async def test_a_call_that_could_pass_the_cap_is_refused_with_the_figures(database: Database) -> None:
    meter, conversation, lease = await meter_for(database, budget="1.50")
    await conversation.record(reply(usage=Usage(1000, 5900)), meter, await meter.reserve(*DOLLAR))

    with pytest.raises(DevflowError) as caught:
        await meter.reserve(*DOLLAR)

    assert caught.value.code == "budget_exceeded"
    assert caught.value.message == "the cap is $1.50, $0.60 spent; the next call could cost up to $1.00"
    assert len(await ledger_rows(database)) == 1
    assert await money(database, lease) == (Decimal(0), Decimal("0.6"), 0)


async def test_a_call_that_just_fits_is_made(database: Database) -> None:
    meter, _, lease = await meter_for(database, budget="1.00")

    await meter.reserve(*DOLLAR)

    assert (await money(database, lease))[0] == Decimal(1)


async def test_what_is_reserved_counts_as_spent_for_calls_at_the_same_time(database: Database) -> None:
    meter, _, lease = await meter_for(database, budget="3.50")

    made = await asyncio.gather(*[meter.reserve(*DOLLAR) for _ in range(8)], return_exceptions=True)

    refused = [one for one in made if isinstance(one, DevflowError)]
    assert [one.code for one in refused] == ["budget_exceeded"] * 5
    assert (await money(database, lease))[0] == Decimal(3)


@pytest.mark.parametrize("prices", [NOTHING, BrokenTable(), OddTable("NaN"), OddTable("-1"), OddTable("Infinity")])
async def test_under_a_cap_a_price_that_cannot_be_told_stops_the_call(database: Database, prices: Any) -> None:
    meter, _, lease = await meter_for(database, budget="5", prices=prices)

    with pytest.raises(DevflowError) as caught:
        await meter.reserve(*DOLLAR)

    assert caught.value.code == "price_unknown"
    assert await ledger_rows(database) == []
    assert await money(database, lease) == (Decimal(0), Decimal(0), 0)


async def test_without_a_cap_an_unknown_price_is_unknown_not_zero(database: Database) -> None:
    meter, conversation, lease = await meter_for(database, prices=NOTHING)

    await conversation.record(reply(), meter, await meter.reserve(*DOLLAR))

    (row,) = await ledger_rows(database)
    assert (row["reserved_usd"], row["cost_usd"], row["cost_source"]) == (None, None, None)
    assert await money(database, lease) == (Decimal(0), Decimal(0), 1)
    async with database.transaction() as tx:
        assert await totals(tx, lease.repository_id, lease.run_id) == {
            "calls": 1,
            "input_tokens": 100,
            "output_tokens": 20,
            "cost_usd": None,
        }


async def test_the_servers_own_cost_goes_before_the_table(database: Database) -> None:
    meter, conversation, lease = await meter_for(database)

    await conversation.record(
        reply(usage=Usage(100, 20, cost_usd=Decimal("0.123"))), meter, await meter.reserve(*DOLLAR)
    )

    (row,) = await ledger_rows(database)
    assert (row["cost_source"], row["cost_usd"]) == ("server", Decimal("0.123"))
    assert await money(database, lease) == (Decimal(0), Decimal("0.123"), 0)


@pytest.mark.parametrize("usage", [Usage(), Usage(input_tokens=100), Usage(output_tokens=3)])
async def test_under_a_cap_a_reply_without_usage_costs_its_reservation(database: Database, usage: Usage) -> None:
    meter, conversation, lease = await meter_for(database, budget="5")

    await conversation.record(reply(usage=usage), meter, await meter.reserve(*DOLLAR))

    (row,) = await ledger_rows(database)
    assert (row["cost_source"], row["cost_usd"]) == ("reservation", Decimal(1))
    assert await money(database, lease) == (Decimal(0), Decimal(1), 0)


async def test_a_table_that_breaks_after_the_call_costs_the_reservation_and_keeps_the_reply(
    database: Database,
) -> None:
    meter, conversation, lease = await meter_for(database, budget="5", prices=HalfBrokenTable())

    await conversation.record(reply("kept"), meter, await meter.reserve(*DOLLAR))

    assert conversation.messages[-1]["content"] == "kept"
    assert await money(database, lease) == (Decimal(0), Decimal(1), 0)


async def test_a_call_that_never_ran_costs_nothing(database: Database) -> None:
    meter, _, lease = await meter_for(database, budget="5")

    await meter.fail(await meter.reserve(*DOLLAR), "backend_unavailable", "r9")

    (row,) = await ledger_rows(database)
    assert (row["status"], row["cost_usd"], row["error_code"]) == ("failed", Decimal(0), "backend_unavailable")
    assert row["provider_request_id"] == "r9"
    assert await money(database, lease) == (Decimal(0), Decimal(0), 0)
    assert (await run_row(database, lease))["llm_call_count"] == 0


async def test_a_call_that_may_have_run_costs_its_reservation_once(database: Database) -> None:
    meter, _, lease = await meter_for(database, budget="5")
    reservation = await meter.reserve(*DOLLAR)

    await meter.lose(reservation, "backend_unavailable")
    await meter.lose(reservation, "backend_unavailable")

    (row,) = await ledger_rows(database)
    assert (row["status"], row["cost_source"], row["cost_usd"]) == ("unknown", "reservation", Decimal(1))
    assert await money(database, lease) == (Decimal(0), Decimal(1), 0)


async def test_an_answer_without_use_is_paid_at_what_it_says_it_used(database: Database) -> None:
    meter, _, _ = await meter_for(database, budget="5")

    await meter.settle_useless(await meter.reserve(*DOLLAR), Usage(1000, 0), "model_reply_invalid", None)

    (row,) = await ledger_rows(database)
    assert (row["status"], row["error_code"], row["cost_usd"]) == (
        "settled",
        "model_reply_invalid",
        Decimal("0.01"),
    )


async def test_a_recorded_call_costs_nothing_and_needs_no_price_even_under_a_cap(database: Database) -> None:
    meter, conversation, lease = await meter_for(database, budget="0.01", prices=NOTHING, backend="replay")

    await conversation.record(reply(usage=Usage(0, 0)), meter, await meter.reserve(*DOLLAR))

    (row,) = await ledger_rows(database)
    assert (row["backend"], row["cost_usd"], row["cost_source"]) == ("replay", Decimal(0), "recorded")
    assert await money(database, lease) == (Decimal(0), Decimal(0), 0)


async def test_a_call_that_was_cancelled_while_it_was_reserved_leaves_nothing_reserved(database: Database) -> None:
    meter, _, lease = await meter_for(database, budget="5")
    async with database.locked(lease.run_id):
        reserve = asyncio.create_task(meter.reserve(*DOLLAR))
        await asyncio.sleep(0.1)
        reserve.cancel()
        await asyncio.sleep(0.1)
    with pytest.raises(asyncio.CancelledError):
        await reserve

    assert {row["status"] for row in await ledger_rows(database)} <= {"failed"}
    assert await money(database, lease) == (Decimal(0), Decimal(0), 0)


async def test_a_new_holder_charges_what_the_old_one_left_open_exactly_once(database: Database) -> None:
    meter, _, lease = await meter_for(database, budget="5")
    lost = await meter.reserve(*DOLLAR)
    new = await taken_over(database, lease)

    settled = []
    for _ in range(2):
        async with database.fenced(new) as tx:
            settled.append(await settle_orphans(tx))

    (row,) = await ledger_rows(database)
    assert settled == [1, 0]
    assert (row["call_id"], row["status"], row["cost_usd"]) == (lost.call_id, "unknown", Decimal(1))
    assert await money(database, new) == (Decimal(0), Decimal(1), 0)


async def test_a_holder_leaves_its_own_open_calls_alone(database: Database) -> None:
    meter, _, lease = await meter_for(database)
    await meter.reserve(*DOLLAR)

    async with database.fenced(lease) as tx:
        settled = await settle_orphans(tx)

    assert settled == 0
    assert [row["status"] for row in await ledger_rows(database)] == ["reserved"]


async def test_a_lost_call_without_a_price_is_unknown(database: Database) -> None:
    meter, _, lease = await meter_for(database, prices=NOTHING)
    await meter.reserve(*DOLLAR)
    new = await taken_over(database, lease)

    async with database.fenced(new) as tx:
        await settle_orphans(tx)

    assert await money(database, new) == (Decimal(0), Decimal(0), 1)


async def test_the_old_holders_reply_comes_too_late_to_be_stored(database: Database) -> None:
    meter, conversation, lease = await meter_for(database)
    reservation = await meter.reserve(*DOLLAR)
    await taken_over(database, lease)

    with pytest.raises(DevflowError) as caught:
        await conversation.record(reply(), meter, reservation)

    assert caught.value.code == "fenced"
    assert [row["status"] for row in await ledger_rows(database)] == ["reserved"]


async def test_a_reply_to_a_call_that_was_ended_is_not_stored(database: Database) -> None:
    meter, conversation, _ = await meter_for(database)
    reservation = await meter.reserve(*DOLLAR)
    await meter.lose(reservation, "cancelled")

    with pytest.raises(DevflowError) as caught:
        await conversation.record(reply(), meter, reservation)

    assert caught.value.code == "internal_error"
    assert conversation.messages == PROMPT


async def test_the_run_and_its_rows_agree_to_the_last_decimal(database: Database) -> None:
    meter, conversation, lease = await meter_for(database)
    for number in range(1, 8):
        usage = Usage(number, number, cost_usd=Decimal(1) / Decimal(3 * number))
        await conversation.record(reply(usage=usage), meter, await meter.reserve(*DOLLAR))

    async with database.transaction() as tx:
        summed = await totals(tx, lease.repository_id, lease.run_id)
    assert summed["cost_usd"] == (await money(database, lease))[1]
