"""Load for an HTTP server: as many requests as it takes, or so many a second, over connections that stay open."""

import asyncio
import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from uuid import uuid4

Request = Callable[[], bytes]


@dataclass(frozen=True)
class Address:
    """Where a server listens on the loopback."""

    host: str
    port: int


def signed_delivery(address: Address, secret: str) -> Request:
    """Return a maker of webhook requests: one body as large as GitHub's usual ones, a delivery id of its own each."""
    body = json.dumps(
        {
            "action": "edited",
            "issue": {"number": 1, "id": 1, "title": "An issue", "body": "words and words " * 600},
            "repository": {"id": 1, "full_name": "octo/sample", "default_branch": "main"},
            "installation": {"id": 1},
            "sender": {"id": 1, "login": "octo", "type": "User"},
        }
    ).encode()
    signature = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    head = (
        f"POST /webhooks/github HTTP/1.1\r\nHost: {address.host}:{address.port}\r\n"
        "Content-Type: application/json\r\nX-GitHub-Event: issues\r\n"
        f"X-Hub-Signature-256: sha256={signature}\r\nContent-Length: {len(body)}\r\n"
    )
    return lambda: f"{head}X-GitHub-Delivery: {uuid4()}\r\n\r\n".encode() + body


async def throughput(address: Address, request: Request, *, connections: int, seconds: float) -> float:
    """Return how many requests a second the server answers when each connection asks again at once."""
    until = time.perf_counter() + seconds

    async def ask() -> int:
        count = 0
        async with _connection(address) as (reader, writer):
            while time.perf_counter() < until:
                await _exchange(reader, writer, request())
                count += 1
        return count

    began = time.perf_counter()
    counts = await asyncio.gather(*(ask() for _ in range(connections)))
    return sum(counts) / (time.perf_counter() - began)


async def latencies(
    address: Address, request: Request, *, rate: float, seconds: float, connections: int = 64
) -> list[float]:
    """Return the seconds that each of `rate * seconds` requests took from the moment at which it was due, sorted."""
    due: asyncio.Queue[float | None] = asyncio.Queue()
    taken: list[float] = []

    async def ask() -> None:
        async with _connection(address) as (reader, writer):
            while (moment := await due.get()) is not None:
                await _exchange(reader, writer, request())
                taken.append(time.perf_counter() - moment)

    askers = [asyncio.create_task(ask()) for _ in range(connections)]
    began = time.perf_counter()
    for number in range(int(rate * seconds)):
        moment = began + number / rate
        await asyncio.sleep(max(0.0, moment - time.perf_counter()))
        due.put_nowait(moment)
    for _ in askers:
        due.put_nowait(None)
    await asyncio.gather(*askers)
    return sorted(taken)


@asynccontextmanager
async def _connection(address: Address) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection(address.host, address.port)
    try:
        yield reader, writer
    finally:
        writer.close()
        await writer.wait_closed()


async def _exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> None:
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 202"):
        raise RuntimeError(f"the server answered {head.splitlines()[0].decode()}")
    lengths = [line.split(b":")[1] for line in head.lower().splitlines() if line.startswith(b"content-length")]
    await reader.readexactly(int(lengths[0]))
