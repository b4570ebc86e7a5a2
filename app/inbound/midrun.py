"""What may happen on GitHub while a run is under way, and what it does to the run: one table.

The documentation shows it. A test lets each row happen to runs that wait at a gate and to runs that work, and looks
what became of them; another holds the rows against every event and action that GitHub has for what the App listens
to. A new kind of event gets a handler and a row here.
"""

from dataclasses import dataclass
from enum import StrEnum


class Effect(StrEnum):
    """What becomes of a run."""

    NOTHING = "nothing"
    ENDS = "the run ends"
    PAUSES = "the run pauses"
    DECIDES = "it decides"
    ASKS_ANEW = "the question is asked anew"


@dataclass(frozen=True)
class Row:
    """One thing that happens: what tells of it (`EVENT.ACTION`), what it does in each state, and a sentence on it."""

    key: str
    happens: str
    told_by: tuple[str, ...]
    at_gate: Effect
    at_work: Effect
    does: str


def _row(key: str, happens: str, told_by: str, effect: Effect, does: str, *, at_work: Effect | None = None) -> Row:
    return Row(key, happens, tuple(told_by.split()), effect, effect if at_work is None else at_work, does)


_NOTHING, _ENDS, _PAUSES = Effect.NOTHING, Effect.ENDS, Effect.PAUSES
_DECIDES, _ASKS_ANEW = Effect.DECIDES, Effect.ASKS_ANEW

ROWS: tuple[Row, ...] = (
    _row(
        "labelled",
        "another label that starts runs is put on",
        "issues.labeled",
        _NOTHING,
        "`on_conflict` decides: refused with a reply (the default), queued, or this run ends for the new one.",
    ),
    _row(
        "unlabelled",
        "the label that started it is taken off",
        "issues.unlabeled",
        _NOTHING,
        "With `abort_on_unlabel: true` in the configuration the run ends.",
    ),
    _row(
        "label_deleted",
        "that label is deleted from the repository",
        "issues.unlabeled",
        _NOTHING,
        "Also with `abort_on_unlabel`: GitHub does not say any more which label it was.",
    ),
    _row(
        "edited",
        "the issue's title or text is edited",
        "issues.edited",
        _NOTHING,
        "The run works from the issue as it was when the label was put on.",
    ),
    _row(
        "closed",
        "the issue is closed",
        "issues.closed",
        _ENDS,
        "Aborted, with those that wait for it. Who may close an issue at GitHub may end its run so.",
    ),
    _row(
        "reopened",
        "the issue is reopened",
        "issues.reopened",
        _NOTHING,
        "A run that has ended stays so; `/retry` or the label starts another.",
    ),
    _row("deleted", "the issue is deleted or transferred", "issues.deleted issues.transferred", _ENDS, "Aborted."),
    _row(
        "tended",
        "the issue is assigned, pinned, locked, given a milestone, a type or a field",
        "issues.assigned issues.unassigned issues.pinned issues.unpinned issues.locked issues.unlocked "
        "issues.milestoned issues.demilestoned issues.typed issues.untyped issues.field_added issues.field_removed",
        _NOTHING,
        "On a locked issue only those with write permission can comment.",
    ),
    _row("opened", "another issue is opened", "issues.opened", _NOTHING, "A run begins with a label."),
    _row(
        "answered",
        "`/approve`, `/reject` or `/revise` is written",
        "issue_comment.created",
        _DECIDES,
        "Where nothing is asked, it is refused with a reply.",
        at_work=_NOTHING,
    ),
    _row(
        "paused",
        "`/pause` is written",
        "issue_comment.created",
        _PAUSES,
        "At once at a gate, which `/resume` opens again; while it works, at its next safe point.",
    ),
    _row("aborted", "`/abort` is written", "issue_comment.created", _ENDS, "Aborted, whatever it is doing."),
    _row(
        "commented",
        "any other comment is written",
        "issue_comment.created",
        _NOTHING,
        "`/status` and `/help` are answered; a comment without a command has no effect.",
    ),
    _row(
        "comment_edited",
        "a comment is edited or pinned",
        "issue_comment.edited issue_comment.pinned issue_comment.unpinned",
        _NOTHING,
        "Commands count in new comments only. One of ours that was edited is put back.",
    ),
    _row(
        "comment_deleted",
        "a comment is deleted",
        "issue_comment.deleted",
        _NOTHING,
        "What it decided stands. The status comment and an open gate's are made again once.",
    ),
    _row(
        "reviewed",
        "a review approves or requests changes",
        "pull_request_review.submitted",
        _DECIDES,
        "Approve approves, request changes revises; both for the commit that the reviewer saw. Where nothing is asked, "
        "nothing is decided.",
        at_work=_NOTHING,
    ),
    _row(
        "review_dismissed",
        "a review is dismissed or edited",
        "pull_request_review.dismissed pull_request_review.edited",
        _NOTHING,
        "What it decided stands.",
    ),
    _row(
        "pushed_beside",
        "somebody pushes to its branch, beside what is asked about",
        "push pull_request.synchronize",
        _NOTHING,
        "At a gate the question stands, and the run goes on from there. While it works, it overwrites nothing: when it "
        "next publishes, it stops with `push_conflict`, and says to which commit the branch has to go back.",
        at_work=_PAUSES,
    ),
    _row(
        "pushed_content",
        "somebody pushes a change of what is asked about",
        "push pull_request.synchronize",
        _ASKS_ANEW,
        "What they made of it has to satisfy its schema; else they are told, and the old question stands. While it "
        "works, as with any push to its branch: `push_conflict`.",
        at_work=_PAUSES,
    ),
    _row(
        "pushed_elsewhere",
        "somebody pushes or deletes another branch or a tag",
        "push delete",
        _NOTHING,
        "The run stays on the commit that it began from.",
    ),
    _row(
        "branch_deleted",
        "its branch is deleted",
        "push delete pull_request.closed",
        _ENDS,
        "Aborted, unless the branch is there again by then.",
    ),
    _row(
        "pull_labelled",
        "a label that starts runs is put on its pull request",
        "pull_request.labeled",
        _NOTHING,
        "Labels start runs on issues; who may start one is told so.",
    ),
    _row(
        "pull_closed",
        "its pull request is closed or merged",
        "pull_request.closed",
        _ENDS,
        "Aborted; the branch stays.",
    ),
    _row(
        "pull_reopened",
        "its pull request is reopened",
        "pull_request.reopened",
        _NOTHING,
        "A run that has ended stays so.",
    ),
    _row(
        "pull_drafted",
        "its pull request is made ready for review, or a draft again",
        "pull_request.ready_for_review pull_request.converted_to_draft",
        _NOTHING,
        "It stays as they made it until the run's end makes it ready.",
    ),
    _row(
        "pull_edited",
        "its pull request gets another title, text or base",
        "pull_request.edited",
        _NOTHING,
        "What they wrote stays until the run has something new to say there; the base stays theirs, and the run on the "
        "branch that it began from.",
    ),
    _row(
        "pull_tended",
        "its pull request gets another label, is assigned, locked, queued, sent for review, or another one is opened",
        "pull_request.opened pull_request.labeled pull_request.unlabeled pull_request.assigned pull_request.unassigned "
        "pull_request.review_requested pull_request.review_request_removed pull_request.milestoned "
        "pull_request.demilestoned pull_request.locked pull_request.unlocked pull_request.auto_merge_enabled "
        "pull_request.auto_merge_disabled pull_request.enqueued pull_request.dequeued pull_request.stacked",
        _NOTHING,
        "Labels count on issues only. What merges it is for the people and rules of the repository.",
    ),
    _row(
        "check_rerequested",
        "somebody asks for its check again",
        "check_run.rerequested check_suite.rerequested",
        _NOTHING,
        "The check shows where the run stands; `/retry` is what starts over.",
    ),
    _row(
        "checked",
        "another check begins or ends on its branch",
        "check_run.created check_run.completed check_run.requested_action check_suite.requested check_suite.completed",
        _NOTHING,
        "The run's own checks are those of its workflow.",
    ),
    _row(
        "uninstalled",
        "the App is uninstalled, suspended or taken from the repository",
        "installation.deleted installation.suspend installation_repositories.removed",
        _ENDS,
        "Aborted: nothing could be published any more.",
    ),
    _row(
        "installed",
        "the App gets another repository or permission, or comes back",
        "installation.created installation.unsuspend installation.new_permissions_accepted "
        "installation_repositories.added github_app_authorization",
        _NOTHING,
        "A run that has ended stays so.",
    ),
    _row("repository_deleted", "the repository is deleted", "repository.deleted", _ENDS, "Aborted."),
    _row(
        "renamed",
        "the repository is renamed, made private or public, or gets another default branch or other settings",
        "repository.renamed repository.edited repository.privatized repository.publicized",
        _NOTHING,
        "Repositories are known by number; the run goes on under the new name, on the branch that it began from.",
    ),
    _row(
        "transferred",
        "the repository is transferred to an account that has the App",
        "repository.transferred",
        _NOTHING,
        "It goes on there. Where the other account does not have the App, that has lost the repository: the run ends.",
    ),
    _row(
        "archived",
        "the repository is archived",
        "repository.archived",
        _NOTHING,
        "GitHub takes nothing more, answers of people neither. A run that works stops with `push_rejected` when it "
        "next publishes; what it did is kept.",
        at_work=_PAUSES,
    ),
    _row(
        "unarchived",
        "the repository is taken out of the archive, or another one is made",
        "repository.unarchived repository.created",
        _NOTHING,
        "A gate can be answered again; a run that had stopped goes on with `/resume`.",
    ),
)


def table() -> list[tuple[str, str, str, str]]:
    """Return what happens, what it does to a run at a gate and to one that works, and the sentence on it."""
    return [(row.happens, str(row.at_gate), str(row.at_work), row.does) for row in ROWS]
