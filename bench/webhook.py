"""The door: how fast a delivery is stored and acknowledged, beside a handler that only checks the same signature.

Both are one server process on this machine; the load comes from this one. The server's own has no workers, so that
nothing else happens with what it stores.
"""

import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from bench.load import Address, latencies, signed_delivery, throughput
from bench.stage import Figure
from demo.server import serving
from tests.github_double import GitHubDouble

_ROUNDS = 5
_SECONDS = 3.0
_CONNECTIONS = 32
_RATE = 200.0


async def measure(folder: Path) -> list[Figure]:
    """Return requests a second at full load, and the times of an acknowledgement at 200 requests a second."""
    with GitHubDouble(folder / "github") as github:
        secret = github.app.webhook_secret
        with serving(github, folder, {}, "--workers", "0") as url, _bare(secret, folder / "bare.log") as bare:
            github.webhook_url = None
            ours = Address(urlsplit(url).hostname or "", urlsplit(url).port or 0)
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
            at_most_bare=4.0,
        ),
        Figure("the same at 200 a second, p50", _at(late[ours], 0.5), samples, _at(late[bare], 0.5)),
        Figure("the same at 200 a second, p99", _at(late[ours], 0.99), samples, _at(late[bare], 0.99), at_most=0.05),
    ]


def _at(taken: list[float], share: float) -> float:
    ordered = sorted(taken)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


@contextmanager
def _bare(secret: str, log: Path) -> Iterator[Address]:
    with log.open("w") as stream:
        command = [sys.executable, "-m", "bench.bare_door"]
        process = subprocess.Popen(command, env=os.environ | {"GITHUB_WEBHOOK_SECRET": secret}, stderr=stream)
    try:
        while (found := re.search(r"http://([\d.]+):(\d+)", log.read_text())) is None:
            if process.poll() is not None:
                raise RuntimeError("the bare server did not start")
            time.sleep(0.05)
        yield Address(found[1], int(found[2]))
    finally:
        process.terminate()
        process.wait()
