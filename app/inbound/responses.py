"""What a handler answers: values that are stored with the delivery before any of them is carried out.

So a crash after the decision repeats only the answers, and these are made so that repeating is harmless: GitHub keeps
one reaction of a kind, and a reply is a surface with a key.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, get_args

from app.github.shapes import (
    CommentTarget,
    IssueTarget,
    ReactionContent,
    ReactionTarget,
    ReviewTarget,
)

_CONTENTS: dict[str, ReactionContent] = {content: content for content in get_args(ReactionContent)}


@dataclass(frozen=True)
class Reaction:
    """An emoji on an issue, a comment or a review."""

    target: ReactionTarget
    content: ReactionContent


@dataclass(frozen=True)
class Reply:
    """A comment on an issue or pull request, written once for each `key` of a repository."""

    key: str
    issue_number: int
    body: str


Response = Reaction | Reply


@dataclass(frozen=True)
class Handled:
    """What a handler made of an event, in a few words for the log and the row; `ignored`: it is not for us."""

    outcome: str
    responses: Sequence[Response] = ()
    ignored: bool = False


def ignored(why: str) -> Handled:
    """Return that nothing is done about an event, and why."""
    return Handled(why, ignored=True)


def to_json(handled: Handled) -> list[dict[str, Any]]:
    """Return what was handled as plain JSON values; `from_json` reads them back."""
    first = {"outcome": handled.outcome, "ignored": handled.ignored}
    return [first, *(_response(response) for response in handled.responses)]


def _response(response: Response) -> dict[str, Any]:
    if isinstance(response, Reply):
        return {"reply": response.key, "issue_number": response.issue_number, "body": response.body}
    target = response.target
    if isinstance(target, IssueTarget):
        return {"react": response.content, "issue": target.number}
    if isinstance(target, CommentTarget):
        return {"react": response.content, "comment": target.id}
    return {"react": response.content, "review": target.node_id, "pull": target.pull}


def from_json(values: Sequence[dict[str, Any]]) -> Handled:
    """Return what `to_json` was given."""
    first, *responses = values
    return Handled(first["outcome"], [_read(value) for value in responses], first["ignored"])


def _read(value: dict[str, Any]) -> Response:
    if "reply" in value:
        return Reply(value["reply"], value["issue_number"], value["body"])
    content = _CONTENTS[value["react"]]
    if "issue" in value:
        return Reaction(IssueTarget(value["issue"]), content)
    if "comment" in value:
        return Reaction(CommentTarget(value["comment"]), content)
    return Reaction(ReviewTarget(value["review"], value["pull"]), content)
