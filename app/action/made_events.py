"""Events that are made here, as GitHub would have sent them: of what happened while no job was started for it."""

import json
from datetime import datetime
from typing import Any

from app.github.client import GitHubRepository
from app.github.shapes import Comment, Issue, Person, Pull, Review
from engine.store.deliveries import NewDelivery

Json = dict[str, Any]


def made_delivery(
    delivery_id: str, event: str, action: str, sender: Person, github: GitHubRepository, **parts: Any
) -> NewDelivery:
    """Return the event that GitHub would have told of, under an id of ours."""
    repository = {
        "id": github.repository_id,
        "full_name": github.full_name,
        "default_branch": github.known_default_branch,
        "private": True,
    }
    body = {"action": action, "repository": repository, "sender": person_part(sender), **parts}
    return NewDelivery(delivery_id, event, {}, json.dumps(body).encode())


def person_part(person: Person) -> Json:
    """Return a person as an event has it."""
    return {"id": person.id, "login": person.login, "type": "Bot" if person.is_bot else "User"}


def issue_part(issue: Issue) -> Json:
    """Return an issue as an event has it."""
    return {
        "number": issue.number,
        "id": issue.id,
        "title": issue.title,
        "body": issue.body,
        "state": issue.state,
        "updated_at": _time(issue.updated_at),
        "user": person_part(issue.author),
        "labels": [{"name": label} for label in issue.labels],
        **({"pull_request": {}} if issue.is_pull else {}),
    }


def comment_part(comment: Comment) -> Json:
    """Return a comment as an event has it."""
    return {
        "id": comment.id,
        "node_id": comment.node_id,
        "user": person_part(comment.author),
        "body": comment.body,
        "created_at": _time(comment.created_at),
        "updated_at": _time(comment.updated_at),
    }


def pull_part(pull: Pull) -> Json:
    """Return a pull request as an event has it."""
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
        "user": person_part(pull.author),
    }


def review_part(review: Review, at: datetime) -> Json:
    """Return a review that was given at a time as an event has it."""
    return {
        "id": review.id,
        "node_id": review.node_id,
        "user": person_part(review.author),
        "state": review.state,
        "body": review.body,
        "commit_id": review.commit_id,
        "submitted_at": _time(at),
    }


def _time(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%SZ}"
