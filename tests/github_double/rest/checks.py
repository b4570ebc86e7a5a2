"""Check runs and commit statuses."""

from datetime import UTC, datetime
from typing import Any

from tests.github_double import webhooks
from tests.github_double.call import REPOSITORY, Answer, Call, route
from tests.github_double.records import CheckRun, Status
from tests.github_double.refusal import Refused, invalid, not_found
from tests.github_double.shapes import commits

_LONGEST = 65_535
_LONGEST_DESCRIPTION = 140
_STATES = ("error", "failure", "pending", "success")
_STATUSES = ("queued", "in_progress", "completed", "waiting", "requested", "pending")
_CONCLUSIONS = (
    "action_required", "cancelled", "failure", "neutral", "success", "skipped", "stale", "timed_out",
)  # fmt: skip


@route("POST", REPOSITORY + "/check-runs", "checks:write")
def create_check_run(call: Call) -> Any:
    """A check run on a commit."""
    repository = call.repository
    name, sha = call.needed("name"), call.needed("head_sha")
    if len(sha) != 40 or repository.git.resolve(sha) is None:
        raise Refused(422, f"No commit found for SHA: {sha}")
    now = call.world.now()
    maker = call.world.actions if call.caller.kind == "actions" else call.world.app
    run = CheckRun(call.world.new_id("check"), sha, name, "queued", now, maker)
    _apply(call, run)
    repository.check_runs.append(run)
    webhooks.on_check_run(repository, run, "created", call.user)
    return Answer(201, commits.check_run(call.world, repository, run))


@route("GET", REPOSITORY + "/check-runs/{check_run_id}", "checks:read")
def get_check_run(call: Call) -> Any:
    """One check run."""
    return commits.check_run(call.world, call.repository, _run(call))


@route("PATCH", REPOSITORY + "/check-runs/{check_run_id}", "checks:write")
def update_check_run(call: Call) -> Any:
    """Another state or text."""
    run = _run(call)
    if run.app.bot is not call.user:
        words = f"Invalid app_id `{run.app.id}` - check run can only be modified by the GitHub App that created it."
        raise Refused(403, words)
    was = run.status
    run.name = call.text("name") or run.name
    _apply(call, run)
    if run.status == "completed" != was:
        webhooks.on_check_run(call.repository, run, "completed", call.user)
    return commits.check_run(call.world, call.repository, run)


@route("GET", REPOSITORY + "/commits/{ref}/check-runs", "checks:read")
def list_check_runs(call: Call) -> Any:
    """The check runs of a commit; the newest of each name unless `filter=all`."""
    rows = list(reversed(call.repository.checks(call.commit("ref"))))
    if call.query.get("filter", "latest") == "latest":
        rows = list({run.name: run for run in reversed(rows)}.values())
    if "check_name" in call.query:
        rows = [run for run in rows if run.name == call.query["check_name"]]
    if "status" in call.query:
        rows = [run for run in rows if run.status == call.query["status"]]
    shapes = [commits.check_run(call.world, call.repository, run) for run in rows]
    return call.page(shapes, lambda part: {"total_count": len(shapes), "check_runs": part})


@route("POST", REPOSITORY + "/statuses/{sha}", "statuses:write")
def create_status(call: Call) -> Any:
    """A commit status."""
    sha, state = call.commit("sha"), call.needed("state")
    if state not in _STATES:
        raise invalid("Status", "state", "custom", "State is not included in the list")
    description = call.text("description")
    if description is not None and len(description) > _LONGEST_DESCRIPTION:
        raise invalid("Status", "description", "custom", "description is too long (maximum is 140 characters)")
    context, target = call.text("context") or "default", call.text("target_url")
    made = Status(call.world.new_id("status"), sha, state, context, description, target, call.user, call.world.now())
    call.repository.commit_statuses.append(made)
    webhooks.on_status(call.repository, made, call.user)
    return Answer(201, commits.status(call.world, call.repository, made))


@route("GET", REPOSITORY + "/commits/{ref}/status", "statuses:read")
def get_combined_status(call: Call) -> Any:
    """The newest status of each context."""
    sha = call.commit("ref")
    newest: dict[str, Status] = {}
    for each in call.repository.statuses(sha):
        newest.setdefault(each.context, each)
    return commits.combined_status(call.world, call.repository, sha, list(newest.values()))


@route("GET", REPOSITORY + "/commits/{ref}/statuses", "statuses:read")
def list_statuses(call: Call) -> Any:
    """Every status of a commit, newest first."""
    return _statuses(call, call.commit("ref"))


@route("GET", REPOSITORY + "/statuses/{sha}", "statuses:read")
def list_statuses_of_old(call: Call) -> Any:
    """The same under the path that clients knew first."""
    return _statuses(call, call.commit("sha"))


def _statuses(call: Call, sha: str) -> Answer:
    rows = call.repository.statuses(sha)
    return call.page([commits.status(call.world, call.repository, each) for each in rows])


def _run(call: Call) -> CheckRun:
    wanted = call.number("check_run_id")
    for each in call.repository.check_runs:
        if each.id == wanted:
            return each
    raise not_found()


def _apply(call: Call, run: CheckRun) -> None:
    """Take over what a body says; a conclusion completes the run."""
    status, conclusion = call.text("status"), call.text("conclusion")
    if status not in (None, *_STATUSES):
        raise invalid("CheckRun", "status", "invalid")
    if conclusion not in (None, *_CONCLUSIONS):
        raise invalid("CheckRun", "conclusion", "invalid")
    if status == "completed" and conclusion is None:
        raise Refused(422, 'Invalid request.\n\n"conclusion" wasn\'t supplied.')
    output = call.body.get("output")
    if output is not None:
        _apply_output(run, output)
    run.external_id = call.text("external_id") or run.external_id
    run.details_url = call.text("details_url") or run.details_url
    run.actions = call.body.get("actions") or run.actions
    run.started_at = _moment(call.text("started_at")) or run.started_at
    if conclusion is not None:
        run.status, run.conclusion = "completed", conclusion
        run.completed_at = _moment(call.text("completed_at")) or call.world.now()
    elif status is not None:
        run.status, run.conclusion, run.completed_at = status, None, None


def _apply_output(run: CheckRun, output: dict[str, Any]) -> None:
    for name in ("title", "summary"):
        if not isinstance(output.get(name), str) and (name == "summary" or run.title is None):
            raise Refused(422, f'Invalid request.\n\n"{name}" wasn\'t supplied.')
    for name in ("summary", "text"):
        if len(output.get(name) or "") > _LONGEST:
            raise invalid("CheckRun", name, "custom", f"{name} exceeds a maximum bytesize of {_LONGEST}")
    run.title = output.get("title") or run.title
    run.summary = output.get("summary")
    run.text = output.get("text") or run.text


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text.replace("Z", "+00:00")).astimezone(UTC)
