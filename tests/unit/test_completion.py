"""Whatever a model server sends becomes a reply that can be stored and sent back, or one typed error."""

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.agents.completion import CUT_OFF, CompletionInvalid, calls_of, parse_completion, parse_json


def answer(message: Any, finish: Any = "stop", **more: Any) -> dict[str, Any]:
    return {"choices": [{"message": message, "finish_reason": finish}], **more}


def call(arguments: Any, name: Any = "read_file", **more: Any) -> dict[str, Any]:
    return {"id": "a", "type": "function", "function": {"name": name, "arguments": arguments}, **more}


def test_a_plain_reply_is_taken_as_it_is() -> None:
    reply = parse_completion(answer({"role": "assistant", "content": "hello"}, id="c1"))

    assert reply.message == {"role": "assistant", "content": "hello"}
    assert (reply.text, reply.tool_calls, reply.finish_reason, reply.request_id) == ("hello", (), "stop", "c1")


def test_content_in_parts_is_joined() -> None:
    reply = parse_completion(answer({"content": [{"type": "text", "text": "he"}, {"type": "text", "text": "llo"}]}))

    assert reply.text == "hello"


@pytest.mark.parametrize(
    "document",
    [
        None,
        [],
        "text",
        {},
        {"choices": None},
        {"choices": []},
        {"choices": [None]},
        {"choices": [{}]},
        {"choices": [{"message": None}]},
        {"choices": [{"message": "hello"}]},
        answer({"content": None}),
        answer({"content": "  \n"}),
        answer({"content": 7}),
        answer({"content": [{"type": "image", "text": 1}]}),
        answer({"content": "x", "tool_calls": {}}),
        answer({"tool_calls": [None]}),
        answer({"tool_calls": [{"id": "a"}]}),
        answer({"tool_calls": [{"id": "a", "function": None}]}),
        answer({"tool_calls": [{"id": "a", "function": {"arguments": "{}"}}]}),
        answer({"tool_calls": [call("{}", name=" ")]}),
        answer({"content": "half"}, finish="error"),
    ],
)
def test_a_wrong_shape_is_one_typed_error(document: Any) -> None:
    with pytest.raises(CompletionInvalid):
        parse_completion(document)


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b'{"choices": [{"mess', b"<html>", b"\xff\xfe", b"NaN", b"1e999", b"[" * 100_000, b"9" * 5000],
)
def test_a_body_that_is_no_json_is_one_typed_error(body: bytes) -> None:
    with pytest.raises(CompletionInvalid):
        parse_completion(parse_json(body))


def test_what_postgres_cannot_store_is_replaced() -> None:
    document = parse_json(rb'{"choices": [{"message": {"content": "a\u0000b\ud800c"}}]}')

    text = parse_completion(document).text

    assert "\x00" not in text
    assert text.encode().startswith(b"a")


@pytest.mark.parametrize(("written", "sent"), [("", "{}"), (None, "{}"), ({"path": "a"}, '{"path": "a"}')])
def test_arguments_that_are_missing_or_not_text_are_made_json(written: Any, sent: str) -> None:
    reply = parse_completion(answer({"tool_calls": [call(written)]}, finish="tool_calls"))

    assert reply.tool_calls[0].arguments == sent
    assert reply.message["tool_calls"][0]["function"]["arguments"] == sent


def test_broken_arguments_are_sent_back_as_json_but_reach_the_tool_as_written() -> None:
    reply = parse_completion(answer({"tool_calls": [call('{"path": "a')]}, finish="tool_calls"))

    sent = reply.message["tool_calls"][0]["function"]["arguments"]

    assert isinstance(json.loads(sent), dict)
    assert reply.tool_calls[0].arguments == '{"path": "a'
    assert calls_of(reply.message) == reply.tool_calls


def test_missing_and_repeated_ids_are_made_unique() -> None:
    calls = [call("{}"), call("{}"), {"function": {"name": "x"}}, {"id": 7, "function": {"name": "x"}}]

    reply = parse_completion(answer({"tool_calls": calls}))

    ids = [one.id for one in reply.tool_calls]
    assert len(set(ids)) == 4
    assert all(ids)
    assert [one["id"] for one in reply.message["tool_calls"]] == ids


def test_a_name_that_servers_refuse_in_earlier_turns_is_made_harmless() -> None:
    reply = parse_completion(answer({"tool_calls": [call("{}", name="functions.read file")]}))

    assert reply.message["tool_calls"][0]["function"]["name"] == "functions_read_file"


def test_a_refusal_is_told_apart_from_an_answer() -> None:
    refused = parse_completion(answer({"content": None, "refusal": "I will not"}))
    filtered = parse_completion(answer({"content": "so far"}, finish="content_filter"))

    assert (refused.finish_reason, refused.text) == ("refusal", "I will not")
    assert (filtered.finish_reason, filtered.tool_calls) == ("refusal", ())


def test_a_reply_that_is_cut_off_before_its_first_word_is_still_a_turn() -> None:
    reply = parse_completion(answer({"content": ""}, finish="length"))

    assert reply.message["content"] == CUT_OFF
    assert reply.finish_reason == "length"


def test_usage_is_read_with_its_details_and_the_servers_own_cost() -> None:
    usage = {
        "prompt_tokens": 100,
        "completion_tokens": 20,
        "prompt_tokens_details": {"cached_tokens": 60},
        "completion_tokens_details": {"reasoning_tokens": 5},
        "cost": 0.00123,
    }

    read = parse_completion(answer({"content": "x"}, usage=usage)).usage

    assert (read.input_tokens, read.output_tokens, read.cached_tokens, read.reasoning_tokens) == (100, 20, 60, 5)
    assert read.cost_usd == Decimal("0.00123")


@pytest.mark.parametrize(
    "usage",
    [
        None,
        "many",
        {},
        {"prompt_tokens": 0, "completion_tokens": 0},
        {"prompt_tokens": -5, "completion_tokens": "7"},
        {"prompt_tokens": True, "completion_tokens": 1.5},
        {"prompt_tokens": 10**30, "completion_tokens": None, "cost": -1},
        {"prompt_tokens_details": [], "completion_tokens_details": 3, "cost": "free"},
        {"cost": 1e300},
        {"cost": True},
    ],
)
def test_usage_that_is_nonsense_is_unknown_never_zero(usage: Any) -> None:
    read = parse_completion(answer({"content": "x"}, usage=usage)).usage

    assert (read.input_tokens, read.output_tokens, read.cost_usd) == (None, None, None)


def test_usage_of_a_reply_without_use_is_kept_for_the_ledger() -> None:
    with pytest.raises(CompletionInvalid) as caught:
        parse_completion({"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 0}})

    assert caught.value.usage is not None
    assert caught.value.usage.input_tokens == 9


def test_what_a_server_wants_back_is_kept_and_nothing_else() -> None:
    signed = call("{}", extra_content={"signature": "s"}, index=3)
    message = {"tool_calls": [signed], "reasoning_details": [{"data": "r"}], "reasoning": "long", "audio": None}

    kept = parse_completion(answer(message)).message

    assert set(kept) == {"role", "content", "tool_calls", "reasoning_details"}
    assert set(kept["tool_calls"][0]) == {"id", "type", "function", "extra_content"}


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
_calls = st.lists(
    st.fixed_dictionaries({}, optional={"id": _json, "function": st.fixed_dictionaries({"name": _json}) | _json}),
    max_size=3,
)
_documents = st.fixed_dictionaries(
    {},
    optional={
        "usage": _json
        | st.fixed_dictionaries({}, optional={"prompt_tokens": _json, "completion_tokens": _json, "cost": _json}),
        "choices": _json
        | st.lists(
            st.fixed_dictionaries(
                {},
                optional={
                    "finish_reason": _json,
                    "message": _json
                    | st.fixed_dictionaries(
                        {}, optional={"content": _json, "refusal": _json, "tool_calls": _json | _calls}
                    ),
                },
            ),
            max_size=2,
        ),
    },
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # the first text of all is slow to make
@given(_documents)
def test_no_document_gets_past_with_anything_but_a_reply_or_the_typed_error(document: dict[str, Any]) -> None:
    try:
        reply = parse_completion(parse_json(json.dumps(document).encode()))
    except CompletionInvalid:
        return

    stored = json.dumps(reply.message, allow_nan=False)
    assert calls_of(json.loads(stored)) == reply.tool_calls or reply.finish_reason == "refusal"
