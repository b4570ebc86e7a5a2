"""The engine's side of a confined command: starts its supervisor, gives it the order, and brings the outcome back.

All sandboxes come through here, so that ending a command, its time limit, its output limit and what counts as "the
sandbox did not start" are the same in each.
"""

import asyncio
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from engine.domain.errors import DevflowError

SUPERVISOR = Path(__file__).parent / "jail" / "supervisor.py"
STARTED = "started"
GRACE_SECONDS = 20.0
OUTPUT_LIMIT = 64 * 1024

GIT_FILE_FD = 8
_STARTED_FD = 9
_ANNOUNCE = f'echo {STARTED} >&{_STARTED_FD}; exec {_STARTED_FD}>&-; exec "$@"'


@dataclass(frozen=True)
class Limits:
    """What one command may use: private memory, processes, open files, size of a file and of all temporary ones."""

    memory_bytes: int = 4 << 30
    processes: int = 512
    open_files: int = 4096
    file_bytes: int = 4 << 30
    temporary_bytes: int = 2 << 30


@dataclass(frozen=True)
class CommandResult:
    """How a command ended.

    `exit_code` is None where it was stopped: by its time limit (`timed_out`) or for exceeding `killed` ("memory" or
    "processes"). `output` is standard output and standard error as they came, the middle cut out where it was too long.
    """

    exit_code: int | None
    output: str
    seconds: float
    timed_out: bool = False
    truncated: bool = False
    killed: str | None = None


@dataclass(frozen=True)
class Order:
    """What the supervisor is to do; `sandlock` is None where `argv` itself confines the command, or nothing does."""

    argv: Sequence[str]
    env: Mapping[str, str]
    cwd: str
    timeout_seconds: float
    output_limit: int
    limits: Limits
    private_folder: bool
    git_file: str | None = None
    sandlock: Mapping[str, Any] | None = None


def announced(argv: Sequence[str]) -> list[str]:
    """Return `argv` behind a shell that first says, from inside the sandbox, that it is running."""
    return ["/bin/sh", "-c", _ANNOUNCE, "sh", *argv]


async def launch(name: str, order: Order) -> CommandResult:
    """Carry out the order and return how the command ended; nothing of it is running any more then.

    Cancelling kills the command and everything that it started before the cancellation goes on. Raises
    `sandbox_unavailable` where it is the sandbox that failed, not the command.
    """
    supervisor = await asyncio.create_subprocess_exec(
        sys.executable,
        "-I",
        "-S",
        str(SUPERVISOR),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8"},
        cwd="/",
        start_new_session=True,
    )
    talk = asyncio.create_task(_converse(supervisor, order))
    try:
        report, complaint = await asyncio.wait_for(asyncio.shield(talk), order.timeout_seconds + GRACE_SECONDS)
    except (asyncio.CancelledError, TimeoutError) as stop:
        await _stop(supervisor, talk)
        if isinstance(stop, TimeoutError):
            raise _failed(name, "its supervisor did not answer in time") from stop
        raise
    return _result(name, report, complaint)


async def _converse(supervisor: asyncio.subprocess.Process, order: Order) -> tuple[bytes, bytes]:
    stdin, stdout, stderr = supervisor.stdin, supervisor.stdout, supervisor.stderr
    if stdin is None or stdout is None or stderr is None:
        raise AssertionError("all three streams are pipes")
    try:
        stdin.write(json.dumps(asdict(order)).encode() + b"\n")
        await stdin.drain()
        report, complaint = await asyncio.gather(stdout.read(), stderr.read())
    except ConnectionError:
        report, complaint = b"", await stderr.read()
    stdin.close()
    await supervisor.wait()
    return report, complaint


async def _stop(supervisor: asyncio.subprocess.Process, talk: "asyncio.Task[tuple[bytes, bytes]]") -> None:
    """End the command by closing the supervisor's standard input, and wait until nothing of it is left."""
    if supervisor.stdin is not None:
        supervisor.stdin.close()
    done, _ = await asyncio.wait({talk}, timeout=GRACE_SECONDS)
    if not done:
        supervisor.kill()
        await asyncio.wait({talk}, timeout=GRACE_SECONDS)
    if talk.done() and not talk.cancelled():
        talk.exception()


def _result(name: str, report: bytes, complaint: bytes) -> CommandResult:
    line, _, output = report.partition(b"\n")
    try:
        outcome = json.loads(line)
    except ValueError:
        raise _failed(name, complaint.decode(errors="replace").strip()[-1000:] or "its supervisor died") from None
    head = output[: outcome["head"]].decode(errors="replace")
    tail = output[outcome["head"] :].decode(errors="replace")
    if outcome.get("error"):
        raise _failed(name, outcome["error"])
    stopped = outcome["timed_out"] or outcome["killed"] is not None
    if not stopped and not outcome["started"].startswith(STARTED):
        raise _failed(name, (outcome["started"] + (head + tail)[-1000:]).strip() or "the command was never started")
    cut = outcome["cut"]
    return CommandResult(
        exit_code=None if stopped else outcome["exit_code"],
        output=f"{head}\n[... {cut} bytes cut ...]\n{tail}" if cut else head + tail,
        seconds=outcome["seconds"],
        timed_out=outcome["timed_out"],
        truncated=cut > 0,
        killed=outcome["killed"],
    )


def _failed(name: str, why: str) -> DevflowError:
    return DevflowError("sandbox_unavailable", f"the {name} sandbox could not run the command: {why}")
