"""A GitHub App: who we are at GitHub where people have installed us, and what GitHub could not deliver to us."""

import asyncio
from datetime import datetime
from typing import Any

from app.clock import Clock
from app.github.answers import hook_delivery_of
from app.github.auth import AppAccess, AppCredentials, Tokens, TokenSource
from app.github.event_types import Event
from app.github.faults import Moved, Refused
from app.github.hub import API_URL, SERVER_URL, GitHub
from app.github.reading import Fields, as_object
from app.github.shapes import HookDelivery
from app.github.transport import Call, Reply
from engine.store.database import Database


class GitHubApp(GitHub):
    """A GitHub App, by its credentials; made by the host from the settings."""

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
        self._app = AppAccess(credentials)
        self._slug: str | None = None
        self._asking_slug = asyncio.Lock()
        super().__init__(
            database,
            clock,
            app_id=credentials.app_id,
            rights_are_fixed=False,
            api_url=api_url,
            server_url=server_url,
            seconds_between_writes=seconds_between_writes,
            threads=threads,
            timeout_seconds=timeout_seconds,
        )

    def _token_source(self, clock: Clock) -> TokenSource:
        return Tokens(self._caller, self._app, clock, self._learn)

    def installation_of(self, event: Event) -> int | None:
        """Return the installation that the event names; None: it did not come to the App."""
        return event.installation_id

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

    async def _read(self, call: Call) -> Reply:
        return await self._caller.follow(call, self._app, self._host.api_url)


def _slug_of(data: Any) -> str:
    return as_object(data).text("slug")


def _deliveries_of(page: list[Fields]) -> list[HookDelivery]:
    return [hook_delivery_of(fields) for fields in page]
