"""Proves a sandbox at start-up: a probe inside it tries to get out, and real canaries outside tell whether it did."""

import asyncio
import json
import secrets
import shutil
import socket
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from engine.atomic_file import write_file
from engine.workspace.confine import Command, Sandbox

PROBE = Path(__file__).parent / "jail" / "probe.py"
PROBE_SECONDS = 30.0
WAIT_IN_VAIN = "import sys; sys.stdin.read()"


@dataclass
class _Canaries:
    """What lies outside for the probe to find, and, once they are gathered in again, what it touched of it."""

    outside: dict[str, str]
    touched: set[str] = field(default_factory=set)


async def failures(sandbox: Sandbox) -> list[str]:
    """Run the probe and return what this sandbox does not hold back, as sentences; an empty list is a pass.

    Raises `sandbox_unavailable` where the sandbox does not even start.
    """
    home = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="devflow-selftest-"))
    try:
        worktree = home / "worktree"
        worktree.mkdir()
        async with _canaries(home / "outside") as canaries:
            argv = [sandbox.tools.python, "-I", "-S", "-c", PROBE.read_text(), json.dumps(canaries.outside)]
            result = await sandbox.run(worktree, Command(argv, timeout_seconds=PROBE_SECONDS))
        reported = _broken(result.output) if result.exit_code == 0 else [f"the probe failed: {result.output[-500:]}"]
        return sorted({*reported, *canaries.touched})
    finally:
        await asyncio.to_thread(shutil.rmtree, home, ignore_errors=True)


def _broken(output: str) -> list[str]:
    try:
        return [str(sentence) for sentence in json.loads(output)]
    except ValueError:
        return [f"the probe answered {output[-500:]!r}"]


@asynccontextmanager
async def _canaries(folder: Path) -> AsyncIterator[_Canaries]:
    """Lay out a file, listeners and a process with a secret in its environment."""
    token = "canary" + secrets.token_hex(16)
    canary = folder / "file"
    write_file(canary, token.encode(), mode=0o600)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-I", "-S", "-c", WAIT_IN_VAIN),
        stdin=asyncio.subprocess.PIPE,
        env={"DEVFLOW_CANARY": token},
    )
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    datagrams.setblocking(False)
    datagrams.bind(("127.0.0.1", 0))
    abstract = socket.socket(socket.AF_UNIX)
    abstract.bind("\0" + token)

    async def close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    tcp = await asyncio.start_server(close, "127.0.0.1", 0)
    named = await asyncio.start_unix_server(close, folder / "socket")
    hidden = await asyncio.start_unix_server(close, sock=abstract)
    outside = {
        "token": token,
        "file": str(canary),
        "folder": str(folder),
        "unix": str(folder / "socket"),
        "tcp": str(tcp.sockets[0].getsockname()[1]),
        "udp": str(datagrams.getsockname()[1]),
        "process": str(process.pid),
    }
    canaries = _Canaries(outside)
    try:
        yield canaries
    finally:
        for server in (tcp, named, hidden):
            server.close()
        with datagrams, suppress(BlockingIOError):
            datagrams.recv(len(token))
            canaries.touched.add("a UDP datagram could be sent")
        if process.stdin is not None:
            process.stdin.close()
        if await process.wait() != 0:
            canaries.touched.add("a process outside could be signalled")
