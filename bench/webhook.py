"""The door: how fast a delivery is stored and acknowledged, beside a handler that only checks the same signature.

Both are one server process on this machine; the load comes from this one. The server's own has no workers, so that
nothing else happens with what it stores.
"""

import asyncio
import os
import re
import statistics
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from bench.load import Address, latencies, signed_delivery, throughput
from bench.stage import Figure
from tests.github_double import GitHubDouble
from tests.github_double.environment import environment

_ROUNDS = 5
_SECONDS = 3.0
_CONNECTIONS = 32
_RATE = 200.0


async def measure(folder: Path) -> list[Figure]:
    """Return requests a second at full load, and the times of an acknowledgement at 200 requests a second."""
    with GitHubDouble(folder / "github") as github:
        variables = os.environ | environment(github) | {"DEVFLOW_DATA_DIR": str(folder / "data")}
        secret = variables["GITHUB_WEBHOOK_SECRET"]
        serve = ("-m", "app.cli", "serve", "--port", "0", "--workers", "0")
        async with _server(serve, variables) as ours, _server(("-m", "bench.bare_door"), variables) as bare:
            rates: dict[Address, list[float]] = {ours: [], bare: []}
            late: dict[Address, list[float]] = {ours: [], bare: []}
            for number in range(_ROUNDS + 1):
                for address in (ours, bare):
                    request = signed_delivery(address, secret)
                    rate = await throughput(address, request, connections=_CONNECTIONS, seconds=_SECONDS)
                    taken = await latencies(address, request, rate=_RATE, seconds=_SECONDS)
                    if number > 0:  # the first round does not count
                        rates[address].append(rate)
                        late[address] += taken
    samples = len(late[ours])
    return [
        Figure(
            "webhook stored and acknowledged, at full load",
            1 / statistics.median(rates[ours]),
            _ROUNDS,
            1 / statistics.median(rates[bare]),
            per_second=True,
        ),
        Figure("the same at 200 a second, p50", _at(late[ours], 0.5), samples, _at(late[bare], 0.5)),
        Figure("the same at 200 a second, p99", _at(late[ours], 0.99), samples, _at(late[bare], 0.99)),
    ]


def _at(taken: list[float], share: float) -> float:
    ordered = sorted(taken)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


@asynccontextmanager
async def _server(arguments: tuple[str, ...], environment: Mapping[str, str]) -> AsyncIterator[Address]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, *arguments, env=environment, stderr=asyncio.subprocess.PIPE
    )
    if process.stderr is None:
        raise RuntimeError("the server has no standard error")
    try:
        async for line in process.stderr:
            found = re.search(rb"http://(127\.0\.0\.1):(\d+)", line)
            if found is not None and b"istening" in line:
                break
        else:
            raise RuntimeError("the server ended before it listened")
        drain = asyncio.create_task(_drain(process.stderr))
        yield Address(found[1].decode(), int(found[2]))
        process.terminate()
        await process.wait()
        await drain
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _drain(stream: asyncio.StreamReader) -> None:
    while await stream.read(65_536):
        continue
