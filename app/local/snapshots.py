"""What the commands do with runs as files: write one, read one, and say whether one is what it was."""

import asyncio
import sys
from pathlib import Path

from app.local import console
from app.local.remotes import LocalRemotes
from engine.atomic_file import write_file
from engine.domain.errors import EXIT_FAILED, EXIT_OK, DevflowError
from engine.domain.ids import short_id
from engine.domain.states import RunState
from engine.facade import Engine
from engine.settings import Settings
from engine.store.snapshot import read_snapshot

MAX_SNAPSHOT_BYTES = 2**30


async def export_run(settings: Settings, reference: str, output: Path | None, *, conversations: bool) -> int:
    """Write a run as a snapshot; raises `usage` where the file cannot be written."""
    async with Engine.open(settings, LocalRemotes()) as engine:
        run_id = await engine.find(reference)
        data = await engine.export_run(run_id, conversations=conversations)
    if output is None:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return EXIT_OK
    try:
        await asyncio.to_thread(write_file, output, data, 0o600)
    except OSError as error:
        raise DevflowError("usage", f"cannot write {output}: {error.strerror}") from None
    console.say(f"Run {short_id(run_id)} is in {output} now: {len(data)} bytes.")
    return EXIT_OK


async def import_run(settings: Settings, source: str, as_json: bool) -> int:
    """Write the run of a snapshot into the database."""
    data = await asyncio.to_thread(_read, source)
    async with Engine.open(settings, LocalRemotes()) as engine:
        run_id = await engine.import_run(data)
        run = await engine.row(run_id)
        if as_json:
            console.emit_json(await engine.summary(run_id))
            return EXIT_OK
    console.tell(f"Run {run['number']} ({short_id(run_id)}) is {run['state']}: {run['title']}")
    if not RunState(run["state"]).terminal:
        if run["sandbox"] == "none" or run["options"].get("sandbox") == "none":
            console.say("Its commands run without a sandbox: go on with it only if you trust where it came from.")
        console.tell(f"next:    devflow show {short_id(run_id)}, then devflow resume {short_id(run_id)}")
    return EXIT_OK


async def verify(settings: Settings, source: str, as_json: bool) -> int:
    """Verify a run's chain of events in the database, or all of a snapshot where there is such a file."""
    if source == "-" or Path(source).is_file():
        return await asyncio.to_thread(_verify_file, source, as_json)
    async with Engine.open(settings, LocalRemotes()) as engine:
        count, broken = await engine.broken_link(await engine.find(source))
    if as_json:
        console.emit_json({"events": count, "valid": broken is None, "broken_at": broken})
    elif broken is None:
        console.tell(f"{count} events, the chain holds.")
    else:
        console.tell(f"{count} events, the chain breaks at number {broken}.")
    return EXIT_OK if broken is None else EXIT_FAILED


def _verify_file(source: str, as_json: bool) -> int:
    try:
        snapshot = read_snapshot(_read(source))
    except DevflowError as error:
        if error.code != "snapshot_invalid":
            raise
        if as_json:
            broken = error.details.get("broken_at")
            console.emit_json({"events": None, "valid": False, "broken_at": broken, "problem": error.message})
        else:
            console.tell(error.message)
        return EXIT_FAILED
    count = snapshot.run["event_seq"]
    if as_json:
        console.emit_json({"events": count, "valid": True, "broken_at": None, "problem": None})
    else:
        console.tell(f"{count} events, the chain holds; contents and digests agree.")
    return EXIT_OK


def _read(source: str) -> bytes:
    try:
        if source == "-":
            data = sys.stdin.buffer.read(MAX_SNAPSHOT_BYTES + 1)
        else:
            with Path(source).open("rb") as file:
                data = file.read(MAX_SNAPSHOT_BYTES + 1)
    except OSError as error:
        raise DevflowError("usage", f"cannot read {source}: {error.strerror}") from None
    if len(data) > MAX_SNAPSHOT_BYTES:
        raise DevflowError("snapshot_invalid", f"{source} has more than {MAX_SNAPSHOT_BYTES} bytes")
    return data
