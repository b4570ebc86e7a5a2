"""Making one surface on GitHub what it should be: a call only where something differs, and once whatever crashes.

Third step of the projector, and the only way by which comments of ours come to be. A row tells what GitHub shows.
Before a creation it is written down that one is about to be tried, afterwards what came of it; where a crash or a lost
answer lies between the two, GitHub is searched for the surface's marker before another one is made. A call that was
still on its way then may end in a second one, so after a doubt GitHub is looked at once more, later, and what is too
much is removed.
"""

import logging
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import RowMapping

from app.clock import Clock
from app.github.client import GitHubRepository
from app.github.faults import Gone, Refused, RetryLater
from app.surface.desired import Check, Comment, Pull, Surface, moved, reply
from app.surface.hands import CheckHand, CommentHand, Hand, Made, PullHand
from engine.domain.errors import DevflowError
from engine.store import allowances, projections, surfaces
from engine.store.database import Database

PACE = timedelta(seconds=30)
DOUBT = timedelta(seconds=90)  # longer than any call of ours can still be on its way
_SKEW = timedelta(hours=1)  # how far GitHub's clock may be from ours
_FIRST_RETRY = timedelta(minutes=2)
_LAST_RETRY = timedelta(hours=1)
_REFUSALS = 8
_MENDINGS = 3

_log = logging.getLogger(__name__)


async def unsettle(database: Database, repository_id: int, comment_id: int) -> None:
    """Have a comment of ours put right that somebody else has edited or deleted; what is not ours is left alone.

    A few times only: somebody who does it again and again is not fought with.
    """
    async with database.read() as tx:
        row = await surfaces.find_by_external(tx, repository_id, CommentHand.kind, str(comment_id))
    if row is None or row["run_id"] is None:
        return
    async with database.locked(row["run_id"]) as run:
        facts = _Known.of(await surfaces.get(run, repository_id, row["surface_key"], lock=True)).facts
        mended = facts.pop("mended", 0)
        if mended < _MENDINGS:
            facts.pop("text", None)
            await surfaces.unsettle(run, repository_id, row["surface_key"], facts | {"mended": mended + 1})
            await projections.touch(run)


def is_wanting(row: RowMapping) -> bool:
    """Tell whether a surface was refused for want of a right, which may have been granted since."""
    return bool(row["facts"].get("refused", {}).get("code"))


def refused_for(row: RowMapping) -> str | None:
    """Return what GitHub said where it refuses a surface, and not for want of a right: nobody can grant that."""
    refused = row["facts"].get("refused", {})
    return None if refused.get("code") else refused.get("said")


@dataclass
class _Known:
    """What a surface's row says; `facts` are the hand's and ours."""

    external_id: str | None = None
    external_at: datetime | None = None
    content_hash: str | None = None
    attempted_at: datetime | None = None
    applied_at: datetime | None = None
    target: dict[str, Any] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, row: RowMapping | None) -> "_Known":
        if row is None:
            return cls()
        names = ("external_id", "external_at", "content_hash", "attempted_at", "applied_at", "target")
        return cls(**{name: row[name] for name in names}, facts=dict(row["facts"]))


class Applier:
    """Applies surfaces of one repository; `run_id` is theirs, None for replies that belong to no run.

    `checks_refused`: check runs are known to be forbidden here, and commit statuses take their place. `pace` is how
    often a text may change that changes at leisure. `refused` has, by surface, what could not be shown for want of a
    right. `unsure_since`: somebody may have made things since then and not have lived to write it down, so what is
    unknown is looked for before it is made.
    """

    def __init__(
        self,
        database: Database,
        github: GitHubRepository,
        clock: Clock,
        *,
        run_id: UUID | None = None,
        checks_refused: bool = False,
        pace: timedelta = PACE,
        unsure_since: datetime | None = None,
    ) -> None:
        self.refused: dict[str, DevflowError] = {}
        self._database = database
        self._github = github
        self._clock = clock
        self._repository_id = github.repository_id
        self._installation_id = github.installation_id
        self._run_id = run_id
        self._pace = pace
        self._unsure_since = unsure_since
        self._hands: dict[type, Hand[Any]] = {
            Comment: CommentHand(github),
            Pull: PullHand(github),
            Check: CheckHand(github, refused=checks_refused),
        }

    async def reply(self, key: str, issue_number: int, body: str) -> None:
        """Answer on an issue or pull request, once for each `key`; raises what GitHub's client raises."""
        surface = reply(key, issue_number, body)
        async with self._database.read() as tx:
            known = _Known.of(await surfaces.get(tx, self._repository_id, surface.key))
        if known.external_id is None:
            await self._bring_about(surface, known)

    async def apply(self, surface: Surface) -> datetime | None:
        """Make GitHub show the surface; returns when to look at it again, None where nothing is left to do.

        Raises `RetryLater` and `Gone`. What GitHub refuses is written down, tried again later and given up in the end.
        """
        async with self._database.read() as tx:
            known = _Known.of(await surfaces.get(tx, self._repository_id, surface.key))
        if isinstance(surface.content, Comment) and known.target:
            surface = moved(surface, int(known.target["issue_number"]))
        for_want = self._github.refusals.of(surface.key)
        refused = known.facts.get("refused", {})
        if for_want is not None and self._github.rights_are_fixed:
            self.refused[surface.key] = for_want
            return None
        # a right may have been granted since another process was refused
        if refused.get("what") == _what(surface) and (for_want is not None or not refused.get("code")):
            if for_want is not None:
                self.refused[surface.key] = for_want
            if refused["count"] >= _REFUSALS:
                return None
            again = datetime.fromisoformat(refused["again_at"])
            if self._clock.now() < again:
                return again
        try:
            again_at = await self._apply(surface, known)
        except Refused as error:
            return await self.note_refusal(surface, error)
        self._github.refusals.over(surface.key)
        self.refused.pop(surface.key, None)
        return again_at

    async def _apply(self, surface: Surface, known: _Known) -> datetime | None:
        if known.external_id is None:
            if not surface.create and known.attempted_at is None and self._unsure_since is None:
                return None
            return await self._bring_about(surface, known)
        if known.facts.get("left_alone"):
            return None
        if known.content_hash == surface.digest:
            return await self._look_again(surface, known)
        if surface.pace is not None and known.facts.get("pace") == surface.pace and known.applied_at is not None:
            due = known.applied_at + self._pace
            if self._clock.now() < due and known.content_hash is not None:
                return due
        made = Made(known.external_id, known.external_at, known.facts)
        try:
            return await self._finish(surface, made)
        except Gone:
            return await self._bring_back(surface, known)

    async def _bring_about(self, surface: Surface, known: _Known) -> datetime | None:
        """Find what an earlier attempt left, else create the surface, and write down what it is called."""
        hand, content = self._hand(surface), surface.content
        made: Made | None = None
        since = known.attempted_at or self._unsure_since
        if since is not None:
            found = await hand.find(surface.key, content, since - _SKEW)
            for extra in found[1:]:
                await hand.remove(extra)
            made = found[0] if found else None
            if made is None and not surface.create:
                await self._withdraw(surface)
                return None
        if made is None:
            made = await self._create(surface, known)
        facts = {**known.facts, **made.facts}
        if known.attempted_at is not None:
            look_at = self._clock.now() + DOUBT
            facts["doubt"] = {"since": known.attempted_at.isoformat(), "look_at": look_at.isoformat()}
        made = Made(made.external_id, known.external_at or made.at, facts)
        if not await self._record(surface, made, digest=None, new=True):
            _log.warning("%s was made by two at once; the second one is removed", surface.key)
            await hand.remove(made)
            return self._clock.now()
        return await self._finish(surface, made)

    async def _create(self, surface: Surface, known: _Known) -> Made:
        async with self._database.transaction() as tx:
            later = await allowances.spend(tx, self._installation_id, self._clock.now())
        if later is not None:
            raise RetryLater("the allowance for new content is used up", later)
        if known.attempted_at is None:
            await self._begin(surface, known)
        try:
            return await self._hand(surface).create(surface.key, surface.content)
        except (Refused, Gone, RetryLater) as error:
            # with a reason or a time in hand, GitHub has said that it made nothing: then there is nothing to look for
            certain = not isinstance(error, RetryLater) or error.at is not None
            if certain and known.attempted_at is None:
                await self._withdraw(surface)
            raise

    async def _finish(self, surface: Surface, made: Made) -> datetime | None:
        """Change what differs from what is shown, and write down that nothing does any more."""
        facts = dict(made.facts)
        changed = await self._hand(surface).change(made, surface.content)
        facts = {**facts, **changed, "pace": surface.pace}
        facts.pop("refused", None)
        await self._record(surface, replace(made, facts=facts), digest=surface.digest)
        doubt = facts.get("doubt")
        return datetime.fromisoformat(doubt["look_at"]) if doubt else None

    async def _look_again(self, surface: Surface, known: _Known) -> datetime | None:
        """After a doubt, remove what a call left that was still on its way."""
        doubt = known.facts.get("doubt")
        if doubt is None:
            return None
        due = datetime.fromisoformat(doubt["look_at"])
        if self._clock.now() < due:
            return due
        hand = self._hand(surface)
        for other in await hand.find(surface.key, surface.content, datetime.fromisoformat(doubt["since"]) - _SKEW):
            if other.external_id != known.external_id:
                await hand.remove(other)
        facts = {name: value for name, value in known.facts.items() if name != "doubt"}
        await self._remember(surface, facts)
        return None

    async def _bring_back(self, surface: Surface, known: _Known) -> datetime | None:
        """Put back what somebody deleted, once; whoever deletes it again means it."""
        if surface.lasting and not known.facts.get("brought_back"):
            facts = {name: value for name, value in known.facts.items() if name == "mended"}
            return await self._bring_about(surface, replace(known, facts=facts | {"brought_back": True}))
        await self._remember(surface, {**known.facts, "left_alone": True})
        return None

    async def note_refusal(self, surface: Surface, error: Refused | Gone) -> datetime | None:
        """Write down what GitHub refused, so that the same is not asked again at once, nor for ever.

        Returns when to ask again, None for never: until something else is to be shown, or another process asks where it
        was refused for want of a right.
        """
        for_want = self._github.refusals.note(surface.key, error)
        if for_want is not None:
            self.refused[surface.key] = for_want
        async with self._database.read() as tx:
            known = _Known.of(await surfaces.get(tx, self._repository_id, surface.key))
        before = known.facts.get("refused", {})
        count = before.get("count", 0) + 1 if before.get("what") == _what(surface) else 1
        again = self._clock.now() + min(_FIRST_RETRY * 2 ** (count - 1), _LAST_RETRY)
        _log.warning("GitHub refuses %s (time %d): %s", surface.key, count, error)
        refused = {"what": _what(surface), "count": count, "again_at": again.isoformat(), "said": str(error)[:500]}
        if for_want is not None:
            refused["code"] = for_want.code
        await self._remember(surface, known.facts | {"refused": refused})
        if for_want is not None and self._github.rights_are_fixed:
            return None
        return again if count < _REFUSALS else None

    async def _begin(self, surface: Surface, known: _Known) -> None:
        """Write down that a creation is about to be tried."""
        async with self._database.transaction() as tx:
            row = _Known.of(await surfaces.get(tx, self._repository_id, surface.key, lock=True))
            if row.attempted_at is not None or row.external_id != known.external_id:
                raise RetryLater(f"another process is making {surface.key}", self._clock.now())
            await surfaces.begin(
                tx,
                self._repository_id,
                surface.key,
                run_id=self._run_id,
                kind=self._hand(surface).kind,
                target=self._hand(surface).target(surface.content),
                at=self._clock.now(),
            )

    async def _withdraw(self, surface: Surface) -> None:
        """Write down that nothing came of an attempt."""
        async with self._database.transaction() as tx:
            await surfaces.withdraw(tx, self._repository_id, surface.key)

    async def _remember(self, surface: Surface, facts: dict[str, Any]) -> None:
        async with self._database.transaction() as tx:
            await surfaces.remember(tx, self._repository_id, surface.key, facts)

    async def _record(self, surface: Surface, made: Made, *, digest: str | None, new: bool = False) -> bool:
        """Write down what is shown; False, and nothing written, where `new` and another process was faster."""
        async with self._database.transaction() as tx:
            row = _Known.of(await surfaces.get(tx, self._repository_id, surface.key, lock=True))
            if new and row.attempted_at is None and row.external_id not in (None, made.external_id):
                return False
            await surfaces.record(
                tx,
                self._repository_id,
                surface.key,
                run_id=self._run_id,
                kind=self._hand(surface).kind,
                target=self._hand(surface).target(surface.content),
                external_id=made.external_id,
                external_at=made.at,
                content_hash=digest,
                at=self._clock.now(),
                facts=made.facts,
            )
            return True

    def _hand(self, surface: Surface) -> Hand[Any]:
        return self._hands[type(surface.content)]


def _what(surface: Surface) -> str:
    """Return what is refused: a text that changes at leisure is the same one all the while."""
    return surface.pace or surface.digest
