"""Every conversation on every host, and the same to be seen at its end wherever it was held.

A conversation is held once a host and test session, by whichever test comes first; what was seen at its end is kept
for the others. A step that makes a database of its own takes two seconds of processor time, so not every conversation
is held on every host, unless DEVFLOW_CONFORMANCE=all says so.
"""

import fcntl
import json
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from engine.store.database import Database
from tests.conformance import format as written
from tests.conformance import play, seen
from tests.conformance.backends.action import action
from tests.conformance.backends.app import app
from tests.conformance.backends.cli import command_line

Json = dict[str, Any]
Held = Callable[[str, str], Awaitable[Json]]
HOSTS = ("app", "action", "action with a database")
WHOLE = ("whole action", "whole action with a database")
CHEAPEST = "action with a database"
EVERYWHERE = ("main_road", "rejected_and_retried", "hostile_words")


def _is_held(name: str, host: str) -> bool:
    wanted = os.environ.get("DEVFLOW_CONFORMANCE") == "all"
    return wanted or host == CHEAPEST or name in EVERYWHERE


HELD = [(name, host) for name in written.names() for host in HOSTS if _is_held(name, host)]
COMPARED = [
    (name, host) for name, host in HELD if host != "app" and (name, "app") in HELD and not written.read(name).differs
]


@pytest.fixture
def held(
    tmp_path: Path,
    database_url: str,
    other_database: Database,
    testrun_uid: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Held:
    """Hold a conversation on a host, unless that was done in this session, and return what is seen at its end."""
    shared = tmp_path_factory.getbasetemp().parent / f"conformance-{testrun_uid}"
    shared.mkdir(exist_ok=True)

    async def hold(name: str, host: str) -> Json:
        kept = shared / f"{name}.{host}.json"
        with kept.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not kept.exists():
                database = database_url if host == "app" else str(other_database.url)
                kept.write_text(json.dumps(await _hold(name, host, tmp_path / host.replace(" ", "-"), database)))
        found: Json = json.loads(kept.read_text())
        return found

    return hold


async def _hold(name: str, host: str, folder: Path, database_url: str) -> Json:
    folder.mkdir()
    conversation = written.read(name)
    if host == "app":
        async with app(conversation, folder, database_url) as server:
            await play.hold(conversation, server)
            seen.assert_single(server.world)
            return await seen.whole(server)
    database = database_url if host.endswith("database") else None
    async with action(conversation, folder, database, whole=host in WHOLE) as step:
        await play.hold(conversation, step)
        seen.assert_single(step.world)
        return await seen.whole(step)


@pytest.mark.parametrize(("name", "host"), HELD)
async def test_a_conversation_goes_as_it_is_written(name: str, host: str, held: Held) -> None:
    await held(name, host)


@pytest.mark.parametrize("name", [name for name in written.names() if written.read(name).locally])
async def test_a_conversation_goes_as_it_is_written_on_the_command_line(
    name: str, tmp_path: Path, database_url: str
) -> None:
    conversation = written.read(name)
    async with command_line(conversation, tmp_path, database_url) as terminal:
        await terminal.hold(conversation)


@pytest.mark.parametrize("host", WHOLE)
async def test_the_main_road_goes_with_all_that_a_runner_does(host: str, held: Held) -> None:
    assert seen.lines(await held("main_road", host)) == seen.lines(await held("main_road", "app"))


@pytest.mark.parametrize(("name", "host"), COMPARED)
async def test_what_is_seen_at_the_end_is_the_same_as_with_the_app(name: str, host: str, held: Held) -> None:
    by_app, by_step = seen.lines(await held(name, "app")), seen.lines(await held(name, host))
    assert by_step == by_app
