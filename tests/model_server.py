"""A small OpenAI-compatible server of the tests' own, on loopback, at a port that it picks itself.

A `Script` says what it answers. Turns are chosen by what stands in the last prompt and by how many turns followed it,
so the server keeps no state and a client that was killed and resumed gets the turn that it has not had yet. Faults are
used up in the order of the requests. As a process of its own:

    python -m tests.model_server --script FILE [--log FILE]

prints `{"base_url": ...}` as its first line, reads the script as JSON and appends each request to the log as JSON.
"""

import argparse
import asyncio
import json
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse

Json = dict[str, Any]


def calls(*pairs: tuple[str, Json]) -> Json:
    """Return a turn that asks for these tools, each with its arguments."""
    return {"calls": [{"tool": tool, "arguments": arguments} for tool, arguments in pairs]}


def says(text: str) -> Json:
    """Return a turn of plain text, which ends the model's work."""
    return {"text": text}


@dataclass
class Script:
    """What the server answers.

    `rules` are `{"when": TEXT, "turns": [TURN, ...]}`; the first one whose text stands in the last prompt holds, and
    after its last turn the model says "done". A turn may have `finish_reason`, `usage`, `text`, `calls`, `refusal` or
    `body` (the whole answer). `faults` hold one entry a request: None, or `{"kind": ...}` of `_fault`.
    """

    rules: list[Json] = field(default_factory=list)
    faults: list[Json | None] = field(default_factory=list)
    models: list[str] | None = field(default_factory=lambda: ["scripted"])
    usage: Json | None = field(default_factory=lambda: {"prompt_tokens": 100, "completion_tokens": 20})
    api_key: str | None = None
    delay_seconds: float = 0.0


class ModelServer:
    """The server: its app, its address once it runs, and every completion request it was sent."""

    def __init__(self, script: Script, log: Path | None = None) -> None:
        self.script = script
        self.requests: list[Json] = []
        self.headers: list[dict[str, str]] = []
        self.base_url = ""
        self.app = FastAPI()
        self._log = log
        self._stopped = False
        self.app.add_api_route("/v1/models", self._models, methods=["GET"])
        self.app.add_api_route("/v1/chat/completions", self._completions, methods=["POST"])

    def run(self, listener: socket.socket) -> None:
        """Serve until `stop`."""
        config = uvicorn.Config(self.app, log_level="critical", lifespan="off", ws="none", access_log=False)
        self._server = uvicorn.Server(config)
        self._server.run(sockets=[listener])

    def stop(self) -> None:
        """End the server, and with it every answer that hangs."""
        self._stopped = True
        self._server.should_exit = True
        self._server.force_exit = True

    async def _models(self, request: Request) -> Response:
        if (refused := self._check_key(request)) is not None:
            return refused
        if self.script.models is None:
            return JSONResponse({"error": {"message": "no such page"}}, 404)
        return JSONResponse(
            {"object": "list", "data": [{"id": name, "object": "model"} for name in self.script.models]}
        )

    async def _completions(self, request: Request) -> Response:
        body = await request.json()
        number = len(self.requests)
        self.requests.append(body)
        self.headers.append(dict(request.headers))
        if self._log is not None:
            with self._log.open("a") as log:
                log.write(json.dumps(body) + "\n")
        if (refused := self._check_key(request)) is not None:
            return refused
        await asyncio.sleep(self.script.delay_seconds)
        fault = self.script.faults[number] if number < len(self.script.faults) else None
        if fault is not None:
            return await self._fault(fault, request)
        turn = self._turn(body["messages"])
        return JSONResponse(turn["body"] if "body" in turn else completion(turn, body["model"], self.script.usage))

    def _check_key(self, request: Request) -> Response | None:
        if self.script.api_key in (None, request.headers.get("authorization", "").removeprefix("Bearer ")):
            return None
        given = request.headers.get("authorization", "").removeprefix("Bearer ")
        message = f"Incorrect API key provided: {given}."
        return JSONResponse({"error": {"message": message, "code": "invalid_api_key"}}, 401)

    def _turn(self, messages: list[Json]) -> Json:
        taken = 0
        for message in reversed(messages):
            if message["role"] == "user":
                prompt = str(message["content"])
                break
            taken += message["role"] == "assistant"
        else:
            prompt = ""
        for rule in self.script.rules:
            if rule["when"] in prompt:
                turns: list[Json] = rule["turns"]
                return turns[taken] if taken < len(turns) else says("done")
        return says("no rule of the script fits this prompt")

    async def _fault(self, fault: Json, request: Request) -> Response:
        match fault["kind"]:
            case "status":
                said = fault.get("body", {"error": {"message": fault.get("message", "as scripted")}})
                return JSONResponse(said, fault["status"], fault.get("headers"))
            case "hang":
                while not (self._stopped or await request.is_disconnected()):
                    await asyncio.sleep(0.02)
                return JSONResponse({}, 503)
            case "malformed":
                return Response(fault.get("text", '{"choices": [{"mess'), media_type="application/json")
            case "truncated":
                return StreamingResponse(_half(), media_type="application/json", headers={"content-length": "1000"})
            case "overflow":
                message = "This model's maximum context length is 8192 tokens, your messages are longer."
                return JSONResponse({"error": {"message": message, "code": "context_length_exceeded"}}, 400)
        raise ValueError(f"the script knows no fault {fault['kind']!r}")


def completion(turn: Json, model: str = "scripted", usage: Json | None = None) -> Json:
    """Return a `chat.completion` object for a turn."""
    message: Json = {"role": "assistant", "content": turn.get("text")}
    if "refusal" in turn:
        message["refusal"] = turn["refusal"]
    wanted = turn.get("calls", [])
    if wanted:
        message["tool_calls"] = [
            {
                "id": call.get("id", f"call_{index}"),
                "type": "function",
                "function": {
                    "name": call["tool"],
                    "arguments": call["arguments"]
                    if isinstance(call["arguments"], str)
                    else json.dumps(call["arguments"]),
                },
            }
            for index, call in enumerate(wanted)
        ]
    answer: Json = {
        "id": "chatcmpl-scripted",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": model,
        "choices": [
            {
                "index": 0,
                "message": message,
                "finish_reason": turn.get("finish_reason", "tool_calls" if wanted else "stop"),
            }
        ],
    }
    if (used := turn.get("usage", usage)) is not None:
        answer["usage"] = used
    return answer


async def _half() -> AsyncIterator[bytes]:
    yield b'{"choices": [{"message": {"role": "assistant", "con'


@contextmanager
def serving(script: Script) -> Iterator[ModelServer]:
    """Run a server in a thread of its own for the length of the block."""
    server = ModelServer(script)
    with _listener() as listener:
        server.base_url = _address(listener)
        thread = threading.Thread(target=server.run, args=(listener,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.stop()
            thread.join(timeout=10)
    assert not thread.is_alive()


def _listener() -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", 0))
    listener.listen(64)
    return listener


def _address(listener: socket.socket) -> str:
    return f"http://127.0.0.1:{listener.getsockname()[1]}/v1"


def main() -> None:
    """Run a server in this process, as the command line says."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--script", type=Path, required=True)
    arguments.add_argument("--log", type=Path)
    given = arguments.parse_args()
    server = ModelServer(Script(**json.loads(given.script.read_text())), given.log)
    with _listener() as listener:
        print(json.dumps({"base_url": _address(listener)}), flush=True)
        server.run(listener)


if __name__ == "__main__":
    main()
