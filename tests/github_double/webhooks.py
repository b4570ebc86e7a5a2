"""Which webhook follows from what happened, and its payload; the outbox signs and sends it.

A webhook leaves only where the App is installed on the repository, not suspended, and subscribed to the event.
Workflows are started wherever they are, with the same payload less the installation.
"""

from typing import TYPE_CHECKING, Any, cast

from tests.github_double.bare import ZERO
from tests.github_double.people import WORKFLOW_EVENTS, Installation, User
from tests.github_double.shapes import commits, issues, people, pulls, repositories
from tests.github_double.world import World

if TYPE_CHECKING:
    from tests.github_double.issue import Issue
    from tests.github_double.pull import Pull
    from tests.github_double.records import CheckRun, Comment, Label, Review, ReviewComment, Status
    from tests.github_double.repository import Repository

Json = dict[str, Any]


def announce(
    world: World, event: str, repository: "Repository", sender: User, parts: Json, shape: Json | None = None
) -> None:
    """Queue an event of a repository, and start what workflows it starts; `parts` stand before the common fields."""
    installation = repository.installation
    if installation is not None and (installation.suspended_at is not None or event not in world.app.events):
        installation = None
    # what a job does by its own token starts no other job, or they would never end
    starts = world.on_workflow_event if event in WORKFLOW_EVENTS and sender is not world.actions.bot else None
    if installation is None and starts is None:
        return
    payload = parts | {
        "repository": shape or repositories.repository(world, repository),
        "sender": people.user(world, sender),
    }
    if installation is not None:
        named = {"installation": {"id": installation.id, "node_id": installation.node_id}}
        world.outbox.add(event, payload | named, installation.id, repository.id)
    if starts is not None:
        starts(event, payload)


def on_issue(issue: "Issue", action: str, sender: User, **more: Any) -> None:
    """Tell of an issue, or of a pull request where the issue is one."""
    world = issue.repository.world
    if issue.is_pull:
        shape = {"number": issue.number, "pull_request": pulls.full_pull(world, cast("Pull", issue))}
        announce(world, "pull_request", issue.repository, sender, {"action": action} | shape | more)
    else:
        announce(
            world, "issues", issue.repository, sender, {"action": action, "issue": issues.issue(world, issue)} | more
        )


def on_label(issue: "Issue", action: str, sender: User, label: "Label") -> None:
    """Tell of a label that was put on or taken off."""
    on_issue(issue, action, sender, label=repositories.label(issue.repository.world, issue.repository, label))


def on_comment(comment: "Comment", action: str, sender: User, **more: Any) -> None:
    """Tell of a comment in a conversation."""
    repository = comment.issue.repository
    world = repository.world
    parts = {"action": action, "issue": issues.issue(world, comment.issue), "comment": issues.comment(world, comment)}
    announce(world, "issue_comment", repository, sender, parts | more)


def on_review(review: "Review", action: str, sender: User, **more: Any) -> None:
    """Tell of a review."""
    repository = review.pull.repository
    world = repository.world
    shape = pulls.review(world, review, webhook=True)
    parts = {"action": action, "review": shape, "pull_request": pulls.pull(world, review.pull)}
    announce(world, "pull_request_review", repository, sender, parts | more)


def on_review_comment(comment: "ReviewComment", sender: User) -> None:
    """Tell of a comment on a line."""
    pull = comment.review.pull
    world = pull.repository.world
    parts = {
        "action": "created",
        "comment": pulls.review_comment(world, comment),
        "pull_request": pulls.pull(world, pull),
    }
    announce(world, "pull_request_review_comment", pull.repository, sender, parts)


def on_push(repository: "Repository", sender: User, ref: str, before: str, after: str) -> None:
    """Tell of a ref that was made, moved or removed by a push."""
    world, git = repository.world, repository.git
    new = [] if after == ZERO else git.commits_between(before, after)
    described = [commits.pushed_commit(world, repository, git.info(sha), git.changed_paths(sha)) for sha in new]
    head = None
    if after != ZERO:
        last = described[-1] if described and described[-1]["id"] == after else None
        head = last or commits.pushed_commit(world, repository, git.info(after), git.changed_paths(after))
    forced = ZERO not in (before, after) and not git.is_ancestor(before, after)
    parts = {
        "ref": ref,
        "before": before,
        "after": after,
        "pusher": {"name": sender.login, "email": repository.email_of(sender)},
        "created": before == ZERO,
        "deleted": after == ZERO,
        "forced": forced,
        "base_ref": None,
        "compare": f"{world.server_url}/{repository.full_name}/compare/{before[:12]}...{after[:12]}",
        "commits": described,
        "head_commit": head,
    }
    announce(world, "push", repository, sender, parts, repositories.pushed_repository(world, repository))


def on_ref(repository: "Repository", event: str, sender: User, ref: str) -> None:
    """Tell of a branch or tag that was made (`create`) or removed (`delete`)."""
    kind = "branch" if ref.startswith("refs/heads/") else "tag"
    parts: Json = {"ref": ref.split("/", 2)[2], "ref_type": kind}
    if event == "create":
        parts |= {"master_branch": repository.default_branch, "description": None}
    announce(repository.world, event, repository, sender, parts | {"pusher_type": "user"})


def on_synchronize(pull: "Pull", sender: User, before: str, after: str) -> None:
    """Tell of new commits on a pull request."""
    on_issue(pull, "synchronize", sender, before=before, after=after)


def on_check_run(repository: "Repository", run: "CheckRun", action: str, sender: User) -> None:
    """Tell of a check run, where the App listens for them."""
    shape = commits.check_run(repository.world, repository, run)
    announce(repository.world, "check_run", repository, sender, {"action": action, "check_run": shape})


def on_status(repository: "Repository", status: "Status", sender: User) -> None:
    """Tell of a commit status, where the App listens for them."""
    world = repository.world
    shape = commits.status(world, repository, status)
    parts = {name: shape[name] for name in ("id", "state", "description", "target_url", "context", "created_at")}
    parts |= {
        "sha": status.sha,
        "name": repository.full_name,
        "updated_at": shape["updated_at"],
        "avatar_url": shape["avatar_url"],
        "commit": commits.commit(world, repository, repository.git.info(status.sha)),
        "branches": [],
    }
    announce(world, "status", repository, sender, parts)


def on_repository(repository: "Repository", action: str, sender: User, **more: Any) -> None:
    """Tell of a repository that was renamed, deleted, archived, ..."""
    announce(repository.world, "repository", repository, sender, {"action": action} | more)


def on_installation(world: World, which: Installation, action: str, sender: User, touched: "list[Repository]") -> None:
    """Tell the App of its own installation; every App hears of it, whatever it has subscribed to."""
    listed = [_listed(each) for each in touched]
    parts: Json = {"action": action, "installation": people.installation(world, which)}
    event = "installation"
    if action in ("added", "removed"):
        event = "installation_repositories"
        parts |= {
            "repository_selection": "selected",
            "repositories_added": listed if action == "added" else [],
            "repositories_removed": listed if action == "removed" else [],
        }
    else:
        parts["repositories"] = listed
    parts |= {"requester": None, "sender": people.user(world, sender)}
    world.outbox.add(event, parts, which.id, None)


def _listed(which: "Repository") -> Json:
    return {
        "id": which.id,
        "node_id": which.node_id,
        "name": which.name,
        "full_name": which.full_name,
        "private": which.private,
    }
