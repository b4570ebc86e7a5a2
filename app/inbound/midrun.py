"""What may happen on GitHub while a run is under way, and what it does to the run: one table.

The documentation shows it, and a test lets each row happen to a run that waits at a gate, and looks what became of it.
A new kind of event gets a handler and a row here.
"""

from dataclasses import dataclass
from enum import StrEnum

from app.github import events
from app.github.events import Event


class Effect(StrEnum):
    """What becomes of a run that waits at a gate."""

    NOTHING = "nothing"
    ENDS = "the run ends"
    DECIDES = "it decides"
    ASKS_ANEW = "the question is asked anew"


@dataclass(frozen=True)
class Row:
    """One thing that happens: the events that tell of it, what it does, and a sentence on it."""

    key: str
    happens: str
    kinds: tuple[type[Event], ...]
    effect: Effect
    does: str


ROWS: tuple[Row, ...] = (
    Row(
        "labelled",
        "another label that starts runs is put on",
        (events.IssueLabeled,),
        Effect.NOTHING,
        "`on_conflict` decides: refused with a reply (the default), queued, or this run ends for the new one.",
    ),
    Row(
        "unlabelled",
        "the label that started it is taken off",
        (events.IssueUnlabeled,),
        Effect.NOTHING,
        "With `abort_on_unlabel: true` in the configuration the run ends.",
    ),
    Row(
        "edited",
        "the issue's title or text is edited",
        (events.IssueEdited,),
        Effect.NOTHING,
        "The run works from the issue as it was when the label was put on.",
    ),
    Row(
        "closed",
        "the issue is closed",
        (events.IssueClosed,),
        Effect.ENDS,
        "Aborted, with those that wait for it. Who may close an issue at GitHub may end its run so.",
    ),
    Row(
        "reopened",
        "the issue is reopened",
        (events.IssueReopened,),
        Effect.NOTHING,
        "A run that has ended stays so; `/retry` or the label starts another.",
    ),
    Row(
        "deleted",
        "the issue is deleted or transferred",
        (events.IssueDeleted, events.IssueTransferred),
        Effect.ENDS,
        "Aborted; its branch stays.",
    ),
    Row(
        "commented",
        "a comment with a command is written",
        (events.CommentCreated,),
        Effect.DECIDES,
        "See the commands. A comment without one has no effect.",
    ),
    Row(
        "comment_edited",
        "a comment is edited",
        (events.CommentEdited,),
        Effect.NOTHING,
        "Commands count in new comments only. One of ours is put back.",
    ),
    Row(
        "comment_deleted",
        "a comment is deleted",
        (events.CommentDeleted,),
        Effect.NOTHING,
        "What it decided stands. The status comment and an open gate's are made again once.",
    ),
    Row(
        "reviewed",
        "a review approves or requests changes",
        (events.ReviewSubmitted,),
        Effect.DECIDES,
        "Approve approves, request changes revises; both for the commit that the reviewer saw.",
    ),
    Row(
        "review_dismissed",
        "a review is dismissed",
        (events.ReviewDismissed,),
        Effect.NOTHING,
        "What it decided stands.",
    ),
    Row(
        "pushed_beside",
        "somebody pushes to its branch, beside what is asked about",
        (events.Pushed, events.PullSynchronized),
        Effect.NOTHING,
        "The question stands, and the run goes on from there. While a phase is at work, the run pauses instead, and "
        "says to which commit the branch has to go back.",
    ),
    Row(
        "pushed_content",
        "somebody pushes a change of what is asked about",
        (events.Pushed, events.PullSynchronized),
        Effect.ASKS_ANEW,
        "What they made of it has to satisfy its schema; else they are told, and the old question stands.",
    ),
    Row(
        "branch_deleted",
        "its branch is deleted",
        (events.Pushed, events.BranchDeleted),
        Effect.ENDS,
        "Aborted, unless the branch is there again by then.",
    ),
    Row(
        "pull_labelled",
        "a label that starts runs is put on its pull request",
        (events.PullLabeled,),
        Effect.NOTHING,
        "Labels start runs on issues; who may start one is told so.",
    ),
    Row(
        "pull_closed",
        "its pull request is closed or merged",
        (events.PullClosed,),
        Effect.ENDS,
        "Aborted; the branch stays.",
    ),
    Row(
        "pull_reopened",
        "its pull request is reopened",
        (events.PullReopened,),
        Effect.NOTHING,
        "A run that has ended stays so.",
    ),
    Row(
        "check_rerequested",
        "somebody asks for its check again",
        (events.CheckRerequested,),
        Effect.NOTHING,
        "The check shows where the run stands; `/retry` is what starts over.",
    ),
    Row(
        "uninstalled",
        "the App is uninstalled, suspended or taken from the repository",
        (events.InstallationChanged,),
        Effect.ENDS,
        "Aborted: nothing could be published any more.",
    ),
    Row(
        "repository_deleted",
        "the repository is deleted",
        (events.RepositoryDeleted,),
        Effect.ENDS,
        "Aborted.",
    ),
    Row(
        "renamed",
        "the repository is renamed, transferred or has its settings changed",
        (events.RepositoryRenamed, events.RepositoryTransferred, events.RepositoryEdited),
        Effect.NOTHING,
        "Repositories are known by number; the run goes on under the new name, on the branch that it began from.",
    ),
)


def table() -> list[tuple[str, str, str]]:
    """Return what happens, what it does to a run, and the sentence on it."""
    return [(row.happens, str(row.effect), row.does) for row in ROWS]
