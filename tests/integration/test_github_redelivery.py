"""Deliveries that GitHub could not bring are asked for again: each one, once enough, and not those that did arrive."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from app.github.app import GitHubApp
from app.github.faults import RetryLater
from app.github.redelivery import Redelivery
from engine.store import deliveries
from engine.store.database import Database
from tests.github_double import Delivery, GitHubDouble, Repository, User
from tests.support.clock import SteppedClock
from tests.support.github_app import github_app


class _Door(BaseHTTPRequestHandler):
    """Takes webhooks while it is open and writes down their ids."""

    doors: dict[int, "Door"]

    def do_POST(self) -> None:
        door = self.doors[self.server.server_address[1]]
        self.rfile.read(int(self.headers["content-length"]))
        if door.status == 202:
            door.arrived.append(self.headers["x-github-delivery"])
        self.send_response(door.status)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Stay silent."""


class Door:
    """A door of ours that can be shut."""

    def __init__(self) -> None:
        self.status = 202
        self.arrived: list[str] = []


@dataclass
class Scene:
    """A repository whose webhooks go to a door, and what looks after those that failed."""

    github: GitHubDouble
    there: Repository
    ada: User
    door: Door
    app: GitHubApp
    database: Database
    clock: SteppedClock
    redelivery: Redelivery

    def comment(self, text: str) -> Delivery:
        """Let somebody comment, and GitHub try to tell us."""
        self.there.issues[0].comment(self.ada, text)
        self.github.wait_deliveries()
        return self.github.deliveries[-1]

    async def look(self) -> list[str]:
        """Look, and wait until GitHub has delivered what was asked for."""
        asked = await self.redelivery.look()
        self.github.wait_deliveries()
        return asked


@pytest.fixture
def door() -> Iterator[tuple[Door, str]]:
    handler = type("Handler", (_Door,), {"doors": {}})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        handler.doors[server.server_port] = made = Door()  # type: ignore[attr-defined]
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield made, f"http://127.0.0.1:{server.server_port}/webhooks/github"
        server.shutdown()
        thread.join()


@pytest.fixture
async def scene(tmp_path: Path, database: Database, door: tuple[Door, str]) -> AsyncIterator[Scene]:
    clock = SteppedClock()
    with GitHubDouble(tmp_path / "github", webhook_url=door[1], clock=clock.now) as github:
        ada = github.person("ada")
        there = github.repository("octo/bills")
        there.open_issue(ada, "T")
        github.wait_deliveries()
        async with github_app(github, database, clock) as app:
            redelivery = Redelivery(app, database, clock, interval_seconds=0.05)
            yield Scene(github, there, ada, door[0], app, database, clock, redelivery)


async def test_what_did_not_arrive_is_asked_for_until_it_has(scene: Scene) -> None:
    arrived = scene.comment("before")
    scene.door.status = 503
    lost = [scene.comment("one").guid, scene.comment("two").guid]
    scene.door.status = 202
    scene.clock.step(60)

    assert await scene.look() == lost
    assert scene.door.arrived[-2:] == lost
    assert scene.door.arrived.count(arrived.guid) == 1

    scene.clock.step(600)
    assert await scene.look() == []


async def test_what_is_stored_though_its_answer_was_lost_is_not_asked_for(scene: Scene) -> None:
    scene.door.status = 500
    delivery = scene.comment("stored all the same")
    async with scene.database.transaction() as tx:
        await deliveries.store_many(
            tx, [deliveries.NewDelivery(delivery.guid, delivery.event, delivery.headers, delivery.body)]
        )

    assert await scene.look() == []


async def test_one_that_fails_again_is_asked_for_again_but_not_for_ever(scene: Scene) -> None:
    scene.door.status = 401
    guid = scene.comment("a wrong secret").guid

    asked = []
    for _ in range(6):
        asked.append(await scene.look())
        scene.clock.step(600)

    assert asked == [[guid]] * 3 + [[]] * 3


async def test_the_first_look_goes_three_days_back_and_later_ones_to_the_last(scene: Scene) -> None:
    scene.door.status = 503
    scene.comment("too old")
    scene.clock.step(2 * 24 * 3600)
    second = scene.comment("two days ago").guid
    scene.clock.step(2 * 24 * 3600)
    third = scene.comment("now").guid
    scene.door.status = 202

    assert await scene.look() == [second, third]
    listed = len(scene.github.calls("GET", "/app/hook/deliveries"))
    scene.clock.step(3600)
    assert await scene.look() == []
    assert len(scene.github.calls("GET", "/app/hook/deliveries")) == listed + 1


async def test_more_than_a_page_is_looked_through(scene: Scene) -> None:
    scene.door.status = 503
    lost = [scene.comment(f"comment {number}").guid for number in range(130)]
    scene.door.status = 202

    assert await scene.look() == lost
    assert sorted(scene.door.arrived[-130:]) == sorted(lost)


async def test_a_look_that_github_breaks_off_is_taken_up_where_it_was(scene: Scene) -> None:
    scene.door.status = 503
    lost = [scene.comment("one").guid, scene.comment("two").guid]
    scene.door.status = 202
    scene.github.plan("POST", "*/attempts", status=502, body="<html>", skip=1)

    with pytest.raises(RetryLater):
        await scene.redelivery.look()
    scene.github.wait_deliveries()
    scene.clock.step(600)

    assert await scene.look() == lost[1:]
    assert sorted(scene.door.arrived[-2:]) == sorted(lost)


async def test_one_that_github_has_forgotten_does_not_hold_up_the_others(scene: Scene) -> None:
    scene.door.status = 503
    lost = [scene.comment("one"), scene.comment("two")]
    scene.door.status = 202
    scene.github.plan("POST", f"/app/hook/deliveries/{lost[0].id}/attempts", status=404, body={"message": "Not Found"})

    assert await scene.look() == [lost[1].guid]


async def test_it_goes_on_looking_until_it_is_stopped_whatever_fails(scene: Scene) -> None:
    scene.door.status = 503
    guid = scene.comment("lost").guid
    scene.door.status = 202
    scene.github.plan("GET", "/app/hook/deliveries", status=502, body="<html>")
    stop = asyncio.Event()

    running = asyncio.create_task(scene.redelivery.run(stop))
    async with asyncio.timeout(60):
        while guid not in scene.door.arrived:
            await asyncio.sleep(0.02)
    stop.set()
    async with asyncio.timeout(60):
        await running
