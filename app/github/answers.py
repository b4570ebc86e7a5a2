"""Reads GitHub's objects into the shapes, from answers of the API and from webhook bodies alike.

Every function raises `Unreadable` for what is not the object that its name says.
"""

from app.github.reading import Fields, Unreadable
from app.github.shapes import (
    GHOST,
    Check,
    Comment,
    Edit,
    Happening,
    HookDelivery,
    Issue,
    Permission,
    Person,
    Pull,
    RepositoryFacts,
    Review,
    ReviewComment,
    Role,
)

# Each role, and how high the permission is that GitHub gives with it.
_ROLES: dict[str, tuple[Role, int]] = {
    "none": ("none", 0),
    "read": ("read", 1),
    "triage": ("triage", 1),
    "write": ("write", 2),
    "maintain": ("maintain", 2),
    "admin": ("admin", 3),
}


def person_of(fields: Fields | None) -> Person:
    """Read a user; a missing one is a deleted account."""
    if fields is None:
        return GHOST
    login = fields.text("login")
    return Person(
        fields.number("id"), login, is_bot=fields.maybe_text("type") == "Bot" or login.casefold().endswith("[bot]")
    )


def issue_of(fields: Fields) -> Issue:
    """Read an issue."""
    return Issue(
        number=fields.number("number"),
        id=fields.number("id"),
        title=fields.text("title"),
        body=fields.maybe_text("body"),
        state=fields.text("state"),
        author=person_of(fields.maybe_child("user")),
        labels=tuple(label.text("name") for label in fields.children("labels")),
        created_at=fields.time("created_at"),
        updated_at=fields.time("updated_at"),
        is_pull=fields.has("pull_request"),
    )


def comment_of(fields: Fields) -> Comment:
    """Read a comment on an issue or pull request."""
    app = fields.maybe_child("performed_via_github_app")
    return Comment(
        id=fields.number("id"),
        node_id=fields.text("node_id"),
        author=person_of(fields.maybe_child("user")),
        body=fields.maybe_text("body"),
        created_at=fields.time("created_at"),
        updated_at=fields.time("updated_at"),
        via_app=app is not None,
        app_id=app.maybe_number("id") if app else None,
    )


def happening_of(fields: Fields) -> Happening:
    """Read a row of an issue's events."""
    label, review = fields.maybe_child("label"), fields.maybe_child("dismissed_review")
    return Happening(
        event=fields.text("event"),
        actor=person_of(fields.maybe_child("actor")),
        created_at=fields.time("created_at"),
        label=label.maybe_text("name") if label else "",
        review_id=review.maybe_number("review_id") if review else None,
        review_state=review.maybe_text("state").lower() if review else "",
    )


def edit_of(fields: Fields) -> Edit | None:
    """Read the last change of a text from GraphQL, which writes a bot's login without its ending; None: unchanged."""
    at, editor = fields.maybe_time("lastEditedAt"), fields.maybe_child("editor")
    if at is None:
        return None
    if editor is None:
        return Edit(at, "")
    login = editor.text("login")
    is_bot = editor.maybe_text("__typename") == "Bot" and not login.endswith("[bot]")
    return Edit(at, f"{login}[bot]" if is_bot else login)


def permission_of(fields: Fields) -> Permission:
    """Read the effective permission; a custom role counts as the base role that GitHub gives with it.

    The role's name says more (triage, maintain) but is an organisation's to choose, so it never counts for more than
    the permission.
    """
    permission, name = fields.text("permission"), fields.maybe_text("role_name")
    if permission not in _ROLES:
        raise Unreadable("permission is not one of GitHub's")
    said = name if name in _ROLES and _ROLES[name][1] <= _ROLES[permission][1] else permission
    role = _ROLES[said][0]
    user = fields.maybe_child("user")
    return Permission(role, user.number("id") if user else None)


def pull_of(fields: Fields) -> Pull:
    """Read a pull request."""
    head = fields.child("head")
    repository = head.maybe_child("repo")
    return Pull(
        number=fields.number("number"),
        id=fields.number("id"),
        node_id=fields.text("node_id"),
        draft=fields.flag("draft"),
        state=fields.text("state"),
        merged=fields.flag("merged") or fields.has("merged_at"),
        head_ref=head.text("ref"),
        head_sha=head.text("sha"),
        base_ref=fields.child("base").text("ref"),
        head_repository_id=repository.number("id") if repository else None,
        title=fields.text("title"),
        body=fields.maybe_text("body"),
        url=fields.text("html_url"),
        author=person_of(fields.maybe_child("user")),
    )


def review_of(fields: Fields) -> Review:
    """Read a review, with its state in lower case (the API writes it in upper case, a webhook in lower)."""
    return Review(
        id=fields.number("id"),
        node_id=fields.text("node_id"),
        author=person_of(fields.maybe_child("user")),
        state=fields.text("state").lower(),
        body=fields.maybe_text("body"),
        commit_id=fields.maybe_text("commit_id"),
        submitted_at=fields.maybe_time("submitted_at"),
    )


def review_comment_of(fields: Fields) -> ReviewComment:
    """Read an inline comment."""
    line = fields.maybe_number("line") or fields.maybe_number("original_line")
    return ReviewComment(fields.text("path"), line, fields.maybe_text("body"))


def check_of(fields: Fields, app_id: int | None) -> Check:
    """Read a check run; `app_id` is this App's, None where nobody told us whose token it is: then any may be ours."""
    app = fields.maybe_child("app")
    return Check(
        id=fields.number("id"),
        external_id=fields.maybe_text("external_id"),
        name=fields.maybe_text("name"),
        head_sha=fields.maybe_text("head_sha"),
        status=fields.text("status"),
        conclusion=fields.maybe_text("conclusion") or None,
        ours=app_id is None or (app is not None and app.maybe_number("id") == app_id),
    )


def facts_of(fields: Fields) -> RepositoryFacts:
    """Read a repository."""
    return RepositoryFacts(
        id=fields.number("id"),
        full_name=fields.text("full_name"),
        default_branch=fields.text("default_branch"),
        private=fields.flag("private"),
    )


def hook_delivery_of(fields: Fields) -> HookDelivery:
    """Read an attempt to deliver a webhook."""
    return HookDelivery(
        id=fields.number("id"),
        guid=fields.text("guid"),
        event=fields.text("event"),
        delivered_at=fields.time("delivered_at"),
        status_code=fields.maybe_number("status_code") or 0,
        redelivery=fields.flag("redelivery"),
    )
