"""The projector: reads a run, computes what should be visible of it, and lets the applier change what differs.

Last stage of the flow: store -> projector -> GitHub. It is rung by every change of a run and by its own sweeper, holds
a claim while it works, and comes again when a limit, a pace or a fault asks it to wait. Running it twice changes
nothing.
"""

import logging
from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import RowMapping

from app.clock import Clock
from app.github.client import GitHubRepository
from app.github.faults import Gone, RetryLater
from app.github.hub import GitHub
from app.surface.applier import PACE, Applier, is_wanting, refused_for, unsettle
from app.surface.desired import (
    Shown,
    Surface,
    gate_surfaces,
    pull_surface,
    refusal_surfaces,
    refusals_prefix,
    surfaces,
)
from app.surface.hands import AS_STATUS, CheckHand, CommentHand, PullHand
from app.surface.heads import other_head
from app.surface.reading import read_view
from app.surface.view import Links, RunView
from engine.domain.errors import DevflowError, Fenced
from engine.facade import Engine
from engine.ports import Keep, kept_by_database
from engine.store import hosted, projections
from engine.store import surfaces as rows

_BACK_OFF_FIRST = timedelta(seconds=5)
_BACK_OFF_MOST = timedelta(minutes=5)
_GONE = "GitHub does not show the repository any more, or not to this App"

_log = logging.getLogger(__name__)


class Projector:
    """Shows the runs of one engine on GitHub. `worker_id` is a presence's, by which its claims are held.

    `keep` is awaited before a run is shown; `unsure_since` is the `Applier`'s.
    """

    def __init__(
        self,
        engine: Engine,
        app: GitHub,
        clock: Clock,
        *,
        worker_id: UUID,
        dead_after_seconds: float,
        keep: Keep = kept_by_database,
        unsure_since: datetime | None = None,
    ) -> None:
        self._engine = engine
        self._database = engine.database
        self._app = app
        self._clock = clock
        self._worker_id = worker_id
        self._dead_after = dead_after_seconds
        self._keep = keep
        self._unsure_since = unsure_since
        self._pace = PACE

    async def handle(self, key: str) -> None:
        """Show the run whose id the doorbell names."""
        try:
            run_id = UUID(key)
        except ValueError:
            _log.error("a doorbell names no run: %r", key[:80])
            return
        await self.project(run_id)

    async def waiting(self) -> list[str]:
        """Return the runs that are due to be shown, for the sweeper."""
        async with self._database.transaction() as tx:
            due = await projections.waiting(tx, self._clock.now(), self._worker_id, self._dead_after)
        return [str(run_id) for run_id in due]

    async def project(self, run_id: UUID) -> None:
        """Show the run as it stands, unless nothing has changed, it is not due, or somebody else is about it."""
        async with self._database.transaction() as tx:
            claimed = await projections.claim(tx, run_id, self._worker_id, self._clock.now(), self._dead_after)
        if claimed is None:
            return
        again_at: datetime | None = None
        error: str | None = None
        try:
            await self._keep_first()
            again_at = await self._look_and_show(run_id)
        except RetryLater as later:
            error = str(later)
            again_at = later.at or self._clock.now() + _back_off(claimed["attempts"])
            _log.info("run %s is shown later: %s", run_id, later)
        except BaseException as failure:
            # given back at once, for somebody else; whoever called decides what to do about the failure itself
            await self._release(run_id, self._clock.now() + _back_off(claimed["attempts"]), type(failure).__name__)
            raise
        await self._release(run_id, again_at, error)

    async def reconsider(self, run_id: UUID) -> None:
        """Have a run shown again of which something was refused for want of a right: it may have been granted since."""
        async with self._database.read() as tx:
            known = await rows.of_run(tx, run_id)
        if any(is_wanting(row) for row in known):
            await self._touch(run_id)

    async def hasten(self, run_ids: Sequence[UUID]) -> None:
        """Have what was put off for the sake of calm shown now, and no pause kept any more: this process is to end."""
        self._pace = timedelta(0)
        async with self._database.transaction() as tx:
            await projections.hasten(tx, run_ids)

    async def unsettle(self, repository_id: int, comment_id: int) -> None:
        """Have a comment of ours put right that somebody else has edited or deleted."""
        await unsettle(self._database, repository_id, comment_id)

    async def _keep_first(self) -> None:
        try:
            await self._keep()
        except DevflowError as error:
            if error.code != "github_unavailable":
                raise
            raise RetryLater(error.message) from error

    async def _release(self, run_id: UUID, again_at: datetime | None, error: str | None) -> None:
        try:
            async with self._database.transaction() as tx:
                await projections.release(tx, run_id, self._worker_id, again_at, error)
        except Fenced as lost:
            _log.info("%s", lost)

    async def _look_and_show(self, run_id: UUID) -> datetime | None:
        """Bring everything of the run up to date; returns when to come again though nothing may change until then."""
        view = await read_view(self._database, run_id)
        async with self._database.read() as tx:
            repository = await hosted.get(tx, view.repository_id)
        if repository is None or repository["gone_at"] is not None:
            return None
        try:
            github = await self._app.repository(view.repository_id)
            return await self.show(view, github)
        except Gone as gone:
            await self._repository_is_gone(view, gone)
            return None

    async def show(self, view: RunView, github: GitHubRepository) -> datetime | None:
        """Make GitHub show a run as the view has it; returns when to look at it again, None where all is done."""
        times: list[datetime | None] = []
        before, checks_refused = await self._shown(view, github)
        applier = Applier(
            self._database,
            github,
            self._clock,
            run_id=view.run_id,
            checks_refused=checks_refused,
            pace=self._pace,
            unsure_since=self._unsure_since,
        )
        if (pull := pull_surface(view, github)) is not None:
            times.append(await self._one(applier, pull, github))
        shown, _ = await self._shown(view, github)
        if shown.pull is not None and before.pull is None and view.retry_of_id is not None:
            await self._touch(view.retry_of_id)  # whose pull request is closed now that there is a newer one
        for surface in gate_surfaces(view, github, shown):
            times.append(await self._one(applier, surface, github))
        shown, _ = await self._shown(view, github)
        for surface in surfaces(view, github, shown):
            times.append(await self._one(applier, surface, github))
        # after all else, because each of these may have been refused
        for surface in refusal_surfaces(view, list(applier.refused.values()), shown):
            times.append(await self._one(applier, surface, github))
        return min((time for time in times if time is not None), default=None)

    async def _one(self, applier: Applier, surface: Surface, github: GitHubRepository) -> datetime | None:
        try:
            return await applier.apply(surface)
        except Gone as gone:
            await github.facts()  # raises Gone as well where it is the repository; else it is the issue alone
            return await applier.note_refusal(surface, gone)

    async def _shown(self, view: RunView, links: Links) -> tuple[Shown, bool]:
        """Return what is visible already, and whether commit statuses take the place of check runs."""
        async with self._database.read() as tx:
            known = await rows.of_run(tx, view.run_id)
        pulls = [row for row in known if row["kind"] == PullHand.kind]
        # also those whose creation got no answer: what it left on a commit must not stay there as it is
        checks = [row for row in known if row["kind"] == CheckHand.kind and (row["external_id"] or row["attempted_at"])]
        pull = next((int(row["external_id"]) for row in pulls if row["external_id"]), None)
        comments = [row for row in known if row["kind"] == CommentHand.kind and row["external_id"]]
        shown = Shown(
            pull=pull,
            pull_refused=next(filter(None, map(refused_for, pulls)), None),
            checked=tuple(row["target"]["sha"] for row in checks),
            other_head=other_head(known, view.run_id, view.head_sha),
            gates={row["surface_key"]: _address(links, row, pull) for row in comments},
            refusals=tuple(
                row["surface_key"] for row in comments if row["surface_key"].startswith(refusals_prefix(view.run_id))
            ),
            opened_by=await self._app.person(),
        )
        return shown, any(row["external_id"] == AS_STATUS for row in checks)

    async def _repository_is_gone(self, view: RunView, gone: Gone) -> None:
        """Stop asking for a repository that is not there for us, and pause the run: it could publish nothing."""
        _log.warning("repository %s: %s", view.repository_id, gone)
        async with self._database.transaction() as tx:
            await hosted.mark_gone(tx, view.repository_id, True)
        if view.state.terminal:
            return
        try:
            await self._engine.pause(view.run_id, by="devflow", note=_GONE)
        except DevflowError as error:
            if error.code not in ("illegal_transition", "run_already_terminal"):
                raise

    async def _touch(self, run_id: UUID) -> None:
        async with self._database.locked(run_id) as tx:
            await projections.touch(tx)


def _address(links: Links, row: RowMapping, pull: int | None) -> str:
    number = row["target"]["issue_number"]
    return links.comment_url(number, int(row["external_id"]), pull=number == pull)


def _back_off(attempts: int) -> timedelta:
    delay: timedelta = min(_BACK_OFF_FIRST * 2 ** min(attempts, 10), _BACK_OFF_MOST)
    return delay
