"""GitHub as somebody who has tokens for it: the way to each repository, and who we are there.

What differs between a GitHub App (`app`) and a token that was given to us (`by_token`) is where tokens come from and
whose name stands on what we write; all else is here. One a process: handlers and the projector ask it for repositories
by number, and `GitHubRemotes` for what git needs.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable

from sqlalchemy import RowMapping

from app.clock import Clock
from app.github.auth import Token, TokenSource
from app.github.calls import Caller
from app.github.client import GitHubRepository
from app.github.event_types import Event
from app.github.faults import Gone
from app.github.refusals import Refusals
from app.github.repository import Host
from app.github.shapes import Person, RepositoryFacts
from app.github.transport import Transport
from engine.domain.errors import DevflowError
from engine.store import hosted
from engine.store.database import Database

API_URL = "https://api.github.com"
SERVER_URL = "https://github.com"


class GitHub(ABC):
    """One GitHub, by `api_url` and `server_url`; `app_id` is our App's where we know that we are one.

    `refusals` has what this process was refused for want of a right.

    At most `threads` calls are under way at once, each given up after `timeout_seconds` of silence.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        *,
        app_id: int | None,
        rights_are_fixed: bool,
        api_url: str,
        server_url: str,
        seconds_between_writes: float,
        threads: int,
        timeout_seconds: int,
    ) -> None:
        self.refusals = Refusals()
        self._database = database
        self._transport = Transport(api_url, threads=threads, timeout_seconds=timeout_seconds)
        self._caller = Caller(self._transport, clock, seconds_between_writes=seconds_between_writes)
        self._tokens = self._token_source(clock)
        self._host = Host(
            caller=self._caller,
            tokens=self._tokens,
            api_url=api_url.rstrip("/"),
            server_url=server_url.rstrip("/"),
            app_id=app_id,
            is_ours=self.is_ours,
            learn=self._learn,
            refusals=self.refusals,
            rights_are_fixed=rights_are_fixed,
        )

    @abstractmethod
    def _token_source(self, clock: Clock) -> TokenSource:
        """Return where tokens come from; called once, when the caller is there."""

    @abstractmethod
    def installation_of(self, event: Event) -> int | None:
        """Return the installation through which an event reached us, None where it is not meant for us."""

    @abstractmethod
    async def bot_login(self) -> str:
        """Return the login that stands on what we write; raises a fault, or `token_refused`."""

    async def person(self) -> str | None:
        """Return the login of the person in whose name we write; None: it is an App's, or a job's own."""
        return None

    @property
    def rights_are_fixed(self) -> bool:
        """Whether it is no use to ask again in this process for what was refused for want of a right."""
        return self._host.rights_are_fixed

    @property
    def server_url(self) -> str:
        """Where people and git find the repositories, without a slash at its end."""
        return self._host.server_url

    async def is_ours(self, person: Person) -> bool:
        """Tell whether a person is who we are at GitHub; raises as `bot_login` does.

        The login of an App ends in `[bot]`, which nobody else's can.
        """
        return person.login.casefold() == (await self.bot_login()).casefold()

    async def repository(self, repository_id: int) -> GitHubRepository:
        """Return a repository that was opened before; raises `repository_not_found` for any other."""
        row = await self._row(repository_id)
        return self._as(row)

    async def open(
        self, repository_id: int, installation_id: int, full_name: str, default_branch: str
    ) -> GitHubRepository:
        """Return the repository of a delivery, and write down what it is called now.

        What is new in a delivery is not taken at its word: it may be an old one, and the name another repository's by
        now. So GitHub is asked; of a repository that is seen for the first time, `known_default_branch` is empty until
        it has been. Raises a fault, `Gone` where no installation that is known shows us the repository.
        """
        async with self._database.read() as tx:
            row = await hosted.get(tx, repository_id)
        said = (installation_id, full_name, default_branch)
        if row is not None and said != (row["installation_id"], row["full_name"], row["default_branch"]):
            installations = dict.fromkeys((installation_id, row["installation_id"]))
            return await self._shown_by(repository_id, installations, full_name)
        async with self._database.transaction() as tx:
            await hosted.put(tx, repository_id, installation_id, full_name, default_branch)
        return GitHubRepository(self._host, repository_id, installation_id, full_name) if row is None else self._as(row)

    async def _shown_by(self, repository_id: int, installations: Iterable[int], full_name: str) -> GitHubRepository:
        """Return the repository by the first installation that shows it, under the name that GitHub gives it now."""
        gone = Gone(f"repository {repository_id} is not shown to us")
        for installation_id in installations:
            repository = GitHubRepository(self._host, repository_id, installation_id, full_name)
            try:
                await repository.facts()
            except Gone as fault:
                gone = fault
            else:
                return repository
        raise gone

    def _as(self, row: RowMapping) -> GitHubRepository:
        return GitHubRepository(
            self._host, row["repository_id"], row["installation_id"], row["full_name"], row["default_branch"]
        )

    async def git_access(self, repository_id: int) -> tuple[str, Token]:
        """Return the address of a repository for git, without credential, and a token that may push to it.

        Raises a fault, or `repository_not_found`.
        """
        row = await self._row(repository_id)
        token = await self._tokens.get(row["installation_id"], repository_id, "git")
        # minting a token tells the current name
        row = await self._row(repository_id)
        return f"{self.server_url}/{row['full_name']}.git", token

    def forget_token(self, token: Token) -> None:
        """Forget a token that git was refused with; a token can be revoked before its end."""
        self._tokens.discard(token)

    async def close(self) -> None:
        """Wait for the calls under way and close every connection."""
        await self._transport.close()

    async def _row(self, repository_id: int) -> RowMapping:
        async with self._database.read() as tx:
            row = await hosted.get(tx, repository_id)
        if row is None:
            hint = "see that the GitHub App is installed on the repository, or that the token reaches it"
            raise DevflowError(
                "repository_not_found", f"no repository with id {repository_id} is known here", recovery_hint=hint
            )
        return row

    async def _learn(self, installation_id: int, facts: RepositoryFacts) -> None:
        async with self._database.transaction() as tx:
            await hosted.put(tx, facts.id, installation_id, facts.full_name, facts.default_branch)
