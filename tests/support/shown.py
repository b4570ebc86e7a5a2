"""A run that is shown on the GitHub double: engine, App and projector in this process, stepped by hand."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import UUID

from sqlalchemy import RowMapping

from app.github.client import GitHubRepository
from app.github.hub import GitHub
from app.github.remotes import GitHubRemotes
from app.surface.projector import Projector
from engine.domain.envelope import FrozenTrigger
from engine.facade import Engine
from engine.presence import Presence
from engine.settings import Settings
from engine.start import HostedRepository, HostedStart, Trigger
from engine.store import projections, surfaces
from engine.store.database import Database
from tests.github_double import Comment, GitHubDouble, Issue, Pull, Repository, Request, User
from tests.support.cassettes import CHANGE, SPEC, Turn, call, cassette, submit
from tests.support.clock import SteppedClock
from tests.support.engines import CODE, House, config, phase, workflow
from tests.support.github_app import github_app, github_by_token, opened

SPEC_PHASE = phase("spec", "thinker", "dev/spec@1", title="Specify what is wanted", gates=["spec_approval"])
BUILD_PHASE = phase("build", title="Build it")
EDIT = [call("edit_file", path="answer.py", old="41", new="42")]
TURNS: dict[str, list[Turn]] = {
    "spec/1/1": [submit(SPEC)],
    "spec/2/1": [submit(SPEC | {"approach": "Another one."})],
    "build/1/1": [EDIT, submit(CHANGE)],
}


@dataclass
class Stage(House):
    """A house whose repository is on the double. `clock` is the App's, the projector's and the double's."""

    github: GitHubDouble
    hub: Repository
    app: GitHub
    clock: SteppedClock
    presence: Presence
    requester: User
    bot: str

    def projector(self) -> Projector:
        """Return a projector, as a process has one; two of the same stage share their presence."""
        return Projector(
            self.engine,
            self.app,
            self.clock,
            worker_id=self.presence.worker_id,
            dead_after_seconds=self.presence.dead_after_seconds,
        )

    async def known(self) -> GitHubRepository:
        """Return the repository as the App asks it."""
        return await self.app.repository(self.hub.id)

    async def begin(self, issue: Issue | None = None, turns: dict[str, list[Turn]] | None = None, **more: Any) -> UUID:
        """Start a run for an issue as a label does; it is not driven yet."""
        issue = issue or self.hub.open_issue(self.requester, "The answer is wrong", "answer() must return 42.")
        start = HostedStart(
            repository=HostedRepository(self.hub.id, f"{self.github.server_url}/{self.hub.full_name}.git", "main"),
            trigger=Trigger(
                issue_number=issue.number,
                snapshot=FrozenTrigger(issue.title, issue.body or "", author="ada", permission="write", author_id=1),
                key=f"label:{issue.number}:{len(self.github.requests)}",
                by=self.requester.login,
                by_id=self.requester.id,
            ),
            cassette=("test.yaml", cassette(TURNS if turns is None else turns)),
            **more,
        )
        return (await self.engine.start_hosted(start)).run_id

    async def at_gate(self, **more: Any) -> UUID:
        """Start a run and drive it to its first gate, without showing anything."""
        run_id = await self.begin(**more)
        row = await self.drive(run_id)
        assert row["state"] == "awaiting_approval", row["error_message"]
        return run_id

    async def show(self, run_id: UUID) -> None:
        """Mark the run as changed, and let a projector show it."""
        async with self.database.locked(run_id) as tx:
            await projections.touch(tx)
        await self.projector().project(run_id)

    async def sweep(self) -> list[str]:
        """Show all runs that are due, as the sweeper has it done; returns which these were."""
        projector = self.projector()
        due = await projector.waiting()
        for key in due:
            await projector.handle(key)
        return due

    async def projection(self, run_id: UUID) -> RowMapping:
        """Return the run's projection."""
        async with self.database.read() as tx:
            row = await projections.get(tx, run_id)
        assert row is not None
        return row

    async def surface(self, run_id: UUID, name: str) -> RowMapping:
        """Return the row of one surface by the end of its key."""
        async with self.database.read() as tx:
            row = await surfaces.get(tx, self.hub.id, f"run/{run_id}/{name}")
        assert row is not None
        return row

    @property
    def writes(self) -> list[Request]:
        """Every request so far that wanted to change something that people see."""
        found = [request for request in self.github.requests if request.method not in ("GET", "HEAD")]
        return [one for one in found if "access_tokens" not in one.path and "/git-" not in one.path]

    def pull(self) -> Pull:
        """Return the one pull request."""
        (pull,) = self.hub.pulls
        return pull

    def comments(self, part: str) -> list[Comment]:
        """Return our comments whose marker has this part, wherever they stand."""
        every = [comment for place in self.hub.numbered.values() for comment in place.comments]
        ours = [comment for comment in every if comment.author.login == self.bot]
        return [comment for comment in ours if part in comment.body.partition("\n")[0]]

    def comment(self, part: str) -> Comment:
        """Return our one comment whose marker has this part."""
        (comment,) = self.comments(part)
        return comment


@asynccontextmanager
async def stage(
    folder: Path, database: Database, *phases: Any, permissions: Mapping[str, str] | None = None, **more: Any
) -> AsyncIterator[Stage]:
    """Yield a stage whose repository has workflow `small` with these phases, else a specification and a change.

    With `permissions`, Devflow is no App there, but has a GITHUB_TOKEN with these.
    """
    clock = SteppedClock()
    drafts = more.pop("drafts", True)
    files = {
        "answer.py": CODE,
        ".devflow/workflows/small.yaml": workflow(*(phases or (SPEC_PHASE, BUILD_PHASE))),
        ".github/devflow.yml": config(**more),
    }
    settings = Settings(
        data_dir=folder / "data",
        database_url=str(database.url),
        sandbox="none",
        heartbeat_seconds=0.5,
        sweep_seconds=1.0,
        shutdown_drain_seconds=5.0,
    )
    with GitHubDouble(folder / "github", clock=clock.now) as github:
        hub = github.repository("ada/answers", files, drafts=drafts, install=permissions is None)
        async with _reach(github, hub, database, clock, permissions) as app, Presence(database, settings) as presence:
            await opened(app, hub)
            engine = Engine(replace(settings), database, GitHubRemotes(app))
            bot = github.app.bot if permissions is None else github.world.actions.bot
            yield Stage(engine, folder, github, hub, app, clock, presence, github.person("ada"), bot.login)


def _reach(
    github: GitHubDouble,
    hub: Repository,
    database: Database,
    clock: SteppedClock,
    permissions: Mapping[str, str] | None,
) -> AbstractAsyncContextManager[GitHub]:
    if permissions is None:
        return github_app(github, database, clock)
    return github_by_token(github, database, github.actions_token(hub, permissions), clock)
