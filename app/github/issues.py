"""What we ask and tell on issues: their text, comments, reactions, and who may do what.

Comments and reactions on pull requests go the same way; GitHub has them as issues too.
"""

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from app.github.answers import comment_of, edit_of, happening_of, issue_of, permission_of
from app.github.faults import Gone, Refused
from app.github.reading import Fields, as_object
from app.github.repository import RepositoryCalls, quoted
from app.github.shapes import (
    Comment,
    CommentTarget,
    Edit,
    Happening,
    Issue,
    IssueTarget,
    Permission,
    ReactionContent,
    ReactionTarget,
)
from app.github.transport import Call

_LOGIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")
_NODES = 100  # of which GitHub's GraphQL gives no more at once
_EDITS = """query Edits($ids: [ID!]!) {
  nodes(ids: $ids) { id ... on IssueComment { lastEditedAt editor { __typename login } } }
}"""


class Issues(RepositoryCalls):
    """The issues of a repository; faults as in `RepositoryCalls`."""

    async def issue(self, number: int) -> Issue:
        """Return an issue as it is now."""
        return self._read(issue_of, await self._get(f"issues/{number}"))

    async def comments(self, number: int, since: datetime | None = None) -> list[Comment]:
        """Return the comments on an issue or pull request, oldest first; `since`: those changed at or after it."""
        query = {"since": f"{since:%Y-%m-%dT%H:%M:%SZ}"} if since else {}
        return self._read_all(comment_of, await self._all(f"issues/{number}/comments", query))

    async def our_comments(self, number: int, since: datetime | None = None) -> list[Comment]:
        """Return the comments that were written in our name, as `comments` does.

        With a person's own token these are also the ones that the person wrote: only a marker tells ours.
        """
        return [comment for comment in await self.comments(number, since) if await self.is_ours(comment.author)]

    async def comment(self, comment_id: int) -> Comment:
        """Return a comment as it is now."""
        return self._read(comment_of, await self._get(f"issues/comments/{comment_id}"))

    async def edits(self, node_ids: Sequence[str]) -> dict[str, Edit]:
        """Return the last change of each comment's text, by node id; those that were never changed are not in it."""
        found: dict[str, Edit] = {}
        for start in range(0, len(node_ids), _NODES):
            data = await self._query("Edits", _EDITS, {"ids": list(node_ids[start : start + _NODES])})
            for node_id, edit in self._read(_edits_of, data):
                if edit is not None:
                    found[node_id] = edit
        return found

    async def happenings(self, number: int) -> list[Happening]:
        """Return what happened to an issue or pull request, oldest first."""
        return self._read_all(happening_of, await self._all(f"issues/{number}/events"))

    async def create_comment(self, number: int, body: str) -> Comment:
        """Write a comment, of at most 65,536 characters."""
        return self._read(comment_of, await self._write("POST", f"issues/{number}/comments", {"body": body}))

    async def update_comment(self, comment_id: int, body: str) -> Comment:
        """Change the text of a comment of ours."""
        return self._read(comment_of, await self._write("PATCH", f"issues/comments/{comment_id}", {"body": body}))

    async def delete_comment(self, comment_id: int) -> None:
        """Delete a comment; one that is gone already is no fault."""
        try:
            await self._write("DELETE", f"issues/comments/{comment_id}")
        except Gone:
            return

    async def react(self, target: ReactionTarget, content: ReactionContent) -> None:
        """Put a reaction on an issue, a comment or a review; one that is there already stays the only one."""
        if isinstance(target, IssueTarget):
            await self._write("POST", f"issues/{target.number}/reactions", {"content": content})
        elif isinstance(target, CommentTarget):
            await self._write("POST", f"issues/comments/{target.id}/reactions", {"content": content})
        else:
            values = {"subjectId": target.node_id, "content": content.upper()}
            await self._mutate("addReaction", values, "reaction { content }")

    async def permission(self, login: str) -> Permission:
        """Return the effective permission of a person, none for a login that nobody has.

        `Refused` where GitHub does not find the permission of somebody whom it knows, in a repository that it shows.
        """
        try:
            fields = await self._get(f"collaborators/{quoted(login)}/permission")
        except Gone as gone:
            if await self.user_id(login) is None:
                return Permission("none", None)
            await self.facts()
            raise Refused(404, f"{gone}, though the person and the repository are there") from None
        return self._read(permission_of, fields)

    async def user_id(self, login: str) -> int | None:
        """Return the id of the account that has a login now, None where nobody has it."""
        if not _LOGIN.fullmatch(login):
            return None
        call = Call("GET", f"/users/{login}")
        try:
            reply = await self._host.caller.follow(call, self._access, self._host.api_url)
        except Gone:
            return None
        return self._host.caller.understand(call, _id_of, reply.data)


def _id_of(data: Any) -> int:
    return as_object(data).number("id")


def _edits_of(data: Fields) -> list[tuple[str, Edit | None]]:
    return [(node.text("id"), edit_of(node)) for node in data.children("nodes")]
