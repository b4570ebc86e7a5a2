"""An attempt from its prompt to its outcome, with a real model server, a real ledger and real sessions."""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Iterator
from decimal import Decimal
from typing import Any

import pytest

from engine.agents.base import ToolResult
from engine.agents.conversation import INTERRUPTED, NOT_RUN
from engine.agents.loop import CUT_OFF_NOTE
from engine.agents.openai_agent import OpenAIModel
from engine.domain.errors import DevflowError
from engine.store.agent_tables import agent_sessions
from engine.store.database import Database
from tests.integration.agent_bench import (
    PROMPT,
    Bench,
    audit,
    ledger_rows,
    rows,
    run_row,
    set_up,
    stored_messages,
    taken_over,
)
from tests.model_server import ModelServer, Script, calls, says, serving

READ = ("read_file", {"path": "a"})
SUBMIT = ("submit_artifact", {"artifact": {"approach": "so"}})


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with serving(Script(rules=[{"when": "hello", "turns": [calls(READ), calls(SUBMIT)]}])) as running:
        yield running


@pytest.fixture
async def model(server: ModelServer) -> AsyncIterator[OpenAIModel]:
    opened = OpenAIModel("scripted", api_key="test-key-0123456789", base_url=server.base_url)
    yield opened
    await opened.close()


@pytest.fixture
async def bench(database: Database, model: OpenAIModel) -> Bench:
    return await set_up(database, model)


def turns(server: ModelServer, *script: dict[str, Any], when: str = "hello") -> None:
    server.script.rules = [{"when": when, "turns": list(script)}]


async def session_state(database: Database) -> str:
    (session,) = await rows(database, agent_sessions, agent_sessions.c.created_at)
    return str(session["state"])


async def test_works_until_the_artifact_is_submitted(bench: Bench, server: ModelServer) -> None:
    outcome = await bench.attempt()

    assert (outcome.submission, outcome.reason) == ({"approach": "so"}, "submitted")
    assert [name for name, _ in bench.tools.asked] == ["read_file", "submit_artifact"]
    assert await audit(bench.database) == [("call_0", "ok"), ("call_0", "ok")]
    assert await session_state(bench.database) == "READY"


async def test_the_tools_result_is_in_the_next_request(bench: Bench, server: ModelServer) -> None:
    await bench.attempt()

    last = server.requests[1]["messages"][-1]
    assert last == {"role": "tool", "tool_call_id": "call_0", "content": 'read_file did {"path": "a"}'}


async def test_each_request_strictly_extends_the_one_before(bench: Bench, server: ModelServer) -> None:
    turns(server, calls(READ), calls(READ, READ), says("stuck"))
    await bench.attempt()
    turns(server, calls(READ), calls(SUBMIT), when="the artifact is missing")
    again = await bench.reopened()
    await again.conversation.prompt([{"role": "user", "content": "the artifact is missing"}], "repair", 2)
    await again.attempt()

    sent = [request["messages"] for request in server.requests]
    assert len(sent) == 5
    for before, after in itertools.pairwise(sent):
        assert len(after) > len(before)
        assert after[: len(before)] == before
    assert {json.dumps(request["tools"]) for request in server.requests} == {json.dumps(bench.tools.specs)}
    assert await stored_messages(bench.database) == again.conversation.messages


async def test_a_model_that_stops_without_an_artifact_is_an_outcome(bench: Bench, server: ModelServer) -> None:
    turns(server, says("I am done"))

    outcome = await bench.attempt()

    assert (outcome.submission, outcome.reason, outcome.details) == (None, "stopped", {"text": "I am done"})


async def test_the_turn_limit_ends_the_attempt_and_counts_from_the_prompt(bench: Bench, server: ModelServer) -> None:
    turns(server, *[calls(READ)] * 9)
    first = await bench.attempt(max_turns=3)
    turns(server, *[calls(READ)] * 9, when="again")
    await bench.conversation.prompt([{"role": "user", "content": "again"}], "second", 2)
    second = await bench.attempt(max_turns=3)

    assert (first.reason, second.reason) == ("max_turns", "max_turns")
    assert len(server.requests) == 6


async def test_a_tools_complaint_goes_back_to_the_model(bench: Bench, server: ModelServer) -> None:
    turns(server, calls(("read_file", '{"path": ')), calls(SUBMIT))

    outcome = await bench.attempt()

    assert outcome.reason == "submitted"
    assert bench.tools.asked[0] == ("read_file", '{"path": ')
    assert await audit(bench.database) == [("call_0", "error"), ("call_0", "ok")]
    json.loads(server.requests[1]["messages"][-2]["tool_calls"][0]["function"]["arguments"])


async def test_calls_after_the_submission_are_not_run_and_answered_at_the_next_prompt(
    bench: Bench, server: ModelServer
) -> None:
    turns(server, calls(SUBMIT, READ))
    await bench.attempt()
    await bench.conversation.prompt([{"role": "user", "content": "wrong"}], "repair", 2)

    assert [name for name, _ in bench.tools.asked] == ["submit_artifact"]
    assert [message.get("content") for message in bench.conversation.messages[-2:]] == [NOT_RUN, "wrong"]


@pytest.mark.parametrize(
    "half",
    [
        {"text": "I was about to", "finish_reason": "length"},
        {"text": "", "finish_reason": "length"},
        {**calls(("submit_artifact", '{"artifact": {"appr')), "finish_reason": "length"},
    ],
)
async def test_a_turn_that_was_cut_off_is_told_once_and_then_ends_the_attempt(
    bench: Bench, server: ModelServer, half: dict[str, Any]
) -> None:
    server.script.rules = [
        {"when": "hello", "turns": [half, half, calls(SUBMIT)]},
        {"when": CUT_OFF_NOTE, "turns": [half, calls(SUBMIT)]},
    ]

    outcome = await bench.attempt()

    assert (outcome.submission, outcome.reason) == (None, "cut_off")
    assert server.requests[1]["messages"][-1]["content"] == CUT_OFF_NOTE
    assert len(server.requests) == 2
    assert bench.tools.asked == []


async def test_a_cut_off_turn_that_recovers_goes_on(bench: Bench, server: ModelServer) -> None:
    half = {"text": "I was about to", "finish_reason": "length"}
    server.script.rules = [
        {"when": "hello", "turns": [half]},
        {"when": CUT_OFF_NOTE, "turns": [calls(READ), calls(SUBMIT)]},
    ]

    outcome = await bench.attempt()

    assert outcome.reason == "submitted"


async def test_a_refusal_is_a_typed_error_and_is_paid_for(bench: Bench, server: ModelServer) -> None:
    turns(server, {"refusal": "not that"})

    with pytest.raises(DevflowError, match="not that") as caught:
        await bench.attempt()

    assert caught.value.code == "agent_failed"
    assert [row["status"] for row in await ledger_rows(bench.database)] == ["settled"]
    assert await session_state(bench.database) == "READY"


async def test_a_malformed_reply_is_tried_again_and_each_try_has_its_row(bench: Bench, server: ModelServer) -> None:
    server.script.faults = [{"kind": "malformed"}, {"kind": "status", "status": 429}]

    outcome = await bench.attempt()

    ledger = await ledger_rows(bench.database)
    assert outcome.reason == "submitted"
    assert [row["status"] for row in ledger] == ["unknown", "failed", "settled", "settled"]
    assert [row["error_code"] for row in ledger] == ["model_reply_invalid", "backend_unavailable", None, None]
    assert [row["turn_index"] for row in ledger] == [0, 0, 0, 1]
    assert server.requests[0]["messages"] == server.requests[1]["messages"] == server.requests[2]["messages"]


@pytest.mark.parametrize(
    ("fault", "code", "tries"),
    [
        ({"kind": "malformed"}, "model_reply_invalid", 3),
        ({"kind": "malformed", "text": '{"choices": [], "usage": {"prompt_tokens": 5}}'}, "model_reply_invalid", 3),
        ({"kind": "truncated"}, "backend_unavailable", 3),
        ({"kind": "status", "status": 503}, "backend_unavailable", 3),
        ({"kind": "status", "status": 429, "headers": {"retry-after": "3600"}}, "backend_unavailable", 1),
        ({"kind": "status", "status": 401}, "backend_unavailable", 1),
        ({"kind": "overflow"}, "context_overflow", 1),
    ],
)
async def test_what_does_not_pass_ends_the_attempt_with_its_code(
    bench: Bench, server: ModelServer, fault: dict[str, Any], code: str, tries: int
) -> None:
    server.script.faults = [fault] * 9

    with pytest.raises(DevflowError) as caught:
        await bench.attempt()

    assert caught.value.code == code
    assert len(server.requests) == len(await ledger_rows(bench.database)) == tries
    assert await stored_messages(bench.database) == PROMPT
    assert await session_state(bench.database) == "READY"
    assert (await run_row(bench.database, bench.lease))["reserved_usd"] == 0


async def test_the_cap_is_asked_before_each_try_and_nothing_is_sent_beyond_it(
    database: Database, model: OpenAIModel, server: ModelServer
) -> None:
    bench = await set_up(database, model, budget="1.00")
    server.script.faults = [{"kind": "malformed"}] * 9

    with pytest.raises(DevflowError) as caught:
        await bench.attempt(max_output_tokens=4000)  # 0.40 a try at least

    assert caught.value.code == "budget_exceeded"
    assert len(server.requests) == 2
    row = await run_row(database, bench.lease)
    assert row["reserved_usd"] == 0
    assert Decimal("0.80") < row["spent_usd"] <= Decimal("1.00")


async def cancelled(work: asyncio.Task[Any]) -> None:
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work


async def until_asked(server: ModelServer) -> None:
    async with asyncio.timeout(60):
        while not server.requests:
            await asyncio.sleep(0.005)


async def test_no_tool_or_model_call_after_a_cancelled_model_call(bench: Bench, server: ModelServer) -> None:
    server.script.faults = [{"kind": "hang"}]
    work = asyncio.create_task(bench.attempt())
    await until_asked(server)

    await cancelled(work)
    await asyncio.sleep(0.1)

    (row,) = await ledger_rows(bench.database)
    assert (row["status"], row["cost_source"], row["cost_usd"]) == ("unknown", "reservation", row["reserved_usd"])
    assert len(server.requests) == 1
    assert bench.tools.asked == []
    assert await session_state(bench.database) == "READY"
    assert await stored_messages(bench.database) == PROMPT
    assert (await run_row(bench.database, bench.lease))["reserved_usd"] == 0


async def test_no_model_call_after_a_tool_call_that_ran_out_of_time(bench: Bench, server: ModelServer) -> None:
    async def sleep(_name: str, _arguments: str) -> None:
        await asyncio.sleep(60)

    bench.tools.behave = sleep

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1):
            await bench.attempt()
    await asyncio.sleep(0.1)

    assert len(server.requests) == 1
    assert await audit(bench.database) == [("call_0", "started")]
    assert await session_state(bench.database) == "READY"


async def test_the_next_prompt_first_answers_the_call_that_was_interrupted(bench: Bench, server: ModelServer) -> None:
    turns(server, calls(READ, READ))

    async def fail(_name: str, _arguments: str) -> None:
        raise DevflowError("storage_full", "no space")

    bench.tools.behave = fail
    with pytest.raises(DevflowError, match="no space"):
        await bench.attempt()
    bench.tools.behave = None
    turns(server, calls(SUBMIT), when="time is up")
    await bench.conversation.prompt([{"role": "user", "content": "time is up"}], "second", 2)
    outcome = await bench.attempt()

    assert outcome.reason == "submitted"
    assert [name for name, _ in bench.tools.asked] == ["read_file", "submit_artifact"]
    contents = [message["content"] for message in server.requests[1]["messages"][-3:]]
    assert contents == [INTERRUPTED, NOT_RUN, "time is up"]
    assert await audit(bench.database) == [("call_0", "interrupted"), ("call_0", "ok")]


async def test_a_resumed_attempt_keeps_results_answers_the_interrupted_call_and_runs_the_rest(
    bench: Bench, server: ModelServer
) -> None:
    turns(server, calls(READ, ("read_file", {"path": "b"}), ("read_file", {"path": "c"})), calls(SUBMIT))

    async def die_at_the_second(_name: str, arguments: str) -> None:
        if "b" in arguments:
            raise RuntimeError("the process is gone")

    bench.tools.behave = die_at_the_second
    with pytest.raises(RuntimeError):
        await bench.attempt()
    resumed = await bench.reopened(await taken_over(bench.database, bench.lease))
    await resumed.conversation.prompt(PROMPT, "first", 1)
    outcome = await resumed.attempt()

    assert resumed.conversation.resumed
    assert outcome.reason == "submitted"
    assert resumed.tools.asked == [("read_file", '{"path": "c"}'), ("submit_artifact", json.dumps(SUBMIT[1]))]
    results = [message["content"] for message in server.requests[1]["messages"][-3:]]
    assert results == ['read_file did {"path": "a"}', INTERRUPTED, 'read_file did {"path": "c"}']
    assert await audit(bench.database) == [
        ("call_0", "ok"),
        ("call_1", "interrupted"),
        ("call_2", "ok"),
        ("call_0", "ok"),
    ]


async def test_an_attempt_that_had_ended_ends_the_same_way_without_a_second_turn(
    bench: Bench, server: ModelServer
) -> None:
    first = await bench.attempt()
    resumed = await bench.reopened()
    await resumed.conversation.prompt(PROMPT, "first", 1)

    second = await resumed.attempt()

    assert second == first
    assert len(server.requests) == 2


async def test_work_stopped_at_a_safe_point_goes_on_from_there(bench: Bench, server: ModelServer) -> None:
    class Pause(Exception):  # noqa: N818 - what a host may raise
        pass

    def after_the_first_turn() -> None:
        if bench.conversation.turn_count:
            raise Pause

    with pytest.raises(Pause):
        await bench.attempt(after_the_first_turn)
    assert await session_state(bench.database) == "READY"
    resumed = await bench.reopened()
    outcome = await resumed.attempt()

    assert outcome.reason == "submitted"
    assert [name for name, _ in bench.tools.asked] == ["read_file"]
    assert [name for name, _ in resumed.tools.asked] == ["submit_artifact"]
    assert len(server.requests) == 2


async def test_a_model_that_had_stopped_is_not_asked_again(bench: Bench, server: ModelServer) -> None:
    turns(server, says("I am done"))
    first = await bench.attempt()

    second = await (await bench.reopened()).attempt()

    assert second == first
    assert len(server.requests) == 1


async def test_a_worker_that_lost_its_lease_stores_nothing_and_calls_nothing_more(
    bench: Bench, server: ModelServer
) -> None:
    async def lose_the_lease(_name: str, _arguments: str) -> ToolResult | None:
        await taken_over(bench.database, bench.lease)
        return None

    bench.tools.behave = lose_the_lease

    with pytest.raises(DevflowError) as caught:
        await bench.attempt()

    assert caught.value.code == "fenced"
    assert len(server.requests) == 1
    assert len(await stored_messages(bench.database)) == 3
