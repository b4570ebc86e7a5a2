"""A model behind any server that speaks OpenAI's Chat Completions; `turn` calls it, one HTTP try a call.

Requests are not streamed: a body arrives whole or not at all, always with its usage, and every compatible server
gives tool calls in the same form there, while streamed deltas differ from server to server. The openai package's own
retries are off, because each try is a model call of its own: it passes a failure point and has a ledger row.
"""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import httpx2
from openai import APIConnectionError, APIStatusError, APITimeoutError, AsyncOpenAI, OpenAIError

from engine import failpoints
from engine.agents.base import Message, Reply, ToolSpec
from engine.agents.completion import CompletionInvalid, parse_completion, parse_json
from engine.agents.faults import ModelFault, clean, fault_of_status
from engine.domain.errors import DevflowError

_SHOWN_MODELS = 20
_CONNECT_SECONDS = 10.0

# By name, because a caller's HTTP client may be of httpx or of httpx2: in these the request never left.
_NOT_SENT = frozenset({"ConnectError", "ConnectTimeout", "PoolTimeout", "ProxyError"})
_OUR_FAULT = frozenset({"UnsupportedProtocol", "LocalProtocolError"})

_UNSUPPORTED = re.compile(
    r"unsupported|not supported|unrecogni[sz]ed|unknown|not permitted|extra (input|field)|unexpected|use '?max_",
    re.IGNORECASE,
)


class OpenAIModel:
    """A `ChatModel` on an OpenAI-compatible server; `base_url` None is OpenAI's own, `timeout` is seconds of silence.

    `http_client` replaces the openai package's own client (an `AsyncClient` of httpx2 or httpx).
    """

    backend = "openai"

    def __init__(
        self,
        name: str,
        *,
        api_key: str | None,
        base_url: str | None = None,
        timeout: float = 600.0,
        http_client: httpx2.AsyncClient | None = None,
    ) -> None:
        self.name = name
        self._secret = (api_key or "").strip() or None
        try:
            self._client = AsyncOpenAI(
                api_key=self._secret or "none",  # the package insists on a key; local servers ask for none
                base_url=base_url or None,
                timeout=httpx2.Timeout(timeout, connect=min(timeout, _CONNECT_SECONDS)),
                max_retries=0,
                http_client=http_client,
            )
            self._place = _place(str(self._client.base_url))
        except (ValueError, httpx2.InvalidURL) as error:
            raise DevflowError("backend_unavailable", f"the model server's address is no URL: {error}") from None
        # Servers that do not know a parameter mostly ignore it in silence, and an ignored limit would break the
        # reservation; OpenAI's newer models refuse the older name aloud. So the older name goes first.
        self._limit_name = "max_tokens"

    async def close(self) -> None:
        """Close the connections to the server."""
        await self._client.close()

    async def check(self) -> None:
        """Raise `backend_unavailable` where the server refuses us or lists its models without this one."""
        names = await self.served()
        if names and not any(_same_model(self.name, listed) for listed in names):
            raise self._unknown_model(names)

    async def served(self) -> list[str]:
        """Return the models that the server lists, none where it has no list; raises `backend_unavailable`."""
        try:
            return await self._list_models()
        except ModelFault as fault:
            if fault.status is None or fault.status in (401, 403):
                raise
            return []

    async def complete(self, messages: list[Message], tools: list[ToolSpec], max_output_tokens: int) -> Reply:
        """Return the next turn from one try; raises `ModelFault` for whatever goes wrong on the way or there."""
        body: dict[str, Any] = {"model": self.name, "messages": messages}
        if tools:
            body["tools"] = tools
        try:
            return await self._complete(body, max_output_tokens)
        except _LimitNameRefused:
            self._limit_name = "max_completion_tokens"
            return await self._complete(body, max_output_tokens)
        except ModelFault as fault:
            if fault.status == 404:
                raise await self._explain_404(fault) from None
            raise

    async def _complete(self, body: dict[str, Any], max_output_tokens: int) -> Reply:
        response = await self._send("POST", "/chat/completions", {**body, self._limit_name: max_output_tokens})
        request_id = response.headers.get("x-request-id")
        try:
            document = parse_json(response.content)
            if isinstance(document, dict) and isinstance(document.get("error"), dict) and not document.get("choices"):
                raise self._fault_in_body(document["error"], response.headers)
            return parse_completion(document, request_id)
        except CompletionInvalid as error:
            raise ModelFault(
                "model_reply_invalid",
                f"{error} (from {self._place})",
                retry=True,
                may_be_billed=True,
                usage=error.usage,
                request_id=request_id,
            ) from error

    async def _send(self, method: str, path: str, body: dict[str, Any] | None = None) -> httpx2.Response:
        """Make one HTTP request, the only place that does; raises `ModelFault` unless the answer's status is good."""
        try:
            with failpoints.around(failpoints.Effect.MODEL_CALL):
                if method == "GET":
                    return await self._client.get(path, cast_to=httpx2.Response)
                return await self._client.post(path, cast_to=httpx2.Response, body=body)
        except APIStatusError as error:
            raise self._fault_of(error) from None  # the chain would carry the server's text unredacted
        except APIConnectionError as error:
            raise self._disconnected(error) from None
        except (OpenAIError, UnicodeEncodeError, httpx2.InvalidURL) as error:
            said = clean(str(error), self._secret)
            raise ModelFault("backend_unavailable", f"cannot ask {self._place}: {said}") from None

    def _fault_of(self, error: APIStatusError) -> ModelFault:
        body: Any = error.body
        inner = body.get("error", body) if isinstance(body, dict) else body
        said = inner if isinstance(inner, dict) else {"message": inner if isinstance(inner, str) else ""}
        said = self._cleaned(said)
        # The package unwraps `error`; other servers put `detail` or nothing but text beside the status.
        said["message"] = said.get("message") or said.get("detail") or clean(error.response.text, self._secret)
        headers = error.response.headers
        if error.status_code in (400, 422) and self._refuses_limit_name(said):
            return _LimitNameRefused("backend_unavailable", f"{self._place} refuses {self._limit_name}", status=400)
        return fault_of_status(error.status_code, headers, said)

    def _fault_in_body(self, error: Mapping[str, Any], headers: Mapping[str, str]) -> ModelFault:
        """Return the fault in an error object that came with status 200, as routing servers send it."""
        code = error.get("code")
        status = code if isinstance(code, int) and 400 <= code <= 599 else 502
        return fault_of_status(status, headers, self._cleaned(error))

    def _cleaned(self, error: Mapping[str, Any]) -> dict[str, Any]:
        return {
            key: clean(str(error[key]), self._secret) for key in ("message", "detail", "code", "type") if error.get(key)
        }

    def _refuses_limit_name(self, said: Mapping[str, Any]) -> bool:
        if self._limit_name != "max_tokens" or "max_tokens" not in said["message"]:
            return False
        return said.get("code") == "unsupported_parameter" or bool(_UNSUPPORTED.search(said["message"]))

    def _disconnected(self, error: APIConnectionError) -> ModelFault:
        cause = error.__cause__
        reason = type(cause).__name__ if cause is not None else "no reason given"
        hopeless = reason in _OUR_FAULT
        detail = "" if hopeless else clean(str(cause or ""), self._secret)  # it may quote our headers
        what = "does not answer in time" if isinstance(error, APITimeoutError) else "cannot be reached or hung up"
        return ModelFault(
            "backend_unavailable",
            f"{self._place} {what} ({reason}{': ' if detail else ''}{detail})",
            retry=not hopeless,
            may_be_billed=reason not in _NOT_SENT | _OUR_FAULT,
        )

    async def _explain_404(self, fault: ModelFault) -> DevflowError:
        try:
            names = await self._list_models()
        except ModelFault:
            return fault
        return self._unknown_model(names) if names and self.name not in names else fault

    async def _list_models(self) -> list[str]:
        response = await self._send("GET", "/models")
        try:
            document = parse_json(response.content)
        except CompletionInvalid:
            return []
        listed = document.get("data") if isinstance(document, dict) else None
        items = listed if isinstance(listed, list) else []
        return [item["id"] for item in items if isinstance(item, dict) and isinstance(item.get("id"), str)]

    def _unknown_model(self, names: list[str]) -> ModelFault:
        shown = ", ".join(clean(name, self._secret) for name in names[:_SHOWN_MODELS])
        more = f" and {len(names) - _SHOWN_MODELS} more" if len(names) > _SHOWN_MODELS else ""
        return ModelFault("backend_unavailable", f"{self._place} has no model {self.name}; it lists {shown}{more}")


class _LimitNameRefused(ModelFault):
    """The server wants the output limit under its other name."""


def _same_model(wanted: str, listed: str) -> bool:
    """Say whether a listed name means the wanted one: servers prefix names (`models/x`) and take tags (`x:tag`)."""
    return listed in (wanted, f"models/{wanted}", f"{wanted}:latest", wanted.split(":")[0])


def _place(url: str) -> str:
    """Return where a server is, without what its URL may hide (user, password, query); raises ValueError."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("it has to begin with http:// or https:// and a host")
    port = f":{parts.port}" if parts.port else ""
    return f"the model server at {parts.hostname}{port}"
