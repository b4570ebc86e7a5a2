"""The GitHub App: who we are at GitHub, and the way to each repository that it is installed on.

One a process. The host makes it from the settings; handlers and the projector ask it for repositories by number, and
`GitHubRemotes` for what git needs.
"""

import asyncio
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from sqlalchemy import RowMapping

from app.clock import Clock
from app.github.answers import hook_delivery_of
from app.github.auth import AppAccess, AppCredentials, Token, Tokens
from app.github.calls import Caller
from app.github.client import GitHubRepository
from app.github.faults import Gone, Moved, Refused
from app.github.reading import Fields, as_object
from app.github.repository import Host
from app.github.shapes import HookDelivery, RepositoryFacts
from app.github.transport import Call, Reply, Transport
from engine.domain.errors import DevflowError
from engine.store import hosted
from engine.store.database import Database

API_URL = "https://api.github.com"
SERVER_URL = "https://github.com"


class GitHubApp:
    """A GitHub App, by its credentials; `api_url` and `server_url` say which GitHub.

    At most `threads` calls are under way at once, each given up after `timeout_seconds` of silence.
    """

    def __init__(
        self,
        credentials: AppCredentials,
        database: Database,
        clock: Clock,
        *,
        api_url: str = API_URL,
        server_url: str = SERVER_URL,
        seconds_between_writes: float = 0.4,
        threads: int = 8,
        timeout_seconds: int = 15,
    ) -> None:
        self._database = database
        self._app = AppAccess(credentials)
        self._transport = Transport(api_url, threads=threads, timeout_seconds=timeout_seconds)
        self._caller = Caller(self._transport, clock, seconds_between_writes=seconds_between_writes)
        self._tokens = Tokens(self._caller, self._app, clock, self._learn)
        self._slug: str | None = None
        self._asking_slug = asyncio.Lock()
        self._host = Host(
            caller=self._caller,
            tokens=self._tokens,
            api_url=api_url.rstrip("/"),
            server_url=server_url.rstrip("/"),
            app_id=credentials.app_id,
            bot_login=self.bot_login,
            learn=self._learn,
        )

    @property
    def server_url(self) -> str:
        """Where people and git find the repositories, without a slash at its end."""
        return self._host.server_url

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

    async def slug(self) -> str:
        """Return the App's own name at GitHub, asked for once; raises a fault (`Unauthorised`: a wrong id or key)."""
        async with self._asking_slug:
            if self._slug is None:
                call = Call("GET", "/app")
                reply = await self._read(call)
                self._slug = self._caller.understand(call, _slug_of, reply.data)
            return self._slug

    async def bot_login(self) -> str:
        """Return the login that the App's comments have."""
        return f"{await self.slug()}[bot]"

    async def failed_deliveries(self, since: datetime) -> list[HookDelivery]:
        """Return the newest attempt of each delivery since then that no attempt brought to us, oldest first."""
        attempts: dict[str, list[HookDelivery]] = {}
        call = Call("GET", "/app/hook/deliveries")
        async for page in self._caller.pages(call, self._app):
            found = self._caller.understand(call, _deliveries_of, page)
            for delivery in found:
                attempts.setdefault(delivery.guid, []).append(delivery)
            if any(delivery.delivered_at < since for delivery in found):
                break
        failed = [tries[0] for tries in attempts.values() if not any(delivery.ok for delivery in tries)]
        return sorted((it for it in failed if it.delivered_at >= since), key=lambda it: (it.delivered_at, it.id))

    async def redeliver(self, attempt_id: int) -> None:
        """Ask GitHub to deliver again what one attempt did not bring."""
        call = Call("POST", f"/app/hook/deliveries/{attempt_id}/attempts")
        try:
            await self._caller.write(call, self._app)
        except Moved:
            raise Refused(301, f"{call}: GitHub redirects") from None

    async def close(self) -> None:
        """Wait for the calls under way and close every connection."""
        await self._transport.close()

    async def _read(self, call: Call) -> Reply:
        return await self._caller.follow(call, self._app, self._host.api_url)

    async def _row(self, repository_id: int) -> RowMapping:
        async with self._database.read() as tx:
            row = await hosted.get(tx, repository_id)
        if row is None:
            hint = "see that the GitHub App is installed on the repository"
            raise DevflowError(
                "repository_not_found", f"no repository with id {repository_id} is known here", recovery_hint=hint
            )
        return row

    async def _learn(self, installation_id: int, facts: RepositoryFacts) -> None:
        async with self._database.transaction() as tx:
            await hosted.put(tx, facts.id, installation_id, facts.full_name, facts.default_branch)


def _slug_of(data: Any) -> str:
    return as_object(data).text("slug")


def _deliveries_of(page: list[Fields]) -> list[HookDelivery]:
    return [hook_delivery_of(fields) for fields in page]
