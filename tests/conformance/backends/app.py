"""The App's server as a host: in this process, behind its door, with the checks of every conversation with it."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from engine.facade import Engine
from tests.conformance.backends.base import Decision, Run, World, phases_of, turns_of
from tests.conformance.format import Conversation
from tests.support.conversation import conversation as in_order
from tests.support.stage import Stage


class App:
    """The server."""

    def __init__(self, play: Stage, world: World) -> None:
        self.world = world
        self._play = play

    @property
    def job(self) -> str | None:
        """Return None: there are no jobs."""

    @property
    def ended(self) -> None:
        """Return None: there are no jobs."""
        return None

    async def settled(self) -> None:
        """Wait until every delivery is handled, every run rests and everything is shown."""
        await self._play.settled()

    async def again(self) -> None:
        """Send the last person's delivery again under another id."""
        github = self.world.github
        people = [one for one in github.deliveries if one.payload["sender"]["type"] == "User"]
        github.redeliver(people[-1], new_guid=True)

    async def runs(self) -> list[Run]:
        """Return the issue's runs, oldest first."""
        return await runs_in(self._play.host.engine, self.world)


@contextlib.asynccontextmanager
async def app(conversation: Conversation, folder: Path, database_url: str) -> AsyncIterator[App]:
    """Yield the server; at the end everything must be in order."""
    async with in_order(
        folder,
        database_url,
        phases=phases_of(conversation),
        turns=turns_of(conversation),
        **conversation.configuration,
    ) as play:
        world = World(play.github, play.repository, play.bot)
        world.set(conversation)
        await play.settled()
        yield App(play, world)


async def runs_in(engine: Engine, world: World) -> list[Run]:
    """Return the issue's runs as a database has them, oldest first."""
    found = []
    rows = await engine.runs_of_issue(world.repository.id, world.the_issue.number)
    for row in sorted(rows, key=lambda row: row["number"]):
        decided = []
        for request in await engine.requests(row["run_id"]):
            for one in await engine.decisions(request["request_id"]):
                decided.append(Decision(str(one["action"]), one["by"], one["note"]))
        found.append(Run(str(row["run_id"]), row["number"], str(row["state"]), row["branch"], tuple(decided)))
    return found
