"""Pull requests."""

from typing import Any

from tests.github_double.call import REPOSITORY, Answer, Call, route
from tests.github_double.refusal import Refused, invalid
from tests.github_double.shapes import pulls

_ONE = REPOSITORY + "/pulls/{pull_number}"


@route("GET", REPOSITORY + "/pulls", "pull_requests:read")
def list_pulls(call: Call) -> Any:
    """Pull requests by state, head (`owner:branch`) and base; newest first."""
    repository = call.repository
    state, head, base = call.query.get("state", "open"), call.query.get("head"), call.query.get("base")
    rows = [
        each
        for each in repository.pulls
        if state in ("all", each.state)
        and head in (None, f"{repository.owner.login}:{each.head_ref}")
        and base in (None, each.base_ref)
    ]
    default = "asc" if call.query.get("sort", "created") != "created" else "desc"
    rows.sort(key=lambda each: each.number, reverse=call.query.get("direction", default) == "desc")
    return call.page([pulls.pull(call.world, each) for each in rows])


@route("POST", REPOSITORY + "/pulls", "pull_requests:write")
def create_pull(call: Call) -> Any:
    """A new pull request."""
    draft = bool(call.body.get("draft", False))
    title, head, base = call.needed("title"), call.needed("head"), call.needed("base")
    if call.caller.kind == "pat" and call.repository.role_of(call.user) in ("read", "triage"):
        raise Refused(403, "Resource not accessible by personal access token")
    if call.caller.kind == "actions" and not call.repository.actions_may_open_pulls:
        raise Refused(403, "GitHub Actions is not permitted to create or approve pull requests.")
    made = call.repository.open_pull(call.user, title, head, base, call.text("body"), draft=draft)
    return Answer(201, pulls.full_pull(call.world, made), {"Location": pulls.api_url(call.world, made)})


@route("GET", _ONE, "pull_requests:read")
def get_pull(call: Call) -> Any:
    """One pull request."""
    return pulls.full_pull(call.world, call.pull())


@route("PATCH", _ONE, "pull_requests:write")
def update_pull(call: Call) -> Any:
    """Title, body, state; whether it is a draft cannot be changed here."""
    pull, state = call.pull(), call.text("state")
    if state not in (None, "open", "closed"):
        raise invalid("PullRequest", "state", "invalid")
    if state == "open" and pull.state == "closed":
        pull.reopen(call.user)
    pull.edit(call.user, title=call.text("title"), body=call.text("body"))
    if state == "closed":
        pull.close(call.user)
    return pulls.full_pull(call.world, pull)


@route("PUT", _ONE + "/merge", "contents:write")
def merge_pull(call: Call) -> Any:
    """A merge commit on the base branch."""
    pull = call.pull()
    wanted = call.text("sha")
    if wanted is not None and wanted != pull.head_sha:
        raise Refused(409, "Head branch was modified. Review and try the merge again.")
    return {"sha": pull.merge(call.user), "merged": True, "message": "Pull Request successfully merged"}
