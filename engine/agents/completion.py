"""From the bytes of a Chat Completions answer to a `Reply`: pure, and strict about everything that is relied on later.

Compatible servers differ in what they leave out and what they make up. What can be put right without guessing is put
right here; whatever is left is a `CompletionInvalid`, never a `KeyError` three modules on.
"""

import json
import math
import re
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

from engine.agents.base import Message, Reply, ToolCall, Usage
from engine.domain.ids import uuid7
from engine.store.events import clean_json

CUT_OFF = "[cut off at the output limit]"
_MAX_TOKENS = 10**12
_MAX_USD = Decimal(10**6)
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_-]")
_UNPARSED = "unparsed_arguments"

# Opaque to us, but the servers that send them want them back: reasoning and thought signatures.
_KEPT_OF_MESSAGE = ("reasoning_details",)
_KEPT_OF_CALL = ("extra_content",)


class CompletionInvalid(Exception):  # noqa: N818 - reads as the sentence it is
    """The body is no completion; `usage` is what it claims to have used, where that much could be read."""

    def __init__(self, message: str, usage: Usage | None = None) -> None:
        super().__init__(message)
        self.usage = usage


def parse_json(body: bytes) -> Any:
    """Return the JSON value in `body` without what Postgres cannot keep; raises `CompletionInvalid`."""
    try:
        return clean_json(json.loads(body, parse_constant=_refuse_constant, parse_float=_finite))
    except (ValueError, RecursionError) as error:
        raise CompletionInvalid(f"the body of {len(body)} bytes is no JSON") from error


def parse_completion(document: Any, request_id: str | None = None) -> Reply:
    """Return the first choice of a parsed `chat.completion` object; raises `CompletionInvalid`."""
    if not isinstance(document, dict):
        raise CompletionInvalid("the body is no JSON object")
    usage = _usage(document.get("usage"))
    try:
        return _reply(document, usage, request_id or _text_or_none(document.get("id")))
    except CompletionInvalid as error:
        error.usage = usage if usage.input_tokens is not None or usage.cost_usd is not None else None
        raise


def calls_of(message: Message) -> tuple[ToolCall, ...]:
    """Return the tool calls in an assistant message of ours, with the arguments as the model wrote them."""
    return tuple(
        ToolCall(call["id"], call["function"]["name"], _as_written(call["function"]["arguments"]))
        for call in message.get("tool_calls", ())
    )


def parses_as_object(arguments: str) -> bool:
    """Say whether a call's arguments are a JSON object, so that a tool can make anything of them."""
    try:
        return isinstance(json.loads(arguments), dict)
    except (ValueError, RecursionError):
        return False


def _reply(document: dict[str, Any], usage: Usage, request_id: str | None) -> Reply:
    choices = document.get("choices")
    if not isinstance(choices, list) or not choices:
        raise CompletionInvalid("the reply has no choices")
    choice = choices[0]
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(message, dict):
        raise CompletionInvalid("the reply's choice has no message")
    finish = choice.get("finish_reason")
    finish = finish if isinstance(finish, str) and finish else "stop"
    if finish == "error" or isinstance(choice.get("error"), dict):
        raise CompletionInvalid("the reply ended with an error")
    text = _content(message.get("content"))
    calls, raw_calls = _tool_calls(message.get("tool_calls"))
    refusal = _text_or_none(message.get("refusal"))
    if refusal is not None or finish == "content_filter":
        finish, text, calls = "refusal", refusal or text or "the content filter stopped the reply", ()
    elif not text.strip() and not calls and finish != "length":
        raise CompletionInvalid("the reply is empty: neither text nor a tool call")
    kept: Message = {"role": "assistant", "content": text or (CUT_OFF if not calls else None)}
    kept |= {key: message[key] for key in _KEPT_OF_MESSAGE if isinstance(message.get(key), list)}
    if calls:
        kept["tool_calls"] = raw_calls
    if usage.output_tokens == 0:  # a server that counts nothing must not make a reply free
        usage = Usage(usage.input_tokens, None, usage.cached_tokens, None, usage.cost_usd)
    return Reply(kept, text, calls, usage, finish, request_id)


def _content(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        parts = [part.get("text", "") if isinstance(part, dict) else part for part in value]
        if all(isinstance(part, str) for part in parts):
            return "".join(parts)
    raise CompletionInvalid("the reply's content is neither text nor a list of texts")


def _tool_calls(value: Any) -> tuple[tuple[ToolCall, ...], list[Message]]:
    if value is None:
        return (), []
    if not isinstance(value, list):
        raise CompletionInvalid("the reply's tool_calls are no list")
    calls: list[ToolCall] = []
    raw: list[Message] = []
    seen: set[str] = set()
    for item in value:
        function = item.get("function") if isinstance(item, dict) else None
        name = function.get("name") if isinstance(function, dict) else None
        if not isinstance(function, dict) or not isinstance(name, str) or not name.strip():
            raise CompletionInvalid("a tool call of the reply names no function")
        arguments = function.get("arguments")
        if arguments is None or arguments == "":
            arguments = "{}"
        elif not isinstance(arguments, str):
            arguments = json.dumps(arguments, ensure_ascii=False)
        call_id = _text_or_none(item.get("id"))
        if call_id is None or call_id in seen or len(call_id) > 200:
            call_id = f"call_{uuid7().hex}"
        seen.add(call_id)
        # Servers check the names of earlier turns and parse their arguments: one bad call would poison the session.
        sent_name = _NOT_IN_NAMES.sub("_", name.strip())[:64]
        sent_arguments = arguments if parses_as_object(arguments) else json.dumps({_UNPARSED: arguments})
        calls.append(ToolCall(call_id, sent_name, arguments))
        raw.append(
            {"id": call_id, "type": "function", "function": {"name": sent_name, "arguments": sent_arguments}}
            | {key: item[key] for key in _KEPT_OF_CALL if isinstance(item.get(key), dict)}
        )
    return tuple(calls), raw


def _as_written(arguments: str) -> str:
    if _UNPARSED not in arguments:
        return arguments
    match json.loads(arguments):
        case {"unparsed_arguments": str(written), **rest} if not rest:
            return written
    return arguments


def _usage(value: Any) -> Usage:
    if not isinstance(value, Mapping):
        return Usage()
    prompt, completion = value.get("prompt_tokens_details"), value.get("completion_tokens_details")
    input_tokens = _tokens(value.get("prompt_tokens"))
    cached = _tokens(prompt.get("cached_tokens")) if isinstance(prompt, Mapping) else None
    return Usage(
        input_tokens=input_tokens or None,  # no request is empty: 0 means that the server does not count
        output_tokens=_tokens(value.get("completion_tokens")),
        cached_tokens=cached if cached is not None and input_tokens and cached <= input_tokens else None,
        reasoning_tokens=_tokens(completion.get("reasoning_tokens")) if isinstance(completion, Mapping) else None,
        cost_usd=_usd(value.get("cost")),
    )


def _tokens(value: Any) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _MAX_TOKENS:
        return None
    return int(value) if value == int(value) else None


def _usd(value: Any) -> Decimal | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        amount = Decimal(str(value))
    except InvalidOperation:
        return None
    return amount if amount.is_finite() and 0 <= amount <= _MAX_USD else None


def _text_or_none(value: Any) -> str | None:
    return value if isinstance(value, str) and value.strip() else None


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"{text[:20]} is out of range")
    return value
