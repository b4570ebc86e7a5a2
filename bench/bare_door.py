"""The bare thing that the door is measured beside: FastAPI, one handler, the signature of the body and nothing else."""

import asyncio
import hashlib
import hmac
import os
import socket
import sys

import uvicorn
from fastapi import FastAPI, Request, Response

_SECRET = os.environ["GITHUB_WEBHOOK_SECRET"].encode()

app = FastAPI(openapi_url=None)


@app.post("/webhooks/github")
async def door(request: Request) -> Response:
    """Answer 202 where the body is signed, else 401."""
    body = await request.body()
    expected = "sha256=" + hmac.new(_SECRET, body, hashlib.sha256).hexdigest()
    signed = hmac.compare_digest(expected, request.headers.get("x-hub-signature-256", ""))
    return Response(status_code=202 if signed else 401)


def main() -> None:
    """Serve on a free port of the loopback, and say which on standard error."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    listener.listen(128)
    print(f"listening on http://127.0.0.1:{listener.getsockname()[1]}", file=sys.stderr, flush=True)
    config = uvicorn.Config(app, log_level="error", access_log=False)
    asyncio.run(uvicorn.Server(config).serve([listener]))


if __name__ == "__main__":
    main()
