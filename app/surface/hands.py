"""How each kind of surface is found, made, changed and removed on GitHub; the applier says when.

`find` answers by what only we write: a comment's hidden marker, a pull request's branch, a check run's external id. The
facts that a hand returns are what it needs to know later, to change nothing that is right already.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar, Protocol, TypeVar

from app.github import shapes
from app.github.checks import NAME
from app.github.client import GitHubRepository
from app.github.faults import Refused
from app.github.refusals import named
from app.surface.desired import Check, Comment, Pull
from app.surface.render import LIMIT, marker_of

AS_STATUS = "status"  # in place of a check run's id, where only a commit status is allowed
_STATUS_LIMIT = 140
_STATUS_STATES: Mapping[str | None, shapes.StatusState] = {
    "success": "success",
    "failure": "failure",
    "cancelled": "error",
    "neutral": "success",
}
_Facts = dict[str, Any]


@dataclass(frozen=True)
class Made:
    """Something that is on GitHub: what it is called there, since when, and what is remembered of it."""

    external_id: str
    at: datetime | None
    facts: _Facts = field(default_factory=dict)


_Content = TypeVar("_Content", contravariant=True)


class Hand(Protocol[_Content]):
    """One kind of surface."""

    kind: ClassVar[str]

    def target(self, content: _Content) -> _Facts:
        """Return where it stands, as its row says it."""

    async def find(self, key: str, content: _Content, since: datetime) -> list[Made]:
        """Return what is there of it already, the first one made first."""

    async def create(self, key: str, content: _Content) -> Made:
        """Make it; what cannot be said in the creation is left to `change`."""

    async def change(self, made: Made, content: _Content) -> _Facts:
        """Change what differs, and return what to remember; without a difference no call is made."""

    async def remove(self, made: Made) -> None:
        """Take one away that is too much."""


class CommentHand:
    """Comments on issues and pull requests."""

    kind: ClassVar[str] = "comment"

    def __init__(self, github: GitHubRepository) -> None:
        self._github = github

    def target(self, content: Comment) -> _Facts:
        """Return the issue's number."""
        return {"issue_number": content.issue_number}

    async def find(self, key: str, content: Comment, since: datetime) -> list[Made]:
        """Return our comments with the surface's marker."""
        ours = await self._github.our_comments(content.issue_number, since)
        return [_comment(item) for item in sorted(ours, key=lambda item: item.id) if marker_of(item.body) == key]

    async def create(self, key: str, content: Comment) -> Made:
        """Write the comment."""
        return _comment(await self._github.create_comment(content.issue_number, content.body))

    async def change(self, made: Made, content: Comment) -> _Facts:
        """Bring the text up to date, and minimise it where that is wanted."""
        facts: _Facts = {}
        if made.facts.get("text") != _digest(content.body):
            await self._github.update_comment(int(made.external_id), content.body)
            facts["text"] = _digest(content.body)
        if content.minimised and made.facts.get("minimised") != content.minimised:
            await self._github.minimise(made.facts["node_id"], content.minimised)
            facts["minimised"] = content.minimised
        return facts

    async def remove(self, made: Made) -> None:
        """Delete the comment."""
        await self._github.delete_comment(int(made.external_id))


def _comment(item: shapes.Comment) -> Made:
    return Made(str(item.id), item.created_at, {"node_id": item.node_id, "text": _digest(item.body)})


class PullHand:
    """The pull request of a run, by its branch: GitHub allows one open one for a branch."""

    kind: ClassVar[str] = "pull"

    def __init__(self, github: GitHubRepository) -> None:
        self._github = github

    def target(self, content: Pull) -> _Facts:
        """Return its branch."""
        return {"head": content.head}

    async def find(self, key: str, content: Pull, since: datetime) -> list[Made]:
        """Return the branch's pull request into the base: the open one, else the newest."""
        found = await self._of_branch(key, content)
        return [] if found is None else [found]

    async def _of_branch(self, key: str, content: Pull) -> Made | None:
        found = [item for item in await self._github.pulls_of(content.head) if item.base_ref == content.base]
        ordered = sorted(found, key=lambda item: (item.state != "open", -item.number))
        return await self._made(ordered[0], key) if ordered else None

    async def create(self, key: str, content: Pull) -> Made:
        """Open it: as a draft where drafts are allowed; one that is there already is taken."""
        try:
            return await self._made(await self._open(content, draft=content.draft), key)
        except Refused as error:
            if error.status != 422:
                raise
            said = str(error).lower()
            if content.draft and "draft" in said:
                return await self._made(await self._open(content, draft=False), key)
            found = await self._of_branch(key, content) if "already exists" in said else None
            if found is None:
                raise
            return found

    async def _made(self, item: shapes.Pull, key: str) -> Made:
        # somebody was faster and opened one for our branch: what they wrote stays
        by_others = marker_of(item.body) != key or not await self._github.is_ours(item.author)
        facts = {
            "node_id": item.node_id,
            "draft": item.draft,
            "closed": item.state != "open",
            "title": item.title,
            "text": _digest(f"{item.title}\n{item.body}"),
            "by_others": by_others,
        }
        return Made(str(item.number), None, facts)

    async def _open(self, content: Pull, *, draft: bool) -> shapes.Pull:
        return await self._github.create_pull(
            title=content.title, body=content.body, head=content.head, base=content.base, draft=draft
        )

    async def change(self, made: Made, content: Pull) -> _Facts:
        """Bring title and body up to date, make it ready for review, close it: whatever of that is still to do."""
        number, facts = int(made.external_id), made.facts
        new: _Facts = {}
        text = _digest(f"{content.title}\n{content.body}")
        if facts.get("text") != text and not facts.get("by_others"):
            title = content.title if facts.get("title") != content.title else None
            await self._github.update_pull(number, title=title, body=content.body)
            new |= {"text": text, "title": content.title}
        if facts.get("draft") and not content.draft and not facts.get("closed"):
            await self._github.ready_for_review(facts["node_id"])
            new["draft"] = False
        if content.closed and not facts.get("closed") and not facts.get("by_others"):
            await self._github.update_pull(number, state="closed")
            new["closed"] = True
        return new

    async def remove(self, made: Made) -> None:
        """Do nothing: there cannot be two."""


class CheckHand:
    """Check runs, or commit statuses where an installation may not write check runs."""

    kind: ClassVar[str] = "check"

    def __init__(self, github: GitHubRepository, *, refused: bool) -> None:
        self._github = github
        self._refused = refused

    def target(self, content: Check) -> _Facts:
        """Return its commit."""
        return {"sha": content.sha}

    async def find(self, key: str, content: Check, since: datetime) -> list[Made]:
        """Return our check runs on the commit that have the surface's key."""
        ours = [item for item in await self._github.checks_of(content.sha) if item.ours and item.external_id == key]
        return [Made(str(item.id), None, {}) for item in sorted(ours, key=lambda item: item.id)]

    async def create(self, key: str, content: Check) -> Made:
        """Make a check run; where that is forbidden, a commit status."""
        if self._refused:
            return Made(AS_STATUS, None, await self._set_status(content))
        try:
            made = await self._github.create_check(
                content.sha,
                external_id=key,
                status=content.status,
                conclusion=content.conclusion,
                title=content.title,
                summary=content.summary,
                details_url=content.url,
            )
        except Refused as error:
            if error.status != 403:
                raise
            try:
                return Made(AS_STATUS, None, await self._set_status(content))
            except Refused as second:
                # check runs are what is wanted, where nothing but a right stands against them
                raise (error if named(error) else second) from None
        return Made(str(made), None, {"text": _state(content)})

    async def change(self, made: Made, content: Check) -> _Facts:
        """Bring it up to date."""
        if made.facts.get("text") == _state(content):
            return {}
        if made.external_id == AS_STATUS:
            return await self._set_status(content)
        await self._github.update_check(
            int(made.external_id),
            status=content.status,
            conclusion=content.conclusion,
            title=content.title,
            summary=content.summary,
            details_url=content.url,
        )
        return {"text": _state(content)}

    async def _set_status(self, content: Check) -> _Facts:
        state = _STATUS_STATES.get(content.conclusion, "pending")
        await self._github.set_status(content.sha, state, content.title[:_STATUS_LIMIT], target_url=content.url)
        return {"text": _state(content), "as_status": True}

    async def remove(self, made: Made) -> None:
        """Close a check run that is too much: it cannot be deleted."""
        if made.external_id != AS_STATUS:
            text = f"Another check run `{NAME}` stands for this commit."
            await self._github.update_check(
                int(made.external_id), status="completed", conclusion="neutral", title="Made twice", summary=text
            )


def _state(content: Check) -> str:
    return _digest("\n".join([content.status, str(content.conclusion), content.title, content.summary[:LIMIT]]))


def _digest(text: str) -> str:
    return hashlib.sha256(text.replace("\r\n", "\n").encode()).hexdigest()
