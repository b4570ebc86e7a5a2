"""What was closed or is gone while no job was started for it: the issue, a run's pull request, its branch.

Most workflows are not started when something is closed, and then a run would go on as if nothing had happened. So each
step looks at what runs that live depend on. What it finds becomes the event that would have told of it, and the
handlers decide, before anything else is done.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from sqlalchemy import RowMapping

from app.action.made_events import issue_part, made_delivery, pull_part
from app.action.packing import IssueRows
from app.github.client import GitHubRepository
from app.github.faults import Gone
from app.github.shapes import Issue, Person
from engine.store.deliveries import NewDelivery

_OURSELVES = Person(0, "devflow")


@dataclass(frozen=True)
class Closings:
    """The events that are missing; `is_gone`: the issue was deleted, or transferred."""

    events: list[NewDelivery] = field(default_factory=list)
    is_gone: bool = False


async def find_closings(github: GitHubRepository, rows: IssueRows) -> Closings:
    """Return what live runs of the issue have lost; raises a fault."""
    runs = await rows.engine.runs_of_issue(rows.repository_id, rows.issue_number)
    live = [row for row in runs if row["ended_at"] is None]
    if not runs:
        return Closings()
    try:
        issue = await github.issue(rows.issue_number)
    except Gone:
        await github.facts()  # raises `Gone` as well where it is the repository
        return Closings([_issue_closed(github, live, _lost(live[0]), _OURSELVES, "gone")] if live else [], is_gone=True)
    if live and issue.state != "open":
        by, at = await _closer(github, issue.number)
        return Closings([_issue_closed(github, live, issue, by, at)])
    return Closings([event for row in live for event in await _of_run(github, rows, row)])


async def _of_run(github: GitHubRepository, rows: IssueRows, row: RowMapping) -> list[NewDelivery]:
    number = await rows.pull_number(row["run_id"])
    if number is None:
        if row["pushed_sha"] is None or await github.branch_head(row["branch"]) is not None:
            return []
        told = {"ref_type": "branch", "ref": row["branch"]}
        return [made_delivery(f"closed:branch:{row['run_id']}", "delete", "", _OURSELVES, github, **told)]
    # with its branch, GitHub closes a pull request, too
    pull = await github.pull(number)
    if pull.state == "open":
        return []
    by, at = await _closer(github, number)
    delivery_id = f"closed:pull:{row['run_id']}:{at}"
    return [made_delivery(delivery_id, "pull_request", "closed", by, github, pull_request=pull_part(pull))]


def _issue_closed(
    github: GitHubRepository, live: Sequence[RowMapping], issue: Issue, by: Person, at: str
) -> NewDelivery:
    delivery_id = f"closed:issue:{live[0]['run_id']}:{at}"
    return made_delivery(delivery_id, "issues", "closed", by, github, issue=issue_part(issue))


def _lost(row: RowMapping) -> Issue:
    """Return as much as is left of the issue of a run."""
    at = row["created_at"]
    return Issue(row["issue_number"], 0, row["title"], "", "closed", _OURSELVES, (), at, at, is_pull=False)


async def _closer(github: GitHubRepository, number: int) -> tuple[Person, str]:
    """Return who has closed an issue or a pull request, and when."""
    closed = [one for one in await github.happenings(number) if one.event == "closed"]
    return (closed[-1].actor, f"{closed[-1].created_at:%Y%m%dT%H%M%SZ}") if closed else (_OURSELVES, "some time")
