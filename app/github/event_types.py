"""The events that something here reacts to, as frozen values; `events` makes them and exports them all.

Every event names its repository by id, the installation it came through and who caused it.
"""

from dataclasses import dataclass
from datetime import datetime

from app.github.shapes import Comment, Person, Pull, Review


@dataclass(frozen=True)
class Repository:
    """The repository of an event, by its numeric id and by what it was called then; `owner` is the owner's login."""

    id: int
    full_name: str
    default_branch: str
    private: bool
    owner: str


@dataclass(frozen=True)
class RepositoryName:
    """A repository that was given to or taken from an installation."""

    id: int
    full_name: str
    private: bool


@dataclass(frozen=True)
class IssueRef:
    """The issue of an event, or the pull request seen as one (`is_pull`), as it was at that moment."""

    number: int
    id: int
    title: str
    body: str
    state: str
    updated_at: datetime
    author: Person
    labels: tuple[str, ...]
    is_pull: bool


@dataclass(frozen=True, kw_only=True)
class Event:
    """What every event has: where it happened, whose installation it came through, and who caused it."""

    repository: Repository | None
    installation_id: int | None
    sender: Person


@dataclass(frozen=True, kw_only=True)
class RepositoryEvent(Event):
    """An event of one repository."""

    repository: Repository


@dataclass(frozen=True, kw_only=True)
class IssueEvent(RepositoryEvent):
    """Something happened to an issue."""

    issue: IssueRef


@dataclass(frozen=True, kw_only=True)
class IssueLabeled(IssueEvent):
    """A label was put on."""

    label: str


@dataclass(frozen=True, kw_only=True)
class IssueUnlabeled(IssueEvent):
    """A label was taken off."""

    label: str


class IssueClosed(IssueEvent):
    """It was closed."""


class IssueReopened(IssueEvent):
    """It was opened again."""


class IssueDeleted(IssueEvent):
    """It is gone."""


class IssueTransferred(IssueEvent):
    """It went to another repository, and is gone here."""


class IssueEdited(IssueEvent):
    """Its title or body was changed."""


@dataclass(frozen=True, kw_only=True)
class CommentEvent(IssueEvent):
    """Something happened to a comment on an issue or pull request."""

    comment: Comment

    @property
    def is_pull(self) -> bool:
        """Whether the comment stands on a pull request."""
        return self.issue.is_pull


class CommentCreated(CommentEvent):
    """It was written."""


class CommentEdited(CommentEvent):
    """It was changed; commands in it never fire."""


class CommentDeleted(CommentEvent):
    """It was deleted."""


@dataclass(frozen=True, kw_only=True)
class PullEvent(RepositoryEvent):
    """Something happened to a pull request."""

    pull: Pull

    @property
    def from_fork(self) -> bool:
        """Whether its branch is another repository's, where a branch of the same name means nothing here."""
        return self.pull.head_repository_id != self.repository.id


@dataclass(frozen=True, kw_only=True)
class ReviewSubmitted(PullEvent):
    """A review was submitted: `approved`, `changes_requested` or `commented`."""

    review: Review


@dataclass(frozen=True, kw_only=True)
class ReviewDismissed(PullEvent):
    """A review was dismissed."""

    review: Review


@dataclass(frozen=True, kw_only=True)
class PullClosed(PullEvent):
    """It was closed, by a merge or without."""

    merged: bool


@dataclass(frozen=True, kw_only=True)
class PullLabeled(PullEvent):
    """A label was put on."""

    label: str


class PullReopened(PullEvent):
    """It was opened again."""


class PullSynchronized(PullEvent):
    """Its branch has another head."""


@dataclass(frozen=True, kw_only=True)
class Pushed(RepositoryEvent):
    """A branch was pushed to, created or deleted (`deleted`: `after` is all zeros)."""

    ref: str
    branch: str
    before: str
    after: str
    deleted: bool
    pusher: str


@dataclass(frozen=True, kw_only=True)
class BranchDeleted(RepositoryEvent):
    """A branch was deleted."""

    branch: str


@dataclass(frozen=True, kw_only=True)
class CheckRerequested(RepositoryEvent):
    """Somebody asked for a check run again; `external_id` is empty where it was for all checks of the commit."""

    head_sha: str
    external_id: str


@dataclass(frozen=True, kw_only=True)
class InstallationChanged(Event):
    """The App was installed, removed, suspended or given other repositories.

    `action` is `created`, `deleted`, `suspend`, `unsuspend`, `new_permissions_accepted`, `added` or `removed`.
    """

    installation_id: int
    action: str
    added: tuple[RepositoryName, ...]
    removed: tuple[RepositoryName, ...]


class RepositoryRenamed(RepositoryEvent):
    """It has another name, by which `repository` calls it already."""


class RepositoryTransferred(RepositoryEvent):
    """It has another owner, by whom `repository` calls it already."""


class RepositoryEdited(RepositoryEvent):
    """Its settings were changed, perhaps its default branch."""


class RepositoryDeleted(RepositoryEvent):
    """It is gone."""
