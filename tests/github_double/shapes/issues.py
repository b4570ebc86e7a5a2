"""The JSON of issues, comments, reactions and of an issue's events."""

from collections import Counter
from typing import TYPE_CHECKING, Any

from tests.github_double.people import User
from tests.github_double.records import REACTIONS, Comment, Happening, Reaction
from tests.github_double.shapes.people import user, via_app
from tests.github_double.shapes.repositories import label
from tests.github_double.world import World, stamp

if TYPE_CHECKING:
    from tests.github_double.issue import Issue
    from tests.github_double.repository import Repository

Json = dict[str, Any]


def association(repository: "Repository", who: User) -> str:
    """Return what GitHub calls the relation of an author to a repository."""
    if who is repository.owner:
        return "OWNER"
    return "COLLABORATOR" if repository.roles.get(who.id, "none") != "none" else "NONE"


def rollup(url: str, reactions: list[Reaction]) -> Json:
    """Return the counts of reactions."""
    counts = Counter(each.content for each in reactions)
    return {"url": f"{url}/reactions", "total_count": len(reactions)} | {name: counts[name] for name in REACTIONS}


def issue(world: World, which: "Issue") -> Json:
    """Return an issue, or a pull request as the issues' endpoints have it (with `pull_request`)."""
    repository = which.repository
    root = f"{world.api_url}/repos/{repository.full_name}"
    api = f"{root}/issues/{which.number}"
    page = f"{world.server_url}/{repository.full_name}"
    shape: Json = {
        "url": api,
        "repository_url": root,
        "labels_url": f"{api}/labels{{/name}}",
        "comments_url": f"{api}/comments",
        "events_url": f"{api}/events",
        "html_url": f"{page}/{'pull' if which.is_pull else 'issues'}/{which.number}",
        "id": which.issue_id,
        "node_id": which.node_id,
        "number": which.number,
        "title": which.title,
        "user": user(world, which.author),
        "labels": [label(world, repository, each) for each in which.label_objects],
        "state": which.state,
        "locked": which.locked,
        "assignee": None,
        "assignees": [],
        "milestone": None,
        "comments": len(which.comments),
        "created_at": stamp(which.created_at),
        "updated_at": stamp(which.updated_at),
        "closed_at": stamp(which.closed_at),
        "author_association": association(repository, which.author),
        "active_lock_reason": None,
        "body": which.body,
        "reactions": rollup(api, which.reactions),
        "timeline_url": f"{api}/timeline",
        "performed_via_github_app": via_app(world, which.author),
        "state_reason": which.state_reason,
    }
    if which.is_pull:
        pull = f"{page}/pull/{which.number}"
        shape["draft"] = which.draft
        shape["pull_request"] = {
            "url": f"{root}/pulls/{which.number}",
            "html_url": pull,
            "diff_url": f"{pull}.diff",
            "patch_url": f"{pull}.patch",
            "merged_at": stamp(which.merged_at),
        }
    return shape


def full_issue(world: World, which: "Issue") -> Json:
    """Return an issue as `GET .../issues/{number}` has it."""
    return issue(world, which) | {"closed_by": user(world, which.closed_by)}


def comment(world: World, which: Comment) -> Json:
    """Return a comment on an issue or pull request."""
    on = which.issue
    root = f"{world.api_url}/repos/{on.repository.full_name}/issues"
    kind = "pull" if on.is_pull else "issues"
    page = f"{world.server_url}/{on.repository.full_name}/{kind}/{on.number}#issuecomment-{which.id}"
    return {
        "url": f"{root}/comments/{which.id}",
        "html_url": page,
        "issue_url": f"{root}/{on.number}",
        "id": which.id,
        "node_id": which.node_id,
        "user": user(world, which.author),
        "created_at": stamp(which.created_at),
        "updated_at": stamp(which.updated_at),
        "author_association": association(on.repository, which.author),
        "body": which.body,
        "reactions": rollup(f"{root}/comments/{which.id}", which.reactions),
        "performed_via_github_app": via_app(world, which.author),
    }


def reaction(world: World, which: Reaction) -> Json:
    """Return a reaction."""
    return {
        "id": which.id,
        "node_id": which.node_id,
        "user": user(world, which.user),
        "content": which.content,
        "created_at": stamp(which.created_at),
    }


def happening(world: World, on: "Issue", which: Happening) -> Json:
    """Return a row of an issue's events."""
    root = f"{world.api_url}/repos/{on.repository.full_name}/issues"
    details = dict(which.details)
    if "label" in details:
        details["label"] = {"name": details["label"].name, "color": details["label"].color}
    return {
        "id": which.id,
        "node_id": which.node_id,
        "url": f"{root}/events/{which.id}",
        "actor": user(world, which.actor),
        "event": which.event,
        "commit_id": None,
        "commit_url": None,
        "created_at": stamp(which.created_at),
        "performed_via_github_app": via_app(world, which.actor),
    } | details


def timeline_comment(world: World, which: Comment) -> Json:
    """Return a comment as it stands in a timeline."""
    shape = comment(world, which)
    return shape | {"event": "commented", "actor": shape["user"]}
