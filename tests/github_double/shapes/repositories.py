"""The JSON of a repository, of its labels, and what a user may do in it."""

from typing import TYPE_CHECKING, Any

from tests.github_double.people import ROLES, User
from tests.github_double.records import Label
from tests.github_double.shapes.people import user
from tests.github_double.world import World, stamp

if TYPE_CHECKING:
    from tests.github_double.repository import Repository

Json = dict[str, Any]

_URLS = {
    "archive_url": "/{archive_format}{/ref}",
    "assignees_url": "/assignees{/user}",
    "blobs_url": "/git/blobs{/sha}",
    "branches_url": "/branches{/branch}",
    "collaborators_url": "/collaborators{/collaborator}",
    "comments_url": "/comments{/number}",
    "commits_url": "/commits{/sha}",
    "compare_url": "/compare/{base}...{head}",
    "contents_url": "/contents/{+path}",
    "contributors_url": "/contributors",
    "deployments_url": "/deployments",
    "downloads_url": "/downloads",
    "events_url": "/events",
    "forks_url": "/forks",
    "git_commits_url": "/git/commits{/sha}",
    "git_refs_url": "/git/refs{/sha}",
    "git_tags_url": "/git/tags{/sha}",
    "hooks_url": "/hooks",
    "issue_comment_url": "/issues/comments{/number}",
    "issue_events_url": "/issues/events{/number}",
    "issues_url": "/issues{/number}",
    "keys_url": "/keys{/key_id}",
    "labels_url": "/labels{/name}",
    "languages_url": "/languages",
    "merges_url": "/merges",
    "milestones_url": "/milestones{/number}",
    "notifications_url": "/notifications{?since,all,participating}",
    "pulls_url": "/pulls{/number}",
    "releases_url": "/releases{/id}",
    "stargazers_url": "/stargazers",
    "statuses_url": "/statuses/{sha}",
    "subscribers_url": "/subscribers",
    "subscription_url": "/subscription",
    "tags_url": "/tags",
    "teams_url": "/teams",
    "trees_url": "/git/trees{/sha}",
}


def repository(world: World, which: "Repository") -> Json:
    """Return a repository as webhooks and other objects carry it."""
    api = f"{world.api_url}/repos/{which.full_name}"
    page = f"{world.server_url}/{which.full_name}"
    open_ones = sum(issue.state == "open" for issue in which.numbered.values())
    shape: Json = {
        "id": which.id,
        "node_id": which.node_id,
        "name": which.name,
        "full_name": which.full_name,
        "private": which.private,
        "owner": user(world, which.owner),
        "html_url": page,
        "description": None,
        "fork": False,
        "url": api,
    }
    shape |= {name: api + rest for name, rest in _URLS.items()}
    return shape | {
        "created_at": stamp(which.created_at),
        "updated_at": stamp(which.created_at),
        "pushed_at": stamp(which.pushed_at),
        "git_url": page.replace("http:", "git:") + ".git",
        "ssh_url": f"git@127.0.0.1:{which.full_name}.git",
        "clone_url": f"{page}.git",
        "svn_url": page,
        "homepage": None,
        "size": 1,
        "stargazers_count": 0,
        "watchers_count": 0,
        "language": None,
        "has_issues": True,
        "has_projects": False,
        "has_downloads": True,
        "has_wiki": False,
        "has_pages": False,
        "has_discussions": False,
        "forks_count": 0,
        "mirror_url": None,
        "archived": which.archived,
        "disabled": False,
        "open_issues_count": open_ones,
        "license": None,
        "allow_forking": True,
        "is_template": False,
        "web_commit_signoff_required": False,
        "topics": [],
        "visibility": "private" if which.private else "public",
        "forks": 0,
        "open_issues": open_ones,
        "watchers": 0,
        "default_branch": which.default_branch,
    }


def full_repository(world: World, which: "Repository", *, push: bool) -> Json:
    """Return a repository as `GET /repos/{owner}/{repo}` has it; `push` is what the asking token may do."""
    may = {"admin": False, "maintain": False, "push": push, "triage": push, "pull": True}
    counts = {"network_count": 0, "subscribers_count": 0, "temp_clone_token": ""}
    merging = {"allow_squash_merge": True, "allow_merge_commit": True, "allow_rebase_merge": True}
    return repository(world, which) | counts | merging | {"permissions": may}


def pushed_repository(world: World, which: "Repository") -> Json:
    """Return a repository as it stands in a `push` webhook, where times are numbers."""
    shape = repository(world, which)
    owner = (user(world, which.owner) or {}) | {"name": which.owner.login, "email": None}
    numbers = {
        "created_at": int(which.created_at.timestamp()),
        "pushed_at": int(which.pushed_at.timestamp()),
        "stargazers": 0,
        "master_branch": which.default_branch,
    }
    return shape | {"owner": owner} | numbers


def label(world: World, which: "Repository", one: Label) -> Json:
    """Return a label."""
    return {
        "id": one.id,
        "node_id": one.node_id,
        "url": f"{world.api_url}/repos/{which.full_name}/labels/{one.name.replace(' ', '%20')}",
        "name": one.name,
        "color": one.color,
        "default": False,
        "description": one.description,
        "archived_at": None,
        "archived_by": None,
    }


def abilities(role: str) -> dict[str, bool]:
    """Return the table of what a role may do."""
    rank = ROLES.index(role)
    steps = (("pull", "read"), ("triage", "triage"), ("push", "write"), ("maintain", "maintain"), ("admin", "admin"))
    return {name: rank >= ROLES.index(least) for name, least in steps}


def collaborator(world: World, who: User, role: str) -> Json:
    """Return a user with role and abilities in a repository."""
    return (user(world, who) or {}) | {"permissions": abilities(role), "role_name": role}
