"""Issues and their events."""

from typing import Any

from tests.github_double.call import REPOSITORY, Answer, Call, route
from tests.github_double.refusal import invalid
from tests.github_double.shapes import issues
from tests.github_double.world import stamp

_READ = ("issues:read", "pull_requests:read")
_WRITE = ("issues:write", "pull_requests:write")


@route("GET", REPOSITORY + "/issues", *_READ)
def list_issues(call: Call) -> Any:
    """Issues and pull requests by state, label and time of change; newest first unless asked otherwise."""
    state, since = call.query.get("state", "open"), call.query.get("since", "")
    wanted = {name.lower() for name in call.query.get("labels", "").split(",") if name}
    rows = [
        each
        for each in call.repository.numbered.values()
        if state in ("all", each.state)
        and wanted <= {name.lower() for name in each.labels}
        and (stamp(each.updated_at) or "") >= since
    ]
    by = {"updated": "updated_at"}.get(call.query.get("sort", "created"), "number")
    rows.sort(key=lambda each: getattr(each, by), reverse=call.query.get("direction", "desc") == "desc")
    return call.page([issues.issue(call.world, each) for each in rows])


@route("POST", REPOSITORY + "/issues", "issues:write")
def create_issue(call: Call) -> Any:
    """A new issue."""
    labels = tuple(call.body.get("labels") or ())
    made = call.repository.open_issue(call.user, call.needed("title"), call.text("body") or "", labels)
    return Answer(201, issues.full_issue(call.world, made))


@route("GET", REPOSITORY + "/issues/{issue_number}", *_READ)
def get_issue(call: Call) -> Any:
    """One issue or pull request."""
    return issues.full_issue(call.world, call.issue())


@route("PATCH", REPOSITORY + "/issues/{issue_number}", *_WRITE)
def update_issue(call: Call) -> Any:
    """Title, body, state, labels."""
    issue = call.issue()
    state = call.text("state")
    if state not in (None, "open", "closed"):
        raise invalid("Issue", "state", "invalid")
    issue.edit(call.user, title=call.text("title"), body=call.text("body"))
    if "labels" in call.body:
        wanted = [each if isinstance(each, str) else each["name"] for each in call.body["labels"] or []]
        for name in [name for name in issue.labels if name not in wanted]:
            issue.unlabel(call.user, name)
        for name in wanted:
            issue.label(call.user, name)
    if state == "closed":
        issue.close(call.user, call.text("state_reason") or "completed")
    elif state == "open":
        issue.reopen(call.user)
    return issues.full_issue(call.world, issue)


@route("GET", REPOSITORY + "/issues/{issue_number}/events", *_READ)
def list_events(call: Call) -> Any:
    """What happened to an issue (labels, closing, ...), oldest first."""
    issue = call.issue()
    return call.page([issues.happening(call.world, issue, each) for each in issue.happenings])


@route("GET", REPOSITORY + "/issues/{issue_number}/timeline", *_READ)
def list_timeline(call: Call) -> Any:
    """The same with the comments between, by time."""
    issue = call.issue()
    rows = [(each.created_at, issues.happening(call.world, issue, each)) for each in issue.happenings]
    rows += [(each.created_at, issues.timeline_comment(call.world, each)) for each in issue.comments]
    rows.sort(key=lambda row: row[0])
    return call.page([row[1] for row in rows])
