"""What people said on an issue while no job ran for it: comments and reviews of which no event has come.

A job can be cancelled while it waits, and a runner can vanish before it has read its event; GitHub tells nothing twice.
So each step looks for itself. What it finds becomes the event that would have told of it, and the handlers decide; a
comment that was changed meanwhile is left out, because nobody knows what it said.
"""

import json
from datetime import datetime
from typing import Any

from app.action.packing import IssueRows
from app.github.client import GitHubRepository
from app.github.shapes import Comment, Issue, Person, Pull, Review
from app.inbound.commands import parser
from app.surface.render import marker_of
from engine.store.deliveries import NewDelivery

_VERDICTS = ("approved", "changes_requested")

Json = dict[str, Any]


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
            _delivery(
                _id_of(one),
                "issue_comment",
                "created",
                one.author,
                github,
                issue=_issue(issue),
                comment=_comment(one),
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
            _delivery(
                f"review:{one.id}",
                "pull_request_review",
                "submitted",
                one.author,
                github,
                pull_request=_pull(pull),
                review=_review(one, at),
            ),
        )
        for at, one in wanted
    ]


def _may_mean(comment: Comment) -> bool:
    by_person = not (comment.author.is_bot or comment.via_app or marker_of(comment.body))
    return by_person and bool(parser.parse(comment.body))


def _id_of(comment: Comment) -> str:
    return f"comment:{comment.id}"


def _delivery(
    delivery_id: str, event: str, action: str, sender: Person, github: GitHubRepository, **parts: Json
) -> NewDelivery:
    repository = {
        "id": github.repository_id,
        "full_name": github.full_name,
        "default_branch": github.known_default_branch,
        "private": True,
    }
    body = {"action": action, "repository": repository, "sender": _person(sender), **parts}
    return NewDelivery(delivery_id, event, {}, json.dumps(body).encode())


def _person(person: Person) -> Json:
    return {"id": person.id, "login": person.login, "type": "Bot" if person.is_bot else "User"}


def _issue(issue: Issue) -> Json:
    return {
        "number": issue.number,
        "id": issue.id,
        "title": issue.title,
        "body": issue.body,
        "state": issue.state,
        "updated_at": _time(issue.updated_at),
        "user": _person(issue.author),
        "labels": [{"name": label} for label in issue.labels],
        **({"pull_request": {}} if issue.is_pull else {}),
    }


def _comment(comment: Comment) -> Json:
    return {
        "id": comment.id,
        "node_id": comment.node_id,
        "user": _person(comment.author),
        "body": comment.body,
        "created_at": _time(comment.created_at),
        "updated_at": _time(comment.updated_at),
    }


def _pull(pull: Pull) -> Json:
    return {
        "number": pull.number,
        "id": pull.id,
        "node_id": pull.node_id,
        "draft": pull.draft,
        "state": pull.state,
        "merged": pull.merged,
        "head": {
            "ref": pull.head_ref,
            "sha": pull.head_sha,
            "repo": None if pull.head_repository_id is None else {"id": pull.head_repository_id},
        },
        "base": {"ref": pull.base_ref},
        "title": pull.title,
        "body": pull.body,
        "html_url": pull.url,
        "user": _person(pull.author),
    }


def _review(review: Review, at: datetime) -> Json:
    return {
        "id": review.id,
        "node_id": review.node_id,
        "user": _person(review.author),
        "state": review.state,
        "body": review.body,
        "commit_id": review.commit_id,
        "submitted_at": _time(at),
    }


def _time(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%SZ}"
