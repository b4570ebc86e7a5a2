"""Our side of a test against the GitHub double: an App with the double's credentials, or a token, and repositories."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from app.clock import Clock, SystemClock
from app.github.app import GitHubApp
from app.github.auth import AppCredentials
from app.github.by_token import INSTALLATION, GitHubByToken
from app.github.client import GitHubRepository
from app.github.hub import GitHub
from engine.store.database import Database
from tests.github_double import GitHubDouble, Repository, Token, User
from tests.support.clock import SteppedClock


@asynccontextmanager
async def github_app(
    github: GitHubDouble, database: Database, clock: Clock | None = None, *, timeout_seconds: int = 15, threads: int = 4
) -> AsyncIterator[GitHubApp]:
    """Yield an App that knows the double, and close it afterwards."""
    app = GitHubApp(
        AppCredentials(github.app.id, github.app.private_key_pem),
        database,
        clock or SystemClock(),
        api_url=github.api_url,
        server_url=github.server_url,
        seconds_between_writes=0,
        threads=threads,
        timeout_seconds=timeout_seconds,
    )
    try:
        yield app
    finally:
        await app.close()


@asynccontextmanager
async def github_by_token(
    github: GitHubDouble, database: Database, token: Token, clock: Clock | None = None
) -> AsyncIterator[GitHubByToken]:
    """Yield what knows the double by one token, and close it afterwards."""
    made = GitHubByToken(
        token.text,
        database,
        clock or SystemClock(),
        api_url=github.api_url,
        server_url=github.server_url,
        seconds_between_writes=0,
        threads=4,
    )
    try:
        yield made
    finally:
        await made.close()


async def opened(app: GitHub, repository: Repository) -> GitHubRepository:
    """Return a repository as its first event makes it known."""
    installation = repository.installation_id if isinstance(app, GitHubApp) else INSTALLATION
    return await app.open(repository.id, installation, repository.full_name, repository.default_branch)


@dataclass
class ClientScene:
    """One private repository with an issue by ada, and the client for it; the double and the App share the clock."""

    github: GitHubDouble
    there: Repository
    ada: User
    app: GitHubApp
    client: GitHubRepository
    clock: SteppedClock


@asynccontextmanager
async def client_scene(github: GitHubDouble, database: Database, clock: SteppedClock) -> AsyncIterator[ClientScene]:
    """Yield a repository of a double that has this clock."""
    ada = github.person("ada")
    files = {"README.md": "# Bills\n", ".github/devflow.yml": "commands: prefixed\n"}
    there = github.repository("octo/bills", files, private=True)
    there.permit(ada, "write")
    there.open_issue(ada, "Round the shares", "They do not add up")
    async with github_app(github, database, clock) as app:
        yield ClientScene(github, there, ada, app, await opened(app, there), clock)
