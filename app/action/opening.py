"""What a step opens before it works: the database, GitHub by the token that it was given, and the engine on both."""

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from uuid import uuid4

from app.action.environment import StepEnvironment
from app.action.telling import Teller
from app.clock import Clock, SystemClock
from app.github.by_token import GitHubByToken
from app.github.client import GitHubRepository
from app.github.remotes import GitHubRemotes
from engine.facade import Engine
from engine.ports import Keep, Remote, Remotes, kept_by_database
from engine.settings import Settings
from engine.store.database import Database
from engine.store.embedded import EmbeddedPostgres, open_embedded

NO_INSTALLATION = 0


@dataclass(frozen=True)
class Given:
    """What a step is given: its surroundings, the engine's settings, where it talks, and perhaps a recorded agent."""

    environment: StepEnvironment
    settings: Settings
    teller: Teller
    cassette: tuple[str, bytes] | None = None
    seconds_between_writes: float = 0.4

    @property
    def is_shared(self) -> bool:
        """Whether the database outlives this step, and others use it too."""
        return self.settings.database_url is not None


@dataclass(frozen=True)
class Workshop:
    """A step's own database or the shared one, and GitHub as the step's token sees it."""

    given: Given
    settings: Settings
    database: Database
    github: GitHubByToken
    clock: Clock

    async def repository(self, default_branch: str = "") -> GitHubRepository:
        """Return the repository that the step is for; a fault where the token does not show it."""
        environment = self.given.environment
        return await self.github.open(
            environment.repository_id, NO_INSTALLATION, environment.repository, default_branch
        )

    async def remote(self) -> Remote:
        """Return where git finds the repository."""
        return await GitHubRemotes(self.github).remote(self.given.environment.repository_id, "")

    def engine(self, keep: Keep = kept_by_database) -> Engine:
        """Return the engine; `keep` is awaited before anything is pushed."""
        return Engine(self.settings, self.database, _Kept(GitHubRemotes(self.github), keep))


class _Kept:
    """Remotes to which nothing is pushed before it is kept."""

    def __init__(self, remotes: Remotes, keep: Keep) -> None:
        self._remotes = remotes
        self._keep = keep

    async def remote(self, repository_id: int, location: str) -> Remote:
        """Return the remote, with what comes before a push to it."""
        return replace(await self._remotes.remote(repository_id, location), before_push=self._keep)


@contextlib.asynccontextmanager
async def open_workshop(given: Given) -> AsyncIterator[Workshop]:
    """Open the database that was given, or an embedded one that is new and lives as long as the step; and close it.

    Raises `database_unavailable` or `database_schema_newer`.
    """
    settings = given.settings
    async with contextlib.AsyncExitStack() as stack:
        if not given.is_shared:
            # a folder of its own for each issue of a step, whose rows must not meet; the mirror is there for all
            folder = settings.data_dir / f"database-{uuid4().hex[:8]}"
            embedded = await open_embedded(folder)
            stack.push_async_callback(_end, embedded)
            settings = replace(settings, database_url=embedded.url)
        # runs of other issues, or of repositories that this token does not show, are for others to close
        engine = await stack.enter_async_context(Engine.open(settings, _NoRemotes(), closes_runs=False))
        clock = SystemClock()
        github = GitHubByToken(
            given.environment.token,
            engine.database,
            clock,
            api_url=given.environment.api_url,
            server_url=given.environment.server_url,
            seconds_between_writes=given.seconds_between_writes,
        )
        stack.push_async_callback(github.close)
        yield Workshop(given, settings, engine.database, github, clock)


async def _end(embedded: EmbeddedPostgres) -> None:
    await embedded.close()
    # where this runs as root, that is not below the step's folder
    await asyncio.to_thread(shutil.rmtree, embedded.home, ignore_errors=True)


class _NoRemotes:
    """Where nothing is: opening the engine asks for no repository of a run that is shown on GitHub."""

    async def remote(self, repository_id: int, location: str) -> Remote:
        """Return the local repository."""
        if repository_id >= 0:
            raise AssertionError(f"repository {repository_id} was asked for before GitHub was there")
        return Remote(location)
