"""`devflow serve` is killed between its calls to GitHub, again and again; in the end there is one of everything.

A conversation with a review, comments, a refusal and a push by hand is held while the server dies at each of its
writes, and one after the other gets a step further. DEVFLOW_CRASH_POINTS=all tries besides every single point that a
whole conversation passes, commits and pushes among them, each with a conversation of its own.
"""

import asyncio
import json
import os
import re
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import pytest

from engine.settings import Settings
from engine.store.database import Database
from tests.github_double import Request
from tests.support.forked_cli import Process, until
from tests.support.repositories import git
from tests.support.served import Served, served
from tests.support.shown_whole import assert_shown_whole

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
KINDS = {
    "reaction",
    "comment create",
    "comment edit",
    "pull create",
    "pull update",
    "ready",
    "check create",
    "check update",
    "minimise",
}


def kind(request: Request) -> str:
    """Return what sort of thing a write brings about."""
    path, make = request.path, request.method == "POST"
    if path == "/graphql":
        query = request.body["query"]
        return next(what for name, what in _MUTATIONS.items() if name in query)
    if path.endswith("/reactions"):
        return "reaction"
    if "/check-runs" in path:
        return "check create" if make else "check update"
    if "/comments" in path:
        return "comment create" if make else "comment edit"
    assert re.search(r"/pulls(/\d+)?$", path), path
    return "pull create" if make else "pull update"


_MUTATIONS = {"addReaction": "reaction", "markPullRequestReadyForReview": "ready", "minimizeComment": "minimise"}


class Fate(Protocol):
    """Says at which point the next server dies; it hears what the last one did at the end, if it did anything."""

    def __call__(self, last: Request | None) -> str:
        """Return a failure point and its number, or nothing for a server that lives."""


@dataclass
class AtEveryWrite:
    """Death at the first write that is new; `hit` counts the writes at which a server has died.

    What is no creation leaves no trace but on GitHub, so the next server repeats it and passes the point once more.
    Where it died at a write at which one had died before, the next passes one more than it.
    """

    point: str
    first: int
    hit: list[Request] = field(default_factory=list)
    _seen: set[tuple[str, str, str]] = field(default_factory=set)
    _number: int = 0

    def __call__(self, last: Request | None) -> str:
        name = (last.method, last.path, json.dumps(last.body)) if last else ("", "", "")
        if name in self._seen:
            self._number += 1
        else:
            repeated = last is not None and self.point.endswith("after") and not kind(last).endswith("create")
            self._number = self.first + repeated
        if last is not None:
            self.hit.append(last)
            self._seen.add(name)
        return f"{self.point}#{self._number}"


@dataclass
class Further:
    """Death at a point whose number grows by `step` from one server to the next."""

    point: str
    step: int
    deaths: int = 0

    def __call__(self, last: Request | None) -> str:
        del last
        self.deaths += 1
        return f"{self.point}#{self.deaths * self.step}"


@dataclass
class Once:
    """Death at one point; every later server lives."""

    point: str
    servers: int = 0

    def __call__(self, last: Request | None) -> str:
        del last
        self.servers += 1
        return self.point if self.servers == 1 else ""


async def hold_conversation(on: Served, fate: Fate) -> None:
    """Hold the whole conversation, with a new server whenever one has died."""
    acts = iter(CONVERSATION)
    last: Request | None = None
    for _ in range(_MOST_LIVES):
        begin = len(on.writes)
        process = on.serve(DEVFLOW_FAILPOINT=fate(last))
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


# A death after a write loses what was noted of it, and is the harder one; deaths before the writes come with `all`.
EVERY_WRITE = [("host_call.after", 1)]
if os.environ.get("DEVFLOW_CRASH_POINTS") == "all":
    EVERY_WRITE.append(("host_call.before", 2))


@pytest.mark.parametrize(("point", "first"), EVERY_WRITE)
async def test_a_server_that_dies_at_every_write_leaves_one_of_everything(
    point: str, first: int, tmp_path: Path, database: Database, database_url: str
) -> None:
    async with served(tmp_path, database, database_url) as on:
        fate = AtEveryWrite(point, first)
        await hold_conversation(on, fate)

        assert {kind(request) for request in on.writes} == KINDS
        assert len(fate.hit) > 25
        if point == "host_call.after":
            assert {kind(request) for request in fate.hit} == KINDS
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


# A whole conversation makes about 58 writes, 200 commits, 5 pushes and 4 commits of git.
_MOST = {"host_call": 60, "sql_commit": 220, "git_push": 5, "git_commit": 5}


def _points() -> list[str]:
    if os.environ.get("DEVFLOW_CRASH_POINTS") != "all":
        return ["host_call.before#1", "git_push.after#1"]
    return [
        f"{name}.{side}#{number}"
        for name, most in _MOST.items()
        for number in range(1, most + 1)
        for side in ("before", "after")
    ]


@pytest.mark.parametrize("point", _points())
async def test_a_server_that_dies_once_leaves_one_of_everything(
    point: str, tmp_path: Path, database: Database, database_url: str
) -> None:
    async with served(tmp_path, database, database_url) as on:
        fate = Once(point)
        await hold_conversation(on, fate)

        if fate.servers == 1:
            assert os.environ.get("DEVFLOW_CRASH_POINTS"), "the conversation does not pass this point any more"
            pytest.skip("the conversation did not pass this point this time")
        await assert_whole(on)


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
