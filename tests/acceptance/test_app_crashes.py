"""`devflow serve` is killed between its calls to GitHub, again and again; in the end there is one of everything.

A conversation with a review, comments, a refusal and a push by hand is held while the server dies at each of its
writes, and one after the other gets a step further. DEVFLOW_CRASH_POINTS=all tries besides every single point that a
whole conversation passes, each with a conversation of its own.
"""

import asyncio
import json
import os
import shutil
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engine.settings import Settings
from engine.store.database import Database
from tests.conftest import PostgresServer
from tests.github_double import Request
from tests.support.forked_cli import Process, until
from tests.support.repositories import git
from tests.support.served import Served, served
from tests.support.server_fates import KINDS, AtEveryWrite, Fate, Further, Once, kind, said
from tests.support.shown_whole import assert_shown_whole

ALL = os.environ.get("DEVFLOW_CRASH_POINTS") == "all"
PARTS = 16  # of all points, so that they can be tried beside each other
_MOST_LIVES = 200


def _label(on: Served) -> None:
    on.issue().label(on.ada, "devflow")


def _outsider(on: Served) -> None:
    on.pull().comment(on.outsider, "/approve")


def _push(on: Served) -> None:
    branch = on.pull().head_ref
    paths = git(on.repository.git_dir, "ls-tree", "-r", "--name-only", branch).split()
    (path,) = [path for path in paths if path.endswith("/spec.json")]
    artifact = json.loads(on.repository.read(branch, path) or "")
    edited = json.dumps(artifact | {"approach": "Change the constant by hand."})
    on.repository.commit(branch, {path: edited}, on.ada, "Say it better")


def _review(on: Served) -> None:
    on.pull().review(on.bob, "approve", "That is what we want.")


def _comment(on: Served) -> None:
    on.pull().comment(on.ada, "/approve")


Act = Callable[[Served], None]
CONVERSATION: tuple[Act, ...] = (_label, _outsider, _push, _review, _comment)


async def hold_conversation(on: Served, fate: Fate, **variables: str) -> None:
    """Hold the whole conversation, with a new server whenever one has died; `variables` are every server's."""
    acts = iter(CONVERSATION)
    last: Request | None = None
    for _ in range(_MOST_LIVES):
        begin = len(on.writes)
        process = on.serve(DEVFLOW_FAILPOINT=fate(last), **variables)
        if await _go_on(on, process, acts):
            process.signal(signal.SIGTERM)
        answer = process.wait()
        if answer.code == 0:
            return
        assert (answer.code, "Traceback" in answer.err) == (-signal.SIGKILL, False), answer.err
        last = next(reversed(on.writes[begin:]), None)
    raise AssertionError(f"no server gets to the end: {await on.runs()}")


async def _go_on(on: Served, process: Process, acts: Iterator[Act]) -> bool:
    """Go on with the conversation; returns whether it came to its end before the server did."""
    until(lambda: process.ended or "Listening" in process.err)
    while await on.settled(lambda: not process.ended):
        act = next(acts, None)
        if act is None:
            on.deliver(ours=True)
            return await on.settled(lambda: not process.ended)
        act(on)
        on.deliver()
    return False


async def assert_whole(on: Served) -> None:
    """Assert that after the conversation there is one of everything, and that it is true."""
    (run,) = await on.runs()
    settings = Settings(data_dir=on.cli.data_dir, database_url=on.database.url)
    await assert_shown_whole(on.github, on.repository, on.database, settings, run["run_id"], replies=1)


# A server that expects to repeat an edit and finds that the text has changed since goes one write too far.
MOST_MISSED = 5
# A death after a write loses what was noted of it, and is the harder one; deaths before the writes come with `all`.
EVERY_WRITE = [("host_call.after", 1)]
if ALL:
    EVERY_WRITE.append(("host_call.before", 2))


@pytest.mark.parametrize(("point", "first"), EVERY_WRITE)
async def test_a_server_that_dies_at_every_write_leaves_one_of_everything(
    point: str, first: int, tmp_path: Path, database: Database, database_url: str
) -> None:
    async with served(tmp_path, database, database_url) as on:
        fate = AtEveryWrite(point, first)
        await hold_conversation(on, fate)

        assert {kind(request) for request in on.writes} == KINDS
        if point == "host_call.after":
            every = {said(request): kind(request) for request in on.writes}
            missed = [every[one] for one in every.keys() - {said(request) for request in fate.hit}]
            assert len(every) > 40
            assert {kind(request) for request in fate.hit} == KINDS
            assert [what for what in missed if what.endswith("create")] == []
            assert len(missed) <= MOST_MISSED, f"of {len(every)}: {missed}"
        else:
            assert len(fate.hit) > 25
        await assert_whole(on)


@pytest.mark.parametrize(("point", "step"), [("sql_commit.before", 7), ("sql_commit.after", 9)])
async def test_a_server_that_dies_at_commits_of_every_depth_leaves_one_of_everything(
    point: str, step: int, tmp_path: Path, database: Database, database_url: str
) -> None:
    async with served(tmp_path, database, database_url) as on:
        fate = Further(point, step)
        await hold_conversation(on, fate)

        assert fate.deaths > 5
        await assert_whole(on)


@pytest.mark.parametrize("point", ["host_call.before#1", "git_push.after#1"])
async def test_a_server_that_dies_once_leaves_one_of_everything(
    point: str, tmp_path: Path, database: Database, database_url: str
) -> None:
    async with served(tmp_path, database, database_url) as on:
        fate = Once(point)
        await hold_conversation(on, fate)

        assert fate.servers == 2, "the conversation does not pass this point any more"
        await assert_whole(on)


@pytest.mark.skipif(not ALL, reason="takes hours; DEVFLOW_CRASH_POINTS=all")
@pytest.mark.timeout(0)
@pytest.mark.parametrize("part", range(PARTS))
async def test_a_server_that_dies_at_any_one_point_leaves_one_of_everything(
    part: int, tmp_path: Path, postgres_server: PostgresServer
) -> None:
    log, lives = tmp_path / "points", Once("")
    await _hold_apart(tmp_path / "whole", postgres_server, lives, DEVFLOW_FAILPOINT_LOG=str(log))
    passed = Counter(log.read_text().split())
    points = [(name, number) for name in sorted(passed) for number in range(1, passed[name] + 1)]

    missed = []
    for name, number in points[part::PARTS]:
        fate = Once(f"{name}#{number}")
        await _hold_apart(tmp_path / f"{name}{number}", postgres_server, fate)
        if fate.servers == 1:
            missed.append((name, number))

    # heartbeats count as well, and how many there are is a matter of time; the first half is passed every time
    assert [f"{name}#{number}" for name, number in missed if number <= passed[name] // 2] == []


async def _hold_apart(folder: Path, server: PostgresServer, fate: Once, **variables: str) -> None:
    """Hold a whole conversation in a folder and a database of its own, and see that there is one of everything."""
    folder.mkdir()
    async with server.database() as url:
        database = Database(url)
        async with served(folder, database, url) as on:
            await hold_conversation(on, fate, **variables)
            await assert_whole(on)
        await database.close()
    shutil.rmtree(folder)


@pytest.mark.parametrize("side", ["before", "after"])
async def test_a_door_that_dies_at_its_commit_has_answered_nothing_and_nothing_is_lost(
    side: str, tmp_path: Path, database: Database, database_url: str
) -> None:
    async with served(tmp_path, database, database_url) as on:
        door = on.serve("--workers", "0", DEVFLOW_FAILPOINT=f"sql_commit.{side}#1")
        door.wait_for("Listening on")
        _label(on)
        on.deliver()
        assert (await asyncio.to_thread(door.wait)).code == -signal.SIGKILL
        await asyncio.to_thread(on.github.wait_deliveries)

        assert {each.status_code for each in on.github.deliveries if each.guid in on.sent} == {502}
        stored = await on.deliveries()
        assert bool(stored) is (side == "after")
        with on.serving():
            await on.settled()
        assert [run["state"] for run in await on.runs()] == ["awaiting_approval"]
        assert len(on.github.calls("POST", "/attempts")) == len(on.sent) - len(stored)
