"""The recorded agent plays its cassette by attempt, and finds its place from the conversation alone."""

import json
from decimal import Decimal

import pytest

from engine.agents.replay_agent import ReplayModel, parse_cassette
from engine.domain.errors import DevflowError

CASSETTE = b"""
version: 1
turns:
  spec/1/1:
    - - {tool: read_file, arguments: {path: README.md}}
      - {tool: list_files}
    - - {tool: submit_artifact, arguments: {artifact: {approach: "so"}}}
  spec/1/2:
    - - {tool: submit_artifact, arguments: {artifact: {}}}
"""
PROMPT = [{"role": "system", "content": "be"}, {"role": "user", "content": "do"}]


def replay() -> ReplayModel:
    return ReplayModel(parse_cassette(CASSETTE, "cassette.yaml"))


async def test_plays_the_turns_of_its_attempt_in_order() -> None:
    model = replay().for_attempt("spec", 1, 1)

    first = await model.complete(PROMPT, [], 100)
    second = await model.complete([*PROMPT, first.message], [], 100)

    assert [(call.name, json.loads(call.arguments)) for call in first.tool_calls] == [
        ("read_file", {"path": "README.md"}),
        ("list_files", {}),
    ]
    assert [call.name for call in second.tool_calls] == ["submit_artifact"]
    assert model.backend == "replay"
    assert second.usage.cost_usd == Decimal(0)


async def test_counts_turns_from_the_last_prompt_so_that_a_resumed_or_repaired_session_finds_its_place() -> None:
    first = await replay().for_attempt("spec", 1, 1).complete(PROMPT, [], 100)
    repaired = [*PROMPT, first.message, {"role": "tool", "tool_call_id": "x", "content": ""}]
    repaired += [{"role": "user", "content": "wrong, again"}]

    reply = await replay().for_attempt("spec", 1, 2).complete(repaired, [], 100)

    assert [call.arguments for call in reply.tool_calls] == ['{"artifact": {}}']


async def test_ends_the_work_after_the_last_recorded_turn() -> None:
    model = replay().for_attempt("spec", 1, 2)
    first = await model.complete(PROMPT, [], 100)

    reply = await model.complete([*PROMPT, first.message], [], 100)

    assert reply.tool_calls == ()
    assert reply.finish_reason == "stop"


async def test_calls_have_ids_that_are_unique_in_the_session() -> None:
    model = replay().for_attempt("spec", 1, 1)
    first = await model.complete(PROMPT, [], 100)
    second = await model.complete([*PROMPT, first.message], [], 100)
    other = await replay().for_attempt("spec", 1, 2).complete(PROMPT, [], 100)

    ids = [call.id for reply in (first, second, other) for call in reply.tool_calls]

    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("attempt", [("spec", 2, 1), ("plan", 1, 1), ("spec", 1, 3)])
def test_an_attempt_that_was_not_recorded_is_an_error_that_lists_what_was(attempt: tuple[str, int, int]) -> None:
    with pytest.raises(DevflowError, match="spec/1/1, spec/1/2") as caught:
        replay().for_attempt(*attempt)

    assert caught.value.code == "cassette_incomplete"


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (b"version: 2\nturns: {}\n", "c.yaml:1: version"),
        (b"turns: {}\n", "version"),
        (b"version: 1\n", "turns"),
        (b"version: 1\nturns:\n  spec/1: []\n", "c.yaml:3"),
        (b"version: 1\nturns:\n  spec/0/1: []\n", "c.yaml:3"),
        (b"version: 1\nturns:\n  a/1/1:\n  - - {tol: x}\n", "c.yaml:4"),
        (b"version: 1\nturns:\n  a/1/1:\n  - {tool: x}\n", "c.yaml:4"),
        (b"version: 1\nturns: {\n", "c.yaml:3"),
        (b"\xff", "c.yaml:1"),
    ],
)
def test_a_broken_cassette_is_answered_with_file_and_line(text: bytes, place: str) -> None:
    with pytest.raises(DevflowError) as caught:
        parse_cassette(text, "c.yaml")

    assert caught.value.code == "config_invalid"
    assert place in caught.value.message
