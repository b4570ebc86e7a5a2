"""What a handler has at hand for one delivery, and the few questions that several handlers ask."""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from sqlalchemy import RowMapping

from app.clock import Clock
from app.github.client import GitHubRepository
from app.github.events import Repository, RepositoryEvent
from app.github.faults import Gone, HostFault, Refused
from app.github.hub import GitHub
from app.github.shapes import ReactionTarget
from app.inbound import config as configuration
from app.inbound.responses import Reaction, Response
from app.inbound.strangers import Strangers
from app.surface.projector import Projector
from app.surface.render import marker_of
from engine.domain.config import RepositoryConfig
from engine.facade import Engine
from engine.ports import Keep, kept_by_database
from engine.start import HostedRepository
from engine.store import surfaces
from engine.store.database import Database

_log = logging.getLogger(__name__)

Doubts = Callable[[str, bytes, GitHubRepository, RepositoryEvent], Awaitable[str | None]]
"""Returns why an event, which stands in a delivery of this id with this body, is not to be believed, or None."""


async def no_doubts(delivery_id: str, body: bytes, github: GitHubRepository, event: RepositoryEvent) -> str | None:
    """Believe what the door has let in: GitHub has signed it."""
    return None


CheckRun = Callable[[UUID], Awaitable[None]]
"""Raises `state_untrusted` where nothing may be made of a run that has ended; and faults."""


async def no_check(run_id: UUID) -> None:
    """Believe what is in the database: nobody else writes there."""


@dataclass(frozen=True)
class House:
    """What all handlers of a process share.

    `cassette` is the recorded agent of every run that is started here, `workflow` what a plain label starts where the
    repository's own choice is not wanted. `keep` is awaited before what was decided shows on GitHub, `doubts` before
    anything is made of an event, `check_run` before another run goes on from one. `unsure_since` is the `Applier`'s.
    `ids_are_proven`: nobody else can have written the ids of approvers that runs have.
    """

    engine: Engine
    app: GitHub
    clock: Clock
    projector: Projector
    cassette: tuple[str, bytes] | None = None
    strangers: Strangers = field(default_factory=Strangers)
    workflow: str | None = None
    keep: Keep = kept_by_database
    doubts: Doubts = no_doubts
    check_run: CheckRun = no_check
    unsure_since: datetime | None = None
    ids_are_proven: bool = True

    @property
    def database(self) -> Database:
        """The engine's database."""
        return self.engine.database


@dataclass
class Context:
    """One delivery's surroundings: the shared house, and GitHub as the delivery's repository sees it.

    `wish` is what somebody wants something of us by; they are told where nothing comes of it.
    """

    house: House
    repository: Repository
    github: GitHubRepository
    late: list[Response] = field(default_factory=list)
    wish: ReactionTarget | None = None
    _config: RepositoryConfig | None = None

    @property
    def engine(self) -> Engine:
        """The engine."""
        return self.house.engine

    @property
    def hosted(self) -> HostedRepository:
        """The repository as the engine knows it."""
        location = f"{self.house.app.server_url}/{self.github.full_name}.git"
        return HostedRepository(self.repository.id, location, self.github.known_default_branch)

    @property
    def config_path(self) -> str:
        """Where the repository's configuration lies."""
        return self.engine.settings.config_path

    async def confirm(self) -> None:
        """Make sure what a repository is called that is seen for the first time; raises a fault."""
        if not self.github.known_default_branch:
            await self.github.facts()

    async def config(self) -> RepositoryConfig:
        """Return the repository's configuration as its default branch has it now; raises `config_invalid`."""
        if self._config is None:
            self._config = await configuration.read_config(self.github, self.config_path)
        return self._config

    async def acknowledge(self, target: ReactionTarget) -> None:
        """Show at once that something was received; where GitHub does not take it now, it is made up for later."""
        self.wish = target
        try:
            await self.github.react(target, "eyes")
        except (Gone, Refused) as fault:
            _log.info("no reaction on %s: %s", target, fault)
        except HostFault:
            self.late.append(Reaction(target, "eyes"))

    async def has_replied(self, key: str, issue_number: int) -> bool:
        """Tell whether a reply with this key was given on an issue or pull request, or its giving was begun."""
        marker = f"reply/{key}"
        async with self.house.database.read() as tx:
            if await surfaces.get(tx, self.repository.id, marker) is not None:
                return True
        if self.house.unsure_since is None:
            return False
        return any(marker_of(one.body) == marker for one in await self.github.our_comments(issue_number))

    async def run_of_pull(self, number: int) -> RowMapping | None:
        """Return the run whose pull request this is, or None: by what we opened, else by its branch in this repository.

        A pull request from a fork is never a run's, whatever its branch is called.
        """
        async with self.house.database.read() as tx:
            known = await surfaces.find_by_external(tx, self.repository.id, "pull", str(number))
        if known is not None and known["run_id"] is not None:
            return await self.engine.row(known["run_id"])
        try:
            pull = await self.github.pull(number)
        except Gone:
            return None
        if pull.head_repository_id != self.repository.id:
            return None
        return await self.engine.run_on_branch(self.repository.id, pull.head_ref)
