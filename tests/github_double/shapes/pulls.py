"""The JSON of pull requests, reviews and review comments."""

from typing import TYPE_CHECKING, Any

from tests.github_double.records import Review, ReviewComment
from tests.github_double.shapes.issues import association, rollup
from tests.github_double.shapes.people import user
from tests.github_double.shapes.repositories import label, repository
from tests.github_double.world import World, stamp

if TYPE_CHECKING:
    from tests.github_double.pull import Pull

Json = dict[str, Any]


def _end(world: World, which: "Pull", ref: str, sha: str) -> Json:
    owner = which.repository.owner
    return {
        "label": f"{owner.login}:{ref}",
        "ref": ref,
        "sha": sha,
        "user": user(world, owner),
        "repo": repository(world, which.repository),
    }


def api_url(world: World, which: "Pull") -> str:
    """Return the address of a pull request in the REST API."""
    return f"{world.api_url}/repos/{which.repository.full_name}/pulls/{which.number}"


def pull(world: World, which: "Pull") -> Json:
    """Return a pull request as lists and review webhooks have it."""
    root = f"{world.api_url}/repos/{which.repository.full_name}"
    api = api_url(world, which)
    issue = f"{root}/issues/{which.number}"
    page = f"{world.server_url}/{which.repository.full_name}/pull/{which.number}"
    links = {
        "self": api,
        "html": page,
        "issue": issue,
        "comments": f"{issue}/comments",
        "review_comments": f"{api}/comments",
        "review_comment": f"{root}/pulls/comments{{/number}}",
        "commits": f"{api}/commits",
        "statuses": f"{root}/statuses/{which.head_sha}",
    }
    return {
        "url": api,
        "id": which.id,
        "node_id": which.node_id,
        "html_url": page,
        "diff_url": f"{page}.diff",
        "patch_url": f"{page}.patch",
        "issue_url": issue,
        "number": which.number,
        "state": which.state,
        "locked": which.locked,
        "title": which.title,
        "user": user(world, which.author),
        "body": which.body or None,
        "created_at": stamp(which.created_at),
        "updated_at": stamp(which.updated_at),
        "closed_at": stamp(which.closed_at),
        "merged_at": stamp(which.merged_at),
        "merge_commit_sha": which.merge_commit_sha,
        "assignee": None,
        "assignees": [],
        "requested_reviewers": [],
        "requested_teams": [],
        "labels": [label(world, which.repository, each) for each in which.label_objects],
        "milestone": None,
        "draft": which.draft,
        "commits_url": links["commits"],
        "review_comments_url": links["review_comments"],
        "review_comment_url": links["review_comment"],
        "comments_url": links["comments"],
        "statuses_url": links["statuses"],
        "head": _end(world, which, which.head_ref, which.head_sha),
        "base": _end(world, which, which.base_ref, which.base_sha),
        "_links": {name: {"href": target} for name, target in links.items()},
        "author_association": association(which.repository, which.author),
        "auto_merge": None,
        "active_lock_reason": None,
    }


def full_pull(world: World, which: "Pull") -> Json:
    """Return a pull request as its own endpoint and `pull_request` webhooks have it."""
    commits, additions, deletions, files = which.size_of_change()
    return pull(world, which) | {
        "merged": which.merged,
        "mergeable": None if which.merged else True,
        "rebaseable": None,
        "mergeable_state": "unknown" if which.merged else "clean",
        "merged_by": user(world, which.merged_by),
        "comments": len(which.comments),
        "review_comments": sum(len(review.comments) for review in which.reviews),
        "maintainer_can_modify": False,
        "commits": commits,
        "additions": additions,
        "deletions": deletions,
        "changed_files": files,
    }


def minimal_pull(world: World, which: "Pull") -> Json:
    """Return a pull request as it stands in a check run."""
    repository_ = which.repository
    inside = {
        "id": repository_.id,
        "url": f"{world.api_url}/repos/{repository_.full_name}",
        "name": repository_.name,
    }
    return {
        "id": which.id,
        "number": which.number,
        "url": api_url(world, which),
        "head": {"ref": which.head_ref, "sha": which.head_sha, "repo": inside},
        "base": {"ref": which.base_ref, "sha": which.base_sha, "repo": inside},
    }


def review(world: World, which: Review, *, webhook: bool = False) -> Json:
    """Return a review; in webhooks its state is in lower case."""
    page = f"{world.server_url}/{which.pull.repository.full_name}/pull/{which.pull.number}"
    html = f"{page}#pullrequestreview-{which.id}"
    shape = {
        "id": which.id,
        "node_id": which.node_id,
        "user": user(world, which.author),
        "body": which.body,
        "state": which.state.lower() if webhook else which.state,
        "html_url": html,
        "pull_request_url": api_url(world, which.pull),
        "author_association": association(which.pull.repository, which.author),
        "_links": {"html": {"href": html}, "pull_request": {"href": api_url(world, which.pull)}},
        "submitted_at": stamp(which.submitted_at),
        "commit_id": which.commit_id,
    }
    if webhook:
        shape |= {"body": which.body or None, "updated_at": stamp(which.submitted_at)}
    return shape


def review_comment(world: World, which: ReviewComment, *, legacy: bool = False) -> Json:
    """Return a comment of a review; the list of one review's comments (`legacy`) has no lines."""
    on = which.review.pull
    root = f"{world.api_url}/repos/{on.repository.full_name}/pulls"
    html = f"{world.server_url}/{on.repository.full_name}/pull/{on.number}#discussion_r{which.id}"
    api = f"{root}/comments/{which.id}"
    shape = {
        "url": api,
        "pull_request_review_id": which.review.id,
        "id": which.id,
        "node_id": which.node_id,
        "diff_hunk": f"@@ -0,0 +1,{which.line} @@",
        "path": which.path,
        "position": which.line,
        "original_position": which.line,
        "commit_id": which.review.commit_id,
        "original_commit_id": which.review.commit_id,
        "user": user(world, which.review.author),
        "body": which.body,
        "created_at": stamp(which.created_at),
        "updated_at": stamp(which.created_at),
        "html_url": html,
        "pull_request_url": f"{root}/{on.number}",
        "author_association": association(on.repository, which.review.author),
        "_links": {
            "self": {"href": api},
            "html": {"href": html},
            "pull_request": {"href": f"{root}/{on.number}"},
        },
        "reactions": rollup(api, which.reactions),
    }
    if not legacy:
        shape |= {
            "start_line": None,
            "original_start_line": None,
            "start_side": None,
            "line": which.line,
            "original_line": which.line,
            "side": "RIGHT",
            "subject_type": "line",
        }
    return shape
