"""Are the comments, pull requests and checks that a loaded state calls ours really ours?

What such a row names is what we change at GitHub, and a gate's comment tells which answers came after it. So each row
of the runs that can still do something is held against GitHub; times are taken from there. What somebody has deleted
there tells nothing any more about when it was shown.
"""

import re
from collections.abc import Sequence
from typing import Any

from sqlalchemy import RowMapping, select, update

from app.action.witness import Witness
from app.github.faults import Gone
from app.surface.desired import is_overtaken
from app.surface.hands import AS_STATUS, CheckHand, CommentHand, PullHand
from app.surface.render import marker_of
from engine.domain.errors import DevflowError
from engine.facade import Engine
from engine.store import projections
from engine.store.host_tables import surfaces

_REPLY = "reply/"
_NUMBER = re.compile(r"[1-9]\d{0,18}")
_CHECK = re.compile(r"check/([0-9a-f]{40})")


async def check_visible(engine: Engine, witness: Witness, rows: Sequence[RowMapping]) -> None:
    """Raise `state_untrusted` with the first thing that is said to be shown for one of these runs and is not ours.

    The times of comments are put right in the database. Raises faults too.
    """
    runs = {row["run_id"]: row for row in rows}
    async with engine.database.read() as tx:
        shown = await tx.all(select(surfaces).order_by(surfaces.c.surface_key))
    for row in shown:
        _check_key(row)
        if row["run_id"] in runs and row["external_id"] is not None:
            await _Shown(engine, witness, row, runs[row["run_id"]]).check()


def _check_key(row: RowMapping) -> None:
    """Raise where a row stands under a key of another run, or is of another kind than its key."""
    key: str = row["surface_key"]
    if row["run_id"] is None:
        if key.startswith(_REPLY) and row["kind"] == CommentHand.kind:
            return
    elif key.startswith(prefix := f"run/{row['run_id']}/") and row["kind"] == _kind(key.removeprefix(prefix)):
        return
    raise _untrusted(key, "it belongs to something else")


def _kind(name: str) -> str:
    if name == "pull":
        return PullHand.kind
    return CheckHand.kind if name.startswith("check/") else CommentHand.kind


def _untrusted(key: str, why: str) -> DevflowError:
    return DevflowError("state_untrusted", f"what is said to be shown as {key[:200]} cannot be trusted: {why}")


class _Shown:
    """One surface of a run, which is said to be at GitHub."""

    def __init__(self, engine: Engine, witness: Witness, row: RowMapping, run: RowMapping) -> None:
        self.engine = engine
        self.witness = witness
        self.row = row
        self.run = run
        self.key: str = row["surface_key"]
        self.facts: dict[str, Any] = row["facts"]

    async def check(self) -> None:
        """Raise unless it is ours; take its time from GitHub."""
        if self.row["kind"] == CheckHand.kind:
            await self._check_run()
            return
        if not _NUMBER.fullmatch(self.row["external_id"]):
            raise _untrusted(self.key, "it has no number")
        if self.row["kind"] == PullHand.kind:
            await self._pull()
        else:
            await self._comment()

    async def _check_run(self) -> None:
        found = _CHECK.fullmatch(self.key.removeprefix(f"run/{self.run['run_id']}/"))
        if found is None:
            raise _untrusted(self.key, "it names no commit")
        if self.row["external_id"] == AS_STATUS or is_overtaken(found[1], self.row["content_hash"]):
            return
        for one in await self.witness.github.checks_of(found[1]):
            if str(one.id) == self.row["external_id"] and one.external_id == self.key and one.ours:
                return
        raise _untrusted(self.key, f"check run {self.row['external_id'][:20]} is another one")

    async def _pull(self) -> None:
        number = int(self.row["external_id"])
        found = [pull for pull in await self.witness.pulls(self.run["branch"]) if pull.number == number]
        if not found or found[0].node_id != self.facts.get("node_id"):
            raise _untrusted(self.key, f"#{number} is no pull request of the run's branch")
        ours = marker_of(found[0].body) == self.key or await self.witness.github.is_ours(found[0].author)
        if not (ours or self.facts.get("by_others")):
            raise _untrusted(self.key, f"#{number} is somebody else's")

    async def _comment(self) -> None:
        comment_id = int(self.row["external_id"])
        found = [one for one in await self.witness.comments() if one.id == comment_id]
        if not found:
            await self._gone(comment_id)
            return
        (comment,) = found
        edit = self.witness.last_edit(comment)
        by_us = await self.witness.github.is_ours(comment.author)
        touched = edit is not None and edit.login.casefold() != comment.author.login.casefold()
        # whoever has changed it may have taken the marker out; then it is put right
        if not (marker_of(comment.body) == self.key or (by_us and touched)) or self._names_other(comment.node_id):
            raise _untrusted(self.key, f"comment {comment_id} is another one")
        at = comment.created_at if by_us and not touched else None
        if at != self.row["external_at"]:
            await self._write(external_at=at)

    async def _gone(self, comment_id: int) -> None:
        try:
            await self.witness.github.comment(comment_id)
        except Gone:
            kept = {name: value for name, value in self.facts.items() if name not in ("node_id", "text")}
            await self._write(external_at=None, content_hash=None, facts=kept)
            if not (self.facts.get("left_alone") or self.run["ended_at"]):
                async with self.engine.database.locked(self.run["run_id"]) as tx:
                    await projections.touch(tx)
            return
        raise _untrusted(self.key, f"comment {comment_id} is not on the issue or its pull request")

    def _names_other(self, node_id: str) -> bool:
        return bool(self.facts.get("node_id", node_id) != node_id)

    async def _write(self, **values: Any) -> None:
        mine = (surfaces.c.repository_id == self.row["repository_id"]) & (surfaces.c.surface_key == self.key)
        async with self.engine.database.transaction() as tx:
            await tx.execute(update(surfaces).where(mine).values(**values))
