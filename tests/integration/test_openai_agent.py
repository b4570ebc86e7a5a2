"""The openai backend against a scripted server over real HTTP, against respx, and against servers that misbehave."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
import respx

from engine.agents.faults import ModelFault
from engine.agents.openai_agent import OpenAIModel
from engine.domain.errors import DevflowError
from tests.model_server import ModelServer, Script, calls, completion, says, serving

KEY = "sk-test-0123456789abcdef"
MESSAGES: list[dict[str, Any]] = [{"role": "user", "content": "hello"}]
TOOL = {"type": "function", "function": {"name": "read_file", "parameters": {"type": "object"}}}
COMPLETIONS = "https://models.test/v1/chat/completions"


@pytest.fixture
def server() -> Iterator[ModelServer]:
    script = Script(rules=[{"when": "hello", "turns": [calls(("read_file", {"path": "a"})), says("bye")]}])
    with serving(script) as running:
        yield running


@asynccontextmanager
async def model_on(base_url: str, **options: Any) -> AsyncIterator[OpenAIModel]:
    model = OpenAIModel("scripted", api_key=KEY, base_url=base_url, **options)
    try:
        yield model
    finally:
        await model.close()


async def fault_of(server: ModelServer, fault: dict[str, Any], **options: Any) -> ModelFault:
    server.script.faults = [fault]
    async with model_on(server.base_url, **options) as model:
        with pytest.raises(ModelFault) as caught:
            await model.complete(MESSAGES, [], 64)
    return caught.value


async def test_sends_the_conversation_with_its_tools_and_reads_the_turn(server: ModelServer) -> None:
    async with model_on(server.base_url) as model:
        reply = await model.complete(MESSAGES, [TOOL], 64)

    assert server.requests == [{"model": "scripted", "messages": MESSAGES, "tools": [TOOL], "max_tokens": 64}]
    assert server.headers[0]["authorization"] == f"Bearer {KEY}"
    assert [(call.name, json.loads(call.arguments)) for call in reply.tool_calls] == [("read_file", {"path": "a"})]
    assert (reply.usage.input_tokens, reply.usage.output_tokens) == (100, 20)


async def test_a_session_without_tools_sends_no_tools(server: ModelServer) -> None:
    async with model_on(server.base_url) as model:
        await model.complete(MESSAGES, [], 64)

    assert "tools" not in server.requests[0]


async def test_works_without_a_key(server: ModelServer) -> None:
    model = OpenAIModel("scripted", api_key=None, base_url=server.base_url)

    reply = await model.complete(MESSAGES, [], 64)
    await model.close()

    assert reply.tool_calls


@pytest.mark.parametrize(
    ("fault", "code", "retry", "billed"),
    [
        ({"kind": "malformed"}, "model_reply_invalid", True, True),
        ({"kind": "malformed", "text": ""}, "model_reply_invalid", True, True),
        ({"kind": "malformed", "text": "[]"}, "model_reply_invalid", True, True),
        ({"kind": "malformed", "text": '{"choices": []}'}, "model_reply_invalid", True, True),
        ({"kind": "malformed", "text": '{"choices": [{"message": null}]}'}, "model_reply_invalid", True, True),
        ({"kind": "truncated"}, "backend_unavailable", True, True),
        ({"kind": "status", "status": 429, "headers": {"retry-after": "3"}}, "backend_unavailable", True, False),
        ({"kind": "status", "status": 500}, "backend_unavailable", True, False),
        ({"kind": "status", "status": 504}, "backend_unavailable", True, True),
        ({"kind": "status", "status": 401}, "backend_unavailable", False, False),
        ({"kind": "status", "status": 400, "body": "no"}, "backend_unavailable", False, False),
        ({"kind": "status", "status": 400, "body": ["no"]}, "backend_unavailable", False, False),
        ({"kind": "status", "status": 400, "body": {"error": "plain"}}, "backend_unavailable", False, False),
        ({"kind": "status", "status": 422, "body": {"detail": [{"msg": "bad"}]}}, "backend_unavailable", False, False),
        ({"kind": "overflow"}, "context_overflow", False, False),
    ],
)
async def test_whatever_the_server_does_wrong_is_a_typed_error(
    server: ModelServer, fault: dict[str, Any], code: str, *, retry: bool, billed: bool
) -> None:
    caught = await fault_of(server, fault)

    assert (caught.code, caught.retry, caught.may_be_billed) == (code, retry, billed)


async def test_the_servers_wait_is_handed_on(server: ModelServer) -> None:
    caught = await fault_of(server, {"kind": "status", "status": 429, "headers": {"retry-after": "3"}})

    assert caught.retry_after == 3.0


async def test_a_server_that_falls_silent_is_left_and_may_have_worked(server: ModelServer) -> None:
    caught = await fault_of(server, {"kind": "hang"}, timeout=0.2)

    assert (caught.code, caught.retry, caught.may_be_billed) == ("backend_unavailable", True, True)


async def test_a_server_that_is_not_there_has_cost_nothing() -> None:
    async with model_on("http://127.0.0.1:1/v1") as model:
        with pytest.raises(ModelFault) as caught:
            await model.complete(MESSAGES, [], 64)

    assert (caught.value.code, caught.value.retry, caught.value.may_be_billed) == ("backend_unavailable", True, False)
    assert "127.0.0.1:1" in caught.value.message


async def test_a_server_that_hangs_up_without_a_word_may_have_worked() -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.close()
        await writer.wait_closed()

    listener = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    async with listener, model_on(f"http://127.0.0.1:{port}/v1") as model:
        with pytest.raises(ModelFault) as caught:
            await model.complete(MESSAGES, [], 64)

    assert (caught.value.code, caught.value.may_be_billed) == ("backend_unavailable", True)


@pytest.mark.parametrize("address", ["localhost:1/v1", "not an address", "http:///v1", "http://host:99999999/v1"])
async def test_an_address_that_is_none_is_a_typed_error(address: str) -> None:
    with pytest.raises(DevflowError) as caught:
        async with model_on(address) as model:
            await model.complete(MESSAGES, [], 64)

    assert caught.value.code == "backend_unavailable"


@pytest.mark.parametrize(
    "body", [f"Incorrect API key provided: {KEY}", f"Incorrect API key provided: {KEY[:7]}***cdef"]
)
async def test_the_key_is_in_no_error(server: ModelServer, body: str) -> None:
    said = {"kind": "status", "status": 401, "body": {"error": {"message": body, "code": f"bad {KEY}"}}}

    caught = await fault_of(server, said)

    assert "Incorrect API key provided" in caught.message
    assert KEY not in repr(caught)
    assert KEY[-4:] not in caught.message
    assert caught.__suppress_context__


async def test_user_and_password_of_the_address_are_in_no_error() -> None:
    async with model_on("http://somebody:hunter22@127.0.0.1:1/v1") as model:
        with pytest.raises(ModelFault) as caught:
            await model.complete(MESSAGES, [], 64)

    assert "hunter22" not in str(caught.value)


async def test_one_call_is_one_request_because_retries_are_not_made_in_hiding(server: ModelServer) -> None:
    await fault_of(server, {"kind": "status", "status": 500})

    assert len(server.requests) == 1


async def test_check_passes_where_the_model_is_listed_or_the_server_lists_none(server: ModelServer) -> None:
    async with model_on(server.base_url) as model:
        await model.check()
        for listed in ([], None, ["scripted:latest"], ["models/scripted"]):
            server.script.models = listed
            await model.check()


async def test_check_names_the_models_that_there_are(server: ModelServer) -> None:
    server.script.models = [f"other-{number}" for number in range(30)]

    async with model_on(server.base_url) as model:
        with pytest.raises(DevflowError, match="no model scripted") as caught:
            await model.check()

    assert caught.value.code == "backend_unavailable"
    assert "other-19 and 10 more" in caught.value.message


async def test_check_refuses_a_wrong_key_and_a_server_that_is_not_there(server: ModelServer) -> None:
    server.script.api_key = "another-key-altogether"
    async with model_on(server.base_url) as refused, model_on("http://127.0.0.1:1/v1") as absent:
        for model in (refused, absent):
            with pytest.raises(DevflowError) as caught:
                await model.check()
            assert caught.value.code == "backend_unavailable"


async def test_a_model_that_vanished_is_answered_with_those_that_there_are(server: ModelServer) -> None:
    server.script.models = ["elder", "younger"]

    caught = await fault_of(server, {"kind": "status", "status": 404})

    assert (caught.code, caught.retry) == ("backend_unavailable", False)
    assert "elder, younger" in caught.message


@pytest.fixture
async def legacy() -> AsyncIterator[OpenAIModel]:
    """A model whose HTTP client respx can answer for."""
    async with httpx.AsyncClient() as client:
        yield OpenAIModel("m", api_key=KEY, base_url="https://models.test/v1", http_client=client)  # type: ignore[arg-type]


@respx.mock
async def test_the_output_limit_goes_by_its_other_name_once_the_server_asks_for_that(legacy: OpenAIModel) -> None:
    message = (
        "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
    )
    refusal = {"error": {"message": message, "param": "max_tokens", "code": "unsupported_parameter"}}
    route = respx.post(COMPLETIONS)
    route.side_effect = [httpx.Response(400, json=refusal), *[httpx.Response(200, json=completion(says("hi")))] * 2]

    await legacy.complete(MESSAGES, [], 64)
    await legacy.complete(MESSAGES, [], 64)

    sent = [json.loads(call.request.content) for call in route.calls]
    assert [body.get("max_tokens") for body in sent] == [64, None, None]
    assert [body.get("max_completion_tokens") for body in sent] == [None, 64, 64]


@respx.mock
async def test_a_server_that_knows_neither_name_of_the_limit_is_not_asked_for_ever(legacy: OpenAIModel) -> None:
    route = respx.post(COMPLETIONS)
    route.respond(400, json={"error": {"message": "unknown parameter max_tokens or max_completion_tokens"}})

    with pytest.raises(ModelFault) as caught:
        await legacy.complete(MESSAGES, [], 64)

    assert caught.value.code == "backend_unavailable"
    assert route.call_count == 2


@respx.mock
async def test_an_error_that_comes_with_status_200_is_an_error(legacy: OpenAIModel) -> None:
    respx.post(COMPLETIONS).respond(200, json={"error": {"message": "provider is busy", "code": 429}})

    with pytest.raises(ModelFault, match="provider is busy") as caught:
        await legacy.complete(MESSAGES, [], 64)

    assert (caught.value.code, caught.value.retry) == ("backend_unavailable", True)


@respx.mock
async def test_the_servers_own_cost_and_request_id_are_kept(legacy: OpenAIModel) -> None:
    usage = {"prompt_tokens": 5, "completion_tokens": 2, "cost": 0.25}
    respx.post(COMPLETIONS).respond(200, json=completion(says("x"), usage=usage), headers={"x-request-id": "r1"})

    reply = await legacy.complete(MESSAGES, [], 64)

    assert str(reply.usage.cost_usd) == "0.25"
    assert reply.request_id == "r1"


@respx.mock
@pytest.mark.parametrize("body", [b"", b"data: {}\n\n", b"<html>busy</html>", b"\xff\xfe"])
async def test_a_body_of_another_kind_is_a_typed_error(legacy: OpenAIModel, body: bytes) -> None:
    respx.post(COMPLETIONS).respond(200, content=body, headers={"content-type": "text/event-stream"})

    with pytest.raises(ModelFault) as caught:
        await legacy.complete(MESSAGES, [], 64)

    assert caught.value.code == "model_reply_invalid"
