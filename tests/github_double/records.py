"""The small things that hang on issues, pull requests and commits: comments, labels, reactions, reviews, checks."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from tests.github_double.people import App, User, node_id

if TYPE_CHECKING:
    from tests.github_double.issue import Issue
    from tests.github_double.pull import Pull

REACTIONS = ("+1", "-1", "laugh", "confused", "heart", "hooray", "rocket", "eyes")


@dataclass(eq=False)
class Reaction:
    """One emoji by one user."""

    id: int
    user: User
    content: str
    created_at: datetime

    @property
    def node_id(self) -> str:
        """The global id."""
        return node_id("REA", self.id)


@dataclass(eq=False)
class Label:
    """A label of a repository."""

    id: int
    name: str
    color: str = "ededed"
    description: str | None = None

    @property
    def node_id(self) -> str:
        """The global id."""
        return node_id("LA", self.id)


@dataclass(eq=False)
class Happening:
    """One row of an issue's events (`labeled`, `closed`, ...)."""

    id: int
    event: str
    actor: User
    created_at: datetime
    details: dict[str, Any]

    @property
    def node_id(self) -> str:
        """The global id."""
        return node_id("LE", self.id)


@dataclass(eq=False)
class Comment:
    """A comment on an issue or on a pull request's conversation."""

    id: int
    issue: "Issue"
    author: User
    body: str
    created_at: datetime
    updated_at: datetime
    reactions: list[Reaction] = field(default_factory=list)
    minimized_reason: str | None = None
    deleted: bool = False
    edited_at: datetime | None = None
    editor: User | None = None

    @property
    def node_id(self) -> str:
        """The global id."""
        return node_id("IC", self.id)


@dataclass(eq=False)
class ReviewComment:
    """A comment of a review on a line of a file."""

    id: int
    review: "Review"
    path: str
    line: int
    body: str
    created_at: datetime
    reactions: list[Reaction] = field(default_factory=list)
    minimized_reason: str | None = None

    @property
    def node_id(self) -> str:
        """The global id."""
        return node_id("PRRC", self.id)


@dataclass(eq=False)
class Review:
    """A submitted review; `state` is upper case (`APPROVED`, `CHANGES_REQUESTED`, `COMMENTED`, `DISMISSED`)."""

    id: int
    pull: "Pull"
    author: User
    state: str
    body: str
    commit_id: str
    submitted_at: datetime
    comments: list[ReviewComment] = field(default_factory=list)
    reactions: list[Reaction] = field(default_factory=list)
    minimized_reason: str | None = None

    @property
    def node_id(self) -> str:
        """The global id."""
        return node_id("PRR", self.id)


@dataclass(eq=False)
class CheckRun:
    """A check run on one commit; `app` made it."""

    id: int
    head_sha: str
    name: str
    status: str
    started_at: datetime | None
    app: App
    conclusion: str | None = None
    completed_at: datetime | None = None
    external_id: str = ""
    details_url: str | None = None
    title: str | None = None
    summary: str | None = None
    text: str | None = None
    actions: list[dict[str, Any]] = field(default_factory=list)

    @property
    def node_id(self) -> str:
        """The global id."""
        return node_id("CR", self.id)


@dataclass(eq=False)
class Status:
    """A commit status; the newest of a context counts."""

    id: int
    sha: str
    state: str
    context: str
    description: str | None
    target_url: str | None
    creator: User
    created_at: datetime

    @property
    def node_id(self) -> str:
        """The global id."""
        return node_id("SC", self.id)
