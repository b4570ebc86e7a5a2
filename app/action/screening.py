"""Whether the event that a step was started for is any of ours, and which issue it is about; before any database.

Workflows are started for every label, comment and review of a repository, and most of them are none of Devflow's
business. What is let through here is decided by the same handlers as a webhook; nothing is decided here that they would
decide otherwise.
"""

import re
from dataclasses import dataclass

from app.github.client import GitHubRepository
from app.github.event_types import RepositoryEvent
from app.github.events import (
    BranchDeleted,
    CommentCreated,
    IssueEvent,
    IssueLabeled,
    PullEvent,
    PullLabeled,
    Pushed,
    ReviewSubmitted,
    Unreadable,
    parse,
)
from app.github.faults import Gone
from app.inbound import handlers
from app.inbound.commands import parser
from app.inbound.config import is_ours, read_config, read_file
from app.inbound.router import router
from app.surface.render import marker_of

RECONCILING = ("schedule", "workflow_dispatch", "repository_dispatch")
_BRANCH = re.compile(r"devflow/([1-9]\d{0,17})-[a-z0-9-]*-[0-9a-f]{8}")


@dataclass(frozen=True)
class Screened:
    """An event that may be ours (None: it is not, and `why` says so)."""

    event: RepositoryEvent | None
    why: str = ""


def screen(name: str, body: bytes) -> Screened:
    """Return the event, unless it can be seen from the event alone that nothing is to be done about it."""
    try:
        event = parse(name, body)
    except Unreadable as unreadable:
        return Screened(None, f"the event {name} cannot be read: {unreadable}")
    if event is None or not isinstance(event, RepositoryEvent) or router.handler(event) is None:
        return Screened(None, f"nothing is done about this kind of event ({name})")
    why = _why_not(event)
    return Screened(None, why) if why else Screened(event)


async def is_meant(github: GitHubRepository, event: RepositoryEvent, config_path: str) -> bool:
    """Tell whether a label is one that starts runs here, where its name alone does not say so."""
    if not isinstance(event, IssueLabeled) or is_ours(event.label):
        return True
    return (await read_file(github, config_path)).may_mean(event.label)


async def issue_of(github: GitHubRepository, event: RepositoryEvent) -> int | None:
    """Return the issue whose run the event is about, None where it can be about none.

    For comments, a pull request that is no run's counts as an issue of its own; one from a fork is none of ours.
    """
    if isinstance(event, Pushed | BranchDeleted):
        return issue_of_branch(event.branch)
    if isinstance(event, PullEvent):
        return None if event.from_fork else issue_of_branch(event.pull.head_ref)
    if not isinstance(event, IssueEvent):
        return None
    if not event.issue.is_pull:
        return event.issue.number
    try:
        pull = await github.pull(event.issue.number)
    except Gone:
        return None
    if pull.head_repository_id != event.repository.id:
        return None
    return issue_of_branch(pull.head_ref) or pull.number


async def is_answered_anyway(github: GitHubRepository, event: RepositoryEvent, config_path: str) -> bool:
    """Tell whether something is said about an event though there is no run: about commands of ours alone."""
    if not isinstance(event, CommentCreated):
        return False
    config = await handlers.comments.config_or_defaults(read_config(github, config_path))
    return bool(await handlers.comments.commands_without_run(event, config))


def issue_of_branch(branch: str) -> int | None:
    """Return the issue that a run's branch is for, None for a branch of another name."""
    match = _BRANCH.fullmatch(branch)
    return int(match[1]) if match else None


def _why_not(event: RepositoryEvent) -> str | None:
    match event:
        case IssueLabeled(sender=sender) if sender.is_bot:
            return "a bot put the label on"
        case IssueLabeled(issue=issue) if issue.is_pull:
            return "the label is on a pull request"
        case PullLabeled():
            return "the label is on a pull request"
        case CommentCreated(comment=comment, sender=sender):
            if comment.author.is_bot or sender.is_bot or comment.via_app or marker_of(comment.body):
                return "no person wrote the comment"
            return None if parser.parse(comment.body) else "there is no command in the comment"
        case ReviewSubmitted(review=review, sender=sender):
            if review.author.is_bot or sender.is_bot:
                return "it is a bot's review"
            if event.from_fork:
                return "the pull request is from a fork, and no run's"
            decides = review.state in ("approved", "changes_requested")
            return None if decides or parser.parse(review.body) else "it is a review without a verdict"
        case PullEvent() if event.from_fork:
            return "the pull request is from a fork, and no run's"
        case Pushed(branch=branch) | BranchDeleted(branch=branch) if issue_of_branch(branch) is None:
            return "the branch is no run's"
    return None


__all__ = [
    "RECONCILING",
    "Screened",
    "handlers",
    "is_answered_anyway",
    "is_meant",
    "issue_of",
    "issue_of_branch",
    "screen",
]
