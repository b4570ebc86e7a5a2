"""What people said on an issue while no job ran for it: comments and reviews of which no event has come.

A job can be cancelled while it waits, and a runner can vanish before it has read its event; GitHub tells nothing twice.
So each step looks for itself. What it finds becomes the event that would have told of it, and the handlers decide; a
comment that was changed meanwhile is left out, because nobody knows what it said.
"""

from datetime import datetime

from app.action.made_events import comment_part, issue_part, made_delivery, pull_part, review_part
from app.action.packing import IssueRows
from app.github.client import GitHubRepository
from app.github.shapes import Comment
from app.inbound.commands import parser
from app.surface.render import marker_of
from engine.store.deliveries import NewDelivery

_VERDICTS = ("approved", "changes_requested")


async def find(github: GitHubRepository, rows: IssueRows) -> list[NewDelivery]:
    """Return the events that are missing, oldest first; raises a fault."""
    run = await rows.engine.run_of_issue(rows.repository_id, rows.issue_number)
    if run is None:
        return []
    since: datetime = run["created_at"]
    found = await _of_comments(github, rows, rows.issue_number, since)
    if (number := await rows.pull_number(run["run_id"])) is not None:
        found += await _of_comments(github, rows, number, since)
        found += await _of_reviews(github, number, since)
    known = await rows.known([delivery.delivery_id for _, delivery in found])
    ordered = sorted(found, key=lambda item: item[0])
    return [delivery for _, delivery in ordered if delivery.delivery_id not in known]


async def _of_comments(
    github: GitHubRepository, rows: IssueRows, number: int, since: datetime
) -> list[tuple[tuple[datetime, int], NewDelivery]]:
    found = [one for one in await github.comments(number, since) if one.created_at >= since and _may_mean(one)]
    known = await rows.known([_id_of(one) for one in found])
    new = [one for one in found if _id_of(one) not in known]
    if not new:
        return []
    # the comment's own times are to the second, and a reaction may move them
    edited = await github.edits([one.node_id for one in new])
    wanted = [one for one in new if one.node_id not in edited]
    if not wanted:
        return []
    issue = await github.issue(number)
    return [
        (
            (one.created_at, one.id),
            made_delivery(
                _id_of(one),
                "issue_comment",
                "created",
                one.author,
                github,
                issue=issue_part(issue),
                comment=comment_part(one),
            ),
        )
        for one in wanted
    ]


async def _of_reviews(
    github: GitHubRepository, number: int, since: datetime
) -> list[tuple[tuple[datetime, int], NewDelivery]]:
    reviews = [one for one in await github.reviews(number) if one.state in _VERDICTS and not one.author.is_bot]
    wanted = [(one.submitted_at, one) for one in reviews if one.submitted_at is not None and one.submitted_at >= since]
    if not wanted:
        return []
    pull = await github.pull(number)
    return [
        (
            (at, one.id),
            made_delivery(
                f"review:{one.id}",
                "pull_request_review",
                "submitted",
                one.author,
                github,
                pull_request=pull_part(pull),
                review=review_part(one, at),
            ),
        )
        for at, one in wanted
    ]


def _may_mean(comment: Comment) -> bool:
    by_person = not (comment.author.is_bot or comment.via_app or marker_of(comment.body))
    return by_person and bool(parser.parse(comment.body))


def _id_of(comment: Comment) -> str:
    return f"comment:{comment.id}"
