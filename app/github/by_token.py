"""GitHub by a token that was given to us: a workflow's GITHUB_TOKEN, an App's installation token, a person's own.

There is no installation that we know of, so every event is through number 0, and who we are is what GitHub says that
the token is. A token is never minted anew: where GitHub refuses it, all ends with `token_refused`.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from app.clock import Clock
from app.github.auth import GivenToken, TokenSource
from app.github.calls import Caller
from app.github.client import GitHubRepository
from app.github.event_types import Event
from app.github.hub import API_URL, SERVER_URL, GitHub
from app.github.reading import Fields
from app.github.refusals import Refusals
from app.github.repository import Host, InstallationAccess
from app.github.shapes import Person, RepositoryFacts
from app.github.transport import Transport
from engine.store.database import Database

INSTALLATION = 0  # what stands for the installation where there is none
JOBS_OWN = "github-actions[bot]"  # who the token is that GitHub makes for each job
_WHO = "query Viewer { viewer { login databaseId } }"


class GitHubByToken(GitHub):
    """GitHub by one token, which nothing here shows."""

    def __init__(
        self,
        token: str,
        database: Database,
        clock: Clock,
        *,
        api_url: str = API_URL,
        server_url: str = SERVER_URL,
        seconds_between_writes: float = 0.4,
        threads: int = 8,
        timeout_seconds: int = 15,
    ) -> None:
        self._given = GivenToken(token)
        self._viewer: Person | None = None
        self._asking = asyncio.Lock()
        super().__init__(
            database,
            clock,
            app_id=None,
            rights_are_fixed=True,
            api_url=api_url,
            server_url=server_url,
            seconds_between_writes=seconds_between_writes,
            threads=threads,
            timeout_seconds=timeout_seconds,
        )

    def _token_source(self, clock: Clock) -> TokenSource:
        return self._given

    def installation_of(self, event: Event) -> int | None:
        """Return 0: what a workflow is started for is meant for us, and names no installation."""
        return INSTALLATION

    async def viewer(self) -> Person:
        """Return who the token is, asked for once; raises a fault, or `token_refused`.

        Asked by GraphQL, because GitHub answers `GET /user` to people only.
        """
        async with self._asking:
            if self._viewer is None:
                access = InstallationAccess(self._tokens, INSTALLATION, 0)
                data = await self._caller.query("Viewer", _WHO, {}, access)
                self._viewer = self._caller.understand("viewer", _viewer_of, data)
            return self._viewer

    async def bot_login(self) -> str:
        """Return the login that comments by this token have, a person's perhaps."""
        return (await self.viewer()).login

    async def person(self) -> str | None:
        """Return the login where the token is a person's own."""
        viewer = await self.viewer()
        return None if viewer.is_bot else viewer.login


def _viewer_of(data: Fields) -> Person:
    viewer = data.child("viewer")
    login = viewer.text("login")
    return Person(viewer.maybe_number("databaseId") or 0, login, is_bot=login.casefold().endswith("[bot]"))


@contextlib.asynccontextmanager
async def looking_at(
    token: str, clock: Clock, *, api_url: str, server_url: str, repository: tuple[int, int, str, str]
) -> AsyncIterator[GitHubRepository]:
    """Yield a repository to read from where there is no database yet, so that nothing of it is written down.

    `repository` is its number, its installation, its full name and its default branch.
    """
    transport = Transport(api_url, threads=2, timeout_seconds=15)
    host = Host(
        caller=Caller(transport, clock, seconds_between_writes=0),
        tokens=GivenToken(token),
        api_url=api_url.rstrip("/"),
        server_url=server_url.rstrip("/"),
        app_id=None,
        is_ours=_unknown,
        learn=_forget,
        refusals=Refusals(),
        rights_are_fixed=True,
    )
    try:
        yield GitHubRepository(host, *repository[:3], known_default_branch=repository[3])
    finally:
        await transport.close()


async def _unknown(person: Person) -> bool:
    return False


async def _forget(installation_id: int, facts: RepositoryFacts) -> None:
    return
