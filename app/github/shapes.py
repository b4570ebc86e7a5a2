"""What GitHub's objects look like here: frozen values with just the fields that we use.

Read by `answers` from what the API answers and, where they are the same objects, from webhook bodies.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

ReactionContent = Literal["eyes", "rocket", "confused"]
Role = Literal["none", "read", "triage", "write", "maintain", "admin"]
CheckStatus = Literal["queued", "in_progress", "completed"]
Conclusion = Literal["success", "failure", "neutral", "cancelled", "skipped", "timed_out", "action_required"]
StatusState = Literal["pending", "success", "failure", "error"]
MinimiseReason = Literal["OUTDATED", "RESOLVED"]
PullState = Literal["open", "closed"]


@dataclass(frozen=True)
class Person:
    """Who did something; a bot never starts, decides or counts."""

    id: int
    login: str
    is_bot: bool = False


GHOST = Person(0, "ghost")  # whose account was deleted; no permission is ever found for it


@dataclass(frozen=True)
class Issue:
    """An issue, or a pull request seen as one (`is_pull`); state `open` or `closed`."""

    number: int
    id: int
    title: str
    body: str
    state: str
    author: Person
    labels: tuple[str, ...]
    created_at: datetime
    updated_at: datetime
    is_pull: bool


@dataclass(frozen=True)
class Comment:
    """A comment on an issue or pull request; `via_app`: written through a GitHub App, ours or another one's."""

    id: int
    node_id: str
    author: Person
    body: str
    created_at: datetime
    updated_at: datetime
    via_app: bool
    app_id: int | None = None


@dataclass(frozen=True)
class Edit:
    """The last change of a comment's text: when, and by whom (a deleted account's login is empty)."""

    at: datetime
    login: str


@dataclass(frozen=True)
class Happening:
    """Something that happened to an issue or pull request, such as `labeled` or `review_dismissed`.

    `label` is empty and `review_id` None where it is about neither; `review_state` is what a dismissed review was.
    """

    event: str
    actor: Person
    created_at: datetime
    label: str
    review_id: int | None
    review_state: str


@dataclass(frozen=True)
class Permission:
    """What a person may do in the repository, and the id that the login belongs to now (None: nobody's)."""

    role: Role
    user_id: int | None

    @property
    def may_write(self) -> bool:
        """Whether the person may push."""
        return self.role in ("write", "maintain", "admin")

    @property
    def may_triage(self) -> bool:
        """Whether the person may put labels on issues."""
        return self.may_write or self.role == "triage"


@dataclass(frozen=True)
class Pull:
    """A pull request; `state` is `open` or `closed`, a merged one is closed.

    `head_repository_id` is None where the fork is gone.
    """

    number: int
    id: int
    node_id: str
    draft: bool
    state: str
    merged: bool
    head_ref: str
    head_sha: str
    base_ref: str
    head_repository_id: int | None
    title: str
    body: str
    url: str
    author: Person

    @property
    def author_login(self) -> str:
        """Login of whoever opened it."""
        return self.author.login


@dataclass(frozen=True)
class Review:
    """A review of a pull request; state `approved`, `changes_requested`, `commented` or `dismissed`.

    `commit_id` is the head that the reviewer saw, empty where GitHub does not know it any more.
    """

    id: int
    node_id: str
    author: Person
    state: str
    body: str
    commit_id: str
    submitted_at: datetime | None


@dataclass(frozen=True)
class ReviewComment:
    """An inline comment of a review; `line` is None for one on a whole file or on lines that are gone."""

    path: str
    line: int | None
    body: str


@dataclass(frozen=True)
class Check:
    """A check run on a commit; `ours`: made by this App, or perhaps so where only a token is known."""

    id: int
    external_id: str
    name: str
    head_sha: str
    status: str
    conclusion: str | None
    ours: bool


@dataclass(frozen=True)
class RepositoryFacts:
    """What a repository is called now and which branch is its default one."""

    id: int
    full_name: str
    default_branch: str
    private: bool


@dataclass(frozen=True)
class HookDelivery:
    """One attempt to deliver a webhook; attempts of the same delivery share its `guid`. `ok`: answered with 2xx."""

    id: int
    guid: str
    event: str
    delivered_at: datetime
    status_code: int
    redelivery: bool

    @property
    def ok(self) -> bool:
        """Whether we answered that it arrived."""
        return 200 <= self.status_code < 300


@dataclass(frozen=True)
class IssueTarget:
    """An issue or pull request, as something to react to."""

    number: int


@dataclass(frozen=True)
class CommentTarget:
    """A comment on an issue or pull request, as something to react to."""

    id: int


@dataclass(frozen=True)
class ReviewTarget:
    """A review, as something to react to; `pull` is the pull request's number."""

    node_id: str
    pull: int


ReactionTarget = IssueTarget | CommentTarget | ReviewTarget
