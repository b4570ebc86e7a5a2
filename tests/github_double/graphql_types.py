"""The object types that GraphQL serves: which fields they have and where each value comes from."""

from collections.abc import Callable
from typing import Any

from tests.github_double.issue import Issue
from tests.github_double.people import User
from tests.github_double.pull import Pull
from tests.github_double.records import Comment, Reaction, Review, ReviewComment
from tests.github_double.repository import Repository
from tests.github_double.world import World, stamp

Resolver = Callable[[World, Any], Any]
CONTENTS = {
    "THUMBS_UP": "+1",
    "THUMBS_DOWN": "-1",
    "LAUGH": "laugh",
    "CONFUSED": "confused",
    "HEART": "heart",
    "HOORAY": "hooray",
    "ROCKET": "rocket",
    "EYES": "eyes",
}
_NAMES = {value: name for name, value in CONTENTS.items()}
_KINDS = {
    Pull: "PullRequest",
    Issue: "Issue",
    Comment: "IssueComment",
    Review: "PullRequestReview",
    ReviewComment: "PullRequestReviewComment",
    Reaction: "Reaction",
    Repository: "Repository",
}


class Shape(dict[str, Any]):
    """A value without a class of its own: fields ready made, `kind` is its type."""

    def __init__(self, kind: str, **fields: Any) -> None:
        super().__init__(fields)
        self.kind = kind


def type_name(value: Any) -> str:
    """Return the GraphQL type of a value."""
    if isinstance(value, Shape):
        return value.kind
    if isinstance(value, User):
        return "Bot" if value.type == "Bot" else "User"
    return _KINDS[type(value)]


def connection(kind: str, nodes: list[Any]) -> Shape:
    """Return a whole list as a connection of one page."""
    page = Shape("PageInfo", hasNextPage=False, hasPreviousPage=False, startCursor=None, endCursor=None)
    edges = [Shape(f"{kind}Edge", node=node, cursor=str(at)) for at, node in enumerate(nodes)]
    return Shape(f"{kind}Connection", totalCount=len(nodes), nodes=nodes, edges=edges, pageInfo=page)


def _url(world: World, value: Any) -> str:
    issue = value if isinstance(value, Issue) else getattr(value, "issue", None) or getattr(value, "pull", None)
    assert issue is not None
    page = f"{world.server_url}/{issue.repository.full_name}/{'pull' if issue.is_pull else 'issues'}/{issue.number}"
    if isinstance(value, Comment):
        return f"{page}#issuecomment-{value.id}"
    return f"{page}#pullrequestreview-{value.id}" if isinstance(value, Review) else page


_NODE: dict[str, Resolver] = {"id": lambda _, value: value.node_id, "databaseId": lambda _, value: value.id}
_REACTABLE: dict[str, Resolver] = {
    "reactions": lambda _, value: connection("Reaction", value.reactions),
    "viewerHasReacted": lambda world, value: any(each.user is world.app.bot for each in value.reactions),
}
_MINIMIZABLE: dict[str, Resolver] = {
    "isMinimized": lambda _, value: value.minimized_reason is not None,
    "minimizedReason": lambda _, value: value.minimized_reason,
    "viewerCanMinimize": lambda _, value: True,
}
_ISSUE: dict[str, Resolver] = {
    "number": lambda _, value: value.number,
    "title": lambda _, value: value.title,
    "body": lambda _, value: value.body or "",
    "state": lambda _, value: "MERGED" if value.merged_at else value.state.upper(),
    "closed": lambda _, value: value.state == "closed",
    "url": _url,
    "author": lambda _, value: value.author,
    "createdAt": lambda _, value: stamp(value.created_at),
    "updatedAt": lambda _, value: stamp(value.updated_at),
    "repository": lambda _, value: value.repository,
    "comments": lambda _, value: connection("IssueComment", value.comments),
}
_USER: dict[str, Resolver] = {**_NODE, "login": lambda _, value: value.login.removesuffix("[bot]")}

FIELDS: dict[str, dict[str, Resolver]] = {
    "Issue": {**_NODE, **_REACTABLE, **_ISSUE},
    "PullRequest": {
        **_NODE,
        **_REACTABLE,
        **_ISSUE,
        "isDraft": lambda _, value: value.draft,
        "merged": lambda _, value: value.merged,
        "headRefName": lambda _, value: value.head_ref,
        "headRefOid": lambda _, value: value.head_sha,
        "baseRefName": lambda _, value: value.base_ref,
        "reviews": lambda _, value: connection("PullRequestReview", value.reviews),
    },
    "IssueComment": {
        **_NODE,
        **_REACTABLE,
        **_MINIMIZABLE,
        "fullDatabaseId": lambda _, value: str(value.id),
        "body": lambda _, value: value.body,
        "author": lambda _, value: value.author,
        "url": _url,
        "createdAt": lambda _, value: stamp(value.created_at),
        "lastEditedAt": lambda _, value: stamp(value.edited_at),
        "editor": lambda _, value: value.editor,
        "includesCreatedEdit": lambda _, value: value.edited_at is not None,
    },
    "PullRequestReview": {
        **_NODE,
        **_REACTABLE,
        **_MINIMIZABLE,
        "fullDatabaseId": lambda _, value: str(value.id),
        "body": lambda _, value: value.body,
        "state": lambda _, value: value.state,
        "author": lambda _, value: value.author,
        "url": _url,
        "submittedAt": lambda _, value: stamp(value.submitted_at),
    },
    "PullRequestReviewComment": {
        **_NODE,
        **_REACTABLE,
        **_MINIMIZABLE,
        "body": lambda _, value: value.body,
        "path": lambda _, value: value.path,
        "author": lambda _, value: value.review.author,
    },
    "Reaction": {
        **_NODE,
        "content": lambda _, value: _NAMES[value.content],
        "user": lambda _, value: value.user,
        "createdAt": lambda _, value: stamp(value.created_at),
    },
    "Repository": {
        **_NODE,
        "name": lambda _, value: value.name,
        "nameWithOwner": lambda _, value: value.full_name,
        "isPrivate": lambda _, value: value.private,
        "isArchived": lambda _, value: value.archived,
        "owner": lambda _, value: value.owner,
    },
    "User": _USER,
    "Bot": _USER,
}
INTERFACES = {
    "Node": set(FIELDS),
    "Actor": {"User", "Bot"},
    "Reactable": {"Issue", "PullRequest", "IssueComment", "PullRequestReview", "PullRequestReviewComment"},
    "Minimizable": {"IssueComment", "PullRequestReview", "PullRequestReviewComment"},
    "Comment": {"Issue", "PullRequest", "IssueComment", "PullRequestReview", "PullRequestReviewComment"},
}


def resolve(world: World, value: Any, name: str) -> Any:
    """Return a field of a value; raises KeyError where its type has none of that name."""
    if isinstance(value, Shape):
        return value[name]
    return FIELDS[type_name(value)][name](world, value)
