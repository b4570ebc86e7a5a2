"""The JSON of commits, branches, refs, files, check runs and statuses."""

import base64
from typing import TYPE_CHECKING, Any

from tests.github_double.bare import CommitInfo
from tests.github_double.records import CheckRun, Status
from tests.github_double.shapes.people import app, user
from tests.github_double.shapes.pulls import minimal_pull
from tests.github_double.shapes.repositories import repository
from tests.github_double.world import World, stamp

if TYPE_CHECKING:
    from tests.github_double.repository import Repository

Json = dict[str, Any]


def _root(world: World, which: "Repository") -> str:
    return f"{world.api_url}/repos/{which.full_name}"


def _hash_id(prefix: str, sha: str) -> str:
    return f"{prefix}_kwDO{base64.urlsafe_b64encode(sha.encode()).decode()}"


def commit(world: World, which: "Repository", info: CommitInfo) -> Json:
    """Return a commit."""
    root, page = _root(world, which), f"{world.server_url}/{which.full_name}"
    author = {"name": info.author_name, "email": info.author_email, "date": info.author_date}
    committer = {"name": info.committer_name, "email": info.committer_email, "date": info.committer_date}
    unsigned = {"verified": False, "reason": "unsigned", "signature": None, "payload": None, "verified_at": None}
    return {
        "sha": info.sha,
        "node_id": _hash_id("C", info.sha),
        "commit": {
            "author": author,
            "committer": committer,
            "message": info.message,
            "tree": {"sha": info.tree, "url": f"{root}/git/trees/{info.tree}"},
            "url": f"{root}/git/commits/{info.sha}",
            "comment_count": 0,
            "verification": unsigned,
        },
        "url": f"{root}/commits/{info.sha}",
        "html_url": f"{page}/commit/{info.sha}",
        "comments_url": f"{root}/commits/{info.sha}/comments",
        "author": user(world, which.user_of_email(info.author_email)),
        "committer": user(world, which.user_of_email(info.committer_email)),
        "parents": [
            {"sha": sha, "url": f"{root}/commits/{sha}", "html_url": f"{page}/commit/{sha}"} for sha in info.parents
        ],
    }


def branch(world: World, which: "Repository", name: str, info: CommitInfo) -> Json:
    """Return a branch with its last commit."""
    root = _root(world, which)
    checks = {"enforcement_level": "off", "contexts": [], "checks": []}
    return {
        "name": name,
        "commit": commit(world, which, info),
        "_links": {"self": f"{root}/branches/{name}", "html": f"{world.server_url}/{which.full_name}/tree/{name}"},
        "protected": False,
        "protection": {"enabled": False, "required_status_checks": checks},
        "protection_url": f"{root}/branches/{name}/protection",
    }


def ref(world: World, which: "Repository", name: str, sha: str) -> Json:
    """Return a git ref (`name` is whole, like `refs/heads/main`)."""
    root = _root(world, which)
    return {
        "ref": name,
        "node_id": _hash_id("REF", name),
        "url": f"{root}/git/{name}",
        "object": {"sha": sha, "type": "commit", "url": f"{root}/git/commits/{sha}"},
    }


def file_entry(world: World, which: "Repository", entry: tuple[str, str, int, str], at: str) -> Json:
    """Return a file or folder of a listing; `entry` is (type, sha, size, path), `at` the ref that was asked for."""
    kind, sha, size, path = entry
    root, page = _root(world, which), f"{world.server_url}/{which.full_name}"
    is_file = kind == "blob"
    links = {
        "self": f"{root}/contents/{path}?ref={at}",
        "git": f"{root}/git/{'blobs' if is_file else 'trees'}/{sha}",
        "html": f"{page}/{'blob' if is_file else 'tree'}/{at}/{path}",
    }
    return {
        "name": path.rpartition("/")[2],
        "path": path,
        "sha": sha,
        "size": size,
        "url": links["self"],
        "html_url": links["html"],
        "git_url": links["git"],
        "download_url": f"{page}/raw/{at}/{path}" if is_file else None,
        "type": "file" if is_file else "dir",
        "_links": links,
    }


def check_run(world: World, which: "Repository", run: CheckRun) -> Json:
    """Return a check run."""
    api = f"{_root(world, which)}/check-runs/{run.id}"
    pulls = [each for each in which.pulls if each.state == "open" and each.head_sha == run.head_sha]
    return {
        "id": run.id,
        "name": run.name,
        "node_id": run.node_id,
        "head_sha": run.head_sha,
        "external_id": run.external_id,
        "url": api,
        "html_url": f"{world.server_url}/{which.full_name}/runs/{run.id}",
        "details_url": run.details_url or f"{world.server_url}/apps/{run.app.slug}",
        "status": run.status,
        "conclusion": run.conclusion,
        "started_at": stamp(run.started_at),
        "completed_at": stamp(run.completed_at),
        "output": {
            "title": run.title,
            "summary": run.summary,
            "text": run.text,
            "annotations_count": 0,
            "annotations_url": f"{api}/annotations",
        },
        "check_suite": {"id": which.check_suite_id(run.head_sha)},
        "app": app(world, run.app),
        "pull_requests": [minimal_pull(world, each) for each in pulls],
    }


def status(world: World, which: "Repository", one: Status) -> Json:
    """Return a commit status."""
    return {
        "url": f"{_root(world, which)}/statuses/{one.sha}",
        "avatar_url": f"{world.server_url}/avatars/u/{one.creator.id}?v=4",
        "id": one.id,
        "node_id": one.node_id,
        "state": one.state,
        "description": one.description,
        "target_url": one.target_url,
        "context": one.context,
        "created_at": stamp(one.created_at),
        "updated_at": stamp(one.created_at),
        "creator": user(world, one.creator),
    }


def combined_status(world: World, which: "Repository", sha: str, newest: list[Status]) -> Json:
    """Return the newest status of each context and what they make together."""
    states = {each.state for each in newest}
    overall = "failure" if states & {"failure", "error"} else "success" if states == {"success"} else "pending"
    root = _root(world, which)
    return {
        "state": overall,
        "statuses": [
            {name: value for name, value in status(world, which, each).items() if name != "creator"} for each in newest
        ],
        "sha": sha,
        "total_count": len(newest),
        "repository": repository(world, which),
        "commit_url": f"{root}/commits/{sha}",
        "url": f"{root}/commits/{sha}/status",
    }


def pushed_commit(world: World, which: "Repository", info: CommitInfo, changed: dict[str, list[str]]) -> Json:
    """Return a commit as it stands in a `push` webhook."""

    def person(name: str, email: str) -> Json:
        known = which.user_of_email(email)
        return {"name": name, "email": email} | ({"username": known.login} if known else {})

    return {
        "id": info.sha,
        "tree_id": info.tree,
        "distinct": True,
        "message": info.message,
        "timestamp": info.committer_date,
        "url": f"{world.server_url}/{which.full_name}/commit/{info.sha}",
        "author": person(info.author_name, info.author_email),
        "committer": person(info.committer_name, info.committer_email),
    } | changed
