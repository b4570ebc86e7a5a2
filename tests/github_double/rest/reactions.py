"""Reactions to issues and to comments; a second one by the same user answers 200 with the first."""

from typing import Any

from tests.github_double.call import REPOSITORY, Answer, Call, route
from tests.github_double.records import Reaction
from tests.github_double.refusal import not_found
from tests.github_double.shapes import issues

_READ = ("issues:read", "pull_requests:read")
_WRITE = ("issues:write", "pull_requests:write")
_ISSUE = REPOSITORY + "/issues/{issue_number}/reactions"
_COMMENT = REPOSITORY + "/issues/comments/{comment_id}/reactions"


@route("GET", _ISSUE, *_READ)
def list_of_issue(call: Call) -> Any:
    """The reactions to an issue."""
    return _list(call, call.issue().reactions)


@route("POST", _ISSUE, *_WRITE)
def create_on_issue(call: Call) -> Any:
    """A reaction to an issue."""
    made, new = call.issue().react(call.user, call.needed("content"))
    return Answer(201 if new else 200, issues.reaction(call.world, made))


@route("DELETE", _ISSUE + "/{reaction_id}", *_WRITE)
def delete_of_issue(call: Call) -> Any:
    """A reaction taken back."""
    return _delete(call, call.issue().reactions)


@route("GET", _COMMENT, *_READ)
def list_of_comment(call: Call) -> Any:
    """The reactions to a comment."""
    return _list(call, call.comment().reactions)


@route("POST", _COMMENT, *_WRITE)
def create_on_comment(call: Call) -> Any:
    """A reaction to a comment."""
    comment = call.comment()
    made, new = comment.issue.react(call.user, call.needed("content"), comment)
    return Answer(201 if new else 200, issues.reaction(call.world, made))


@route("DELETE", _COMMENT + "/{reaction_id}", *_WRITE)
def delete_of_comment(call: Call) -> Any:
    """A reaction taken back."""
    return _delete(call, call.comment().reactions)


def _list(call: Call, reactions: list[Reaction]) -> Answer:
    wanted = call.query.get("content")
    rows = [each for each in reactions if wanted in (None, each.content)]
    return call.page([issues.reaction(call.world, each) for each in rows])


def _delete(call: Call, reactions: list[Reaction]) -> Answer:
    wanted = call.number("reaction_id")
    for each in reactions:
        if each.id == wanted and each.user is call.user:
            reactions.remove(each)
            return Answer(204)
    raise not_found()
