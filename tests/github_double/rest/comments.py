"""Comments in the conversation of an issue or pull request."""

from typing import Any

from tests.github_double.call import REPOSITORY, Answer, Call, route
from tests.github_double.refusal import Refused
from tests.github_double.shapes import issues
from tests.github_double.world import stamp

_READ = ("issues:read", "pull_requests:read")
_WRITE = ("issues:write", "pull_requests:write")
_ONE = REPOSITORY + "/issues/comments/{comment_id}"


@route("GET", REPOSITORY + "/issues/{issue_number}/comments", *_READ)
def list_comments(call: Call) -> Any:
    """The comments of one, oldest first; `since` is about their last change."""
    since = call.query.get("since", "")
    rows = [each for each in call.issue().comments if (stamp(each.updated_at) or "") >= since]
    return call.page([issues.comment(call.world, each) for each in rows])


@route("POST", REPOSITORY + "/issues/{issue_number}/comments", *_WRITE)
def create_comment(call: Call) -> Any:
    """A new comment."""
    made = call.issue().comment(call.user, call.needed("body"))
    location = f"{call.world.api_url}/repos/{call.repository.full_name}/issues/comments/{made.id}"
    return Answer(201, issues.comment(call.world, made), {"Location": location})


@route("GET", REPOSITORY + "/issues/comments", *_READ)
def list_all_comments(call: Call) -> Any:
    """The comments of a whole repository, by id or by last change."""
    since = call.query.get("since", "")
    rows = [comment for issue in call.repository.numbered.values() for comment in issue.comments]
    rows = [each for each in rows if (stamp(each.updated_at) or "") >= since]
    by = "updated_at" if call.query.get("sort") == "updated" else "id"
    rows.sort(key=lambda each: getattr(each, by), reverse=call.query.get("direction") == "desc")
    return call.page([issues.comment(call.world, each) for each in rows])


@route("GET", _ONE, *_READ)
def get_comment(call: Call) -> Any:
    """One comment."""
    return issues.comment(call.world, call.comment())


@route("PATCH", _ONE, *_WRITE)
def update_comment(call: Call) -> Any:
    """Another text."""
    comment = call.comment()
    _check_author(call, comment.author.id)
    comment.issue.edit_comment(call.user, comment, call.needed("body"))
    return issues.comment(call.world, comment)


@route("DELETE", _ONE, *_WRITE)
def delete_comment(call: Call) -> Any:
    """The comment's end."""
    comment = call.comment()
    _check_author(call, comment.author.id)
    comment.issue.delete_comment(call.user, comment)
    return Answer(204)


def _check_author(call: Call, author_id: int) -> None:
    """Let a person without write access change their own comments only; an App with the permission may change any."""
    if call.caller.kind != "pat" or call.user.id == author_id:
        return
    if call.repository.role_of(call.user) in ("none", "read", "triage"):
        raise Refused(403, "Must have admin rights to Repository.")
