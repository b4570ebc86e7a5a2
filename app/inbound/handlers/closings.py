"""Issues and pull requests that are closed, reopened or gone: a run of theirs ends, and none comes back by itself.

Deliveries may come late and out of order, so what counts is whether it is closed now.
"""

from app.github.events import (
    IssueClosed,
    IssueDeleted,
    IssueTransferred,
    PullClosed,
)
from app.github.faults import Gone
from app.inbound.context import Context
from app.inbound.handlers.endings import end_runs
from app.inbound.responses import Handled, ignored
from app.inbound.router import on


@on(IssueClosed)
async def issue_closed(context: Context, event: IssueClosed) -> Handled:
    """End the issue's runs, those that wait as well."""
    rows = await context.engine.runs_of_issue(context.repository.id, event.issue.number)
    if all(row["ended_at"] is not None for row in rows):
        return ignored("no live run on the issue")
    try:
        issue = await context.github.issue(event.issue.number)
    except Gone:
        return await end_runs(context, rows, event.sender, "the issue is gone")
    if issue.state == "open":
        return ignored("the issue is open again")
    return await end_runs(context, rows, event.sender, "the issue was closed")


@on(IssueDeleted)
async def issue_deleted(context: Context, event: IssueDeleted) -> Handled:
    """End the issue's runs: there is nobody left to report to."""
    rows = await context.engine.runs_of_issue(context.repository.id, event.issue.number)
    return await end_runs(context, rows, event.sender, "the issue was deleted")


@on(IssueTransferred)
async def issue_transferred(context: Context, event: IssueTransferred) -> Handled:
    """End the issue's runs: the issue is another repository's now."""
    rows = await context.engine.runs_of_issue(context.repository.id, event.issue.number)
    return await end_runs(context, rows, event.sender, "the issue was transferred to another repository")


@on(PullClosed)
async def pull_closed(context: Context, event: PullClosed) -> Handled:
    """End the run whose pull request was closed or merged before its end."""
    if event.from_fork:
        return ignored("a pull request from a fork")
    run = await context.run_of_pull(event.pull.number)
    if run is None or run["ended_at"] is not None:
        return ignored("no live run's pull request")
    try:
        pull = await context.github.pull(event.pull.number)
    except Gone:
        return await end_runs(context, [run], event.sender, "the pull request is gone")
    if pull.state == "open":
        return ignored("the pull request is open again")
    why = "the pull request was merged before the run's end" if pull.merged else "the pull request was closed"
    return await end_runs(context, [run], event.sender, why)
