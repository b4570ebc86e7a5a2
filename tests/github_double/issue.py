"""An issue and what people (and the App) do with it; each act changes the state and sends its webhook.

Everything of an issue that a pull request shares lives here too: on GitHub, a pull request is an issue with a branch.
"""

from datetime import datetime
from typing import TYPE_CHECKING, Any

from tests.github_double import webhooks
from tests.github_double.people import User, node_id
from tests.github_double.records import REACTIONS, Comment, Happening, Label, Reaction
from tests.github_double.refusal import Refused, invalid, not_found
from tests.github_double.shapes import issues, repositories

if TYPE_CHECKING:
    from tests.github_double.repository import Repository

LONGEST_BODY = 65_536
LONGEST_TITLE = 256


def check_body(resource: str, body: str | None, *, required: bool = False) -> str:
    """Return a text that GitHub takes; raise its 422 for one that is too long or empty."""
    text = body or ""
    if len(text) > LONGEST_BODY:
        raise invalid(resource, "body", "custom", f"Body is too long (maximum is {LONGEST_BODY} characters)")
    if required and not text.strip():
        raise invalid(resource, "body", "missing_field", "Body cannot be blank")
    return text


class Issue:
    """An issue; `labels` are names, `comments` those that are still there, oldest first."""

    is_pull = False
    _resource = "Issue"

    def __init__(self, repository: "Repository", number: int, author: User, title: str, body: str | None) -> None:
        if not title.strip():
            raise invalid(self._resource, "title", "missing_field")
        if len(title) > LONGEST_TITLE:
            raise invalid(self._resource, "title", "custom", "title is too long (maximum is 256 characters)")
        self.body: str | None = check_body(self._resource, body) or None
        self.repository = repository
        self.number = number
        self.author = author
        self.title = title
        self.issue_id = repository.world.new_id("issue")
        self.state = "open"
        self.state_reason: str | None = None
        self.locked = False
        self.label_objects: list[Label] = []
        self.reactions: list[Reaction] = []
        self.happenings: list[Happening] = []
        self.created_at = self.updated_at = repository.world.now()
        self.closed_at: datetime | None = None
        self.closed_by: User | None = None
        self._comments: list[Comment] = []
        # Only pull requests have these; the shapes of issues ask for them.
        self.draft = False
        self.merged_at: datetime | None = None
        repository.world.nodes[self.node_id] = self

    @property
    def id(self) -> int:
        """The database id."""
        return self.issue_id

    @property
    def node_id(self) -> str:
        """The global id."""
        return node_id("I", self.issue_id)

    @property
    def labels(self) -> list[str]:
        """The names of its labels."""
        return [label.name for label in self.label_objects]

    @property
    def comments(self) -> list[Comment]:
        """The comments that have not been deleted."""
        return [comment for comment in self._comments if not comment.deleted]

    def label(self, by: User, name: str) -> None:
        """Put a label on, made where the repository has none of that name; a second time changes nothing."""
        with self.repository.world.lock:
            label = self.repository.label_named(name)
            if label in self.label_objects:
                return
            self.label_objects.append(label)
            self._happened("labeled", by, label=label)
            webhooks.on_label(self, "labeled", by, label)

    def unlabel(self, by: User, name: str) -> None:
        """Take a label off."""
        with self.repository.world.lock:
            label = next((each for each in self.label_objects if each.name.lower() == name.lower()), None)
            if label is None:
                raise Refused(404, "Label does not exist")
            self.label_objects.remove(label)
            self._happened("unlabeled", by, label=label)
            webhooks.on_label(self, "unlabeled", by, label)

    def comment(self, by: User, body: str) -> Comment:
        """Write a comment."""
        world = self.repository.world
        with world.lock:
            check_body("IssueComment", body, required=True)
            if self.locked and self.repository.role_of(by) in ("none", "read", "triage"):
                raise Refused(403, "Unable to create comment because issue is locked.")
            made = Comment(world.new_id("comment"), self, by, body, world.now(), world.now())
            self._comments.append(made)
            world.nodes[made.node_id] = made
            self.updated_at = world.now()
            webhooks.on_comment(made, "created", by)
            return made

    def edit_comment(self, by: User, comment: Comment, body: str) -> None:
        """Change a comment's text."""
        world = self.repository.world
        with world.lock:
            if comment.deleted:
                raise not_found()
            check_body("IssueComment", body, required=True)
            before, comment.body = comment.body, body
            comment.updated_at = comment.edited_at = world.now()
            comment.editor = by
            webhooks.on_comment(comment, "edited", by, changes={"body": {"from": before}})

    def delete_comment(self, by: User, comment: Comment) -> None:
        """Remove a comment."""
        with self.repository.world.lock:
            if comment.deleted:
                raise not_found()
            comment.deleted = True
            self.repository.world.nodes.pop(comment.node_id, None)
            webhooks.on_comment(comment, "deleted", by)

    def edit(self, by: User, *, title: str | None = None, body: str | None = None) -> None:
        """Change title or body."""
        with self.repository.world.lock:
            changes: dict[str, Any] = {}
            if title is not None and title != self.title:
                changes["title"] = {"from": self.title}
                self._happened("renamed", by, rename={"from": self.title, "to": title})
                self.title = title
            if body is not None and body != (self.body or ""):
                check_body(self._resource, body)
                changes["body"] = {"from": self.body or ""}
                self.body = body or None
            if changes:
                self.updated_at = self.repository.world.now()
                webhooks.on_issue(self, "edited", by, changes=changes)

    def close(self, by: User, reason: str = "completed") -> None:
        """Close it; `reason` is `completed` or `not_planned`."""
        with self.repository.world.lock:
            if self.state == "closed":
                return
            self.state, self.state_reason = "closed", reason if not self.is_pull else None
            self.closed_at, self.closed_by = self.repository.world.now(), by
            self._happened("closed", by, state_reason=self.state_reason)
            webhooks.on_issue(self, "closed", by)

    def reopen(self, by: User) -> None:
        """Open it again."""
        with self.repository.world.lock:
            if self.state == "open":
                return
            self.state, self.state_reason = "open", "reopened" if not self.is_pull else None
            self.closed_at = self.closed_by = None
            self._happened("reopened", by, state_reason=self.state_reason)
            webhooks.on_issue(self, "reopened", by)

    def delete(self, by: User) -> None:
        """Delete it with all that was said on it."""
        with self.repository.world.lock:
            self.repository.lose(self.number, None)
            webhooks.on_issue(self, "deleted", by)

    def transfer(self, by: User, to: "Repository") -> "Issue":
        """Move it to another repository, with what was said on it; labels stay behind. Returns it as it is there."""
        with self.repository.world.lock:
            made = to.open_issue(self.author, self.title, self.body or "")
            made._comments, self._comments = self._comments, []
            for comment in made._comments:
                comment.issue = made
            self.repository.lose(self.number, made)
            changes = {
                "new_issue": issues.issue(self.repository.world, made),
                "new_repository": repositories.repository(self.repository.world, to),
            }
            webhooks.on_issue(self, "transferred", by, changes=changes)
            return made

    def react(self, by: User, content: str, on: Any = None) -> tuple[Reaction, bool]:
        """Add a reaction to this or to a comment or review of it; tells whether it is new."""
        world = self.repository.world
        with world.lock:
            if content not in REACTIONS:
                raise invalid("Reaction", "content", "invalid")
            reactions: list[Reaction] = self.reactions if on is None else on.reactions
            for known in reactions:
                if known.user is by and known.content == content:
                    return known, False
            made = Reaction(world.new_id("reaction"), by, content, world.now())
            reactions.append(made)
            world.nodes[made.node_id] = made
            return made, True

    def _happened(self, event: str, actor: User, **details: Any) -> None:
        world = self.repository.world
        self.updated_at = world.now()
        self.happenings.append(Happening(world.new_id("event"), event, actor, world.now(), details))
