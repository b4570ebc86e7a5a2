"""What the steps of one advance share: the frozen plan, the lease, the places where the work happens."""

from dataclasses import dataclass, field

from engine.domain.pricing import PriceTable
from engine.ports import Remote
from engine.runner.plan import Plan
from engine.services import Services
from engine.settings import Settings
from engine.store.database import Database, Lease
from engine.workspace.mirror import Mirror
from engine.workspace.sandbox import Sandbox
from engine.workspace.worktree import Worktree


class PauseRequested(Exception):  # noqa: N818 - not an error
    """A person asked the run to pause, and this is a safe point."""


@dataclass
class SafePoint:
    """Where an advance may stop: between two turns of an agent and between two steps of a phase."""

    pause_requested: bool = False

    def check(self) -> None:
        """Raise `PauseRequested` once somebody asked for it."""
        if self.pause_requested:
            raise PauseRequested


@dataclass
class RunContext:
    """One lease holder's view of one run; it lives as long as one advance and is shared with nothing else."""

    services: Services
    lease: Lease
    plan: Plan
    location: str
    mirror: Mirror
    worktree: Worktree
    sandbox: Sandbox
    prices: PriceTable
    head_sha: str
    setup_leftovers: list[str] = field(default_factory=list)
    safe_point: SafePoint = field(default_factory=SafePoint)

    @property
    def settings(self) -> Settings:
        """The engine's settings."""
        return self.services.settings

    @property
    def database(self) -> Database:
        """The engine's database."""
        return self.services.database

    @property
    def unpublished(self) -> list[str]:
        """The paths in the worktree that are never part of a commit: what setup left, and artifacts' working copies."""
        # those of earlier phases still lie there; they are published as the engine's own files
        expected = [one.expected_artifact for one in self.plan.workflow.phases]
        return [*self.setup_leftovers, *(artifact.path for artifact in expected if artifact)]

    async def remote(self) -> Remote:
        """Return the repository's remote, asked anew because its credential may have run out during the phase."""
        return await self.services.remotes.remote(self.plan.repository_id, self.location)
