"""What should be visible of a run on GitHub: from its view alone, the same view always giving the same surfaces.

Second step of the projector: `reading` has made the view, `applier` makes GitHub look so. A surface is named by a key
that holds the run and what it is about, so that it is made once, however often this is computed.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from uuid import UUID

from app.github.shapes import CheckStatus, Conclusion, MinimiseReason
from app.surface import ending, gate, progress, replies, texts
from app.surface.render import marker
from app.surface.replies import Say
from app.surface.view import GateView, Links, RunView
from engine.domain.errors import DevflowError
from engine.domain.states import PhaseState, RequestState, RunState

_CHECK_STATES: dict[RunState, tuple[CheckStatus, Conclusion | None]] = {
    RunState.CREATED: ("queued", None),
    RunState.EXECUTING: ("in_progress", None),
    RunState.AWAITING_APPROVAL: ("completed", "action_required"),
    RunState.PAUSED: ("completed", "action_required"),
    RunState.COMPLETED: ("completed", "success"),
    RunState.FAILED: ("completed", "failure"),
    RunState.ABORTED: ("completed", "cancelled"),
}


@dataclass(frozen=True)
class Comment:
    """A comment of ours on an issue or pull request; `minimised` is GitHub's word for why it is hidden by now."""

    issue_number: int
    body: str
    minimised: MinimiseReason | None = None


@dataclass(frozen=True)
class Pull:
    """The run's pull request. Once it is no draft it stays so, and once closed it is not opened again."""

    head: str
    base: str
    title: str
    body: str
    draft: bool
    closed: bool


@dataclass(frozen=True)
class Check:
    """The check run on one commit; `conclusion` is there where `status` is `completed`."""

    sha: str
    status: CheckStatus
    conclusion: Conclusion | None
    title: str
    summary: str
    url: str | None = None


Content = Comment | Pull | Check


@dataclass(frozen=True)
class Surface:
    """One thing that should be visible.

    `create` False: it is brought up to date where it exists, and not made. `lasting`: it is made anew when somebody has
    deleted it. With `pace`, a change that leaves `pace` as it was may come every 30 s at most.
    """

    key: str
    content: Content
    create: bool = True
    lasting: bool = False
    pace: str | None = None

    @property
    def digest(self) -> str:
        """Return SHA-256 (hex) of what should be visible."""
        content = {"kind": type(self.content).__name__, **asdict(self.content)}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Shown:
    """What is known to be visible already: the pull request's number, commits with a check run, gates' comments.

    `gates` has the address of each gate's comment by the key of its surface, `refusals` the keys of the surfaces that
    tell of a missing right. `pull_refused` is what GitHub said where it refuses the pull request for anything else,
    `other_head` the commit at which somebody has put the branch, and which the run has not taken up. `opened_by` is the
    person in whose name the pull request is open, None for an App's.
    """

    pull: int | None = None
    checked: tuple[str, ...] = ()
    gates: Mapping[str, str] = field(default_factory=dict)
    refusals: tuple[str, ...] = ()
    pull_refused: str | None = None
    other_head: str | None = None
    opened_by: str | None = None


def pull_surface(view: RunView, links: Links) -> Surface | None:
    """Return the run's pull request; None before something of the run is on its branch.

    One whose branch was discarded has nothing on it any more, and still has to say that it was stopped.
    """
    if not (view.publishes or view.discarded):
        return None
    closed = view.state is RunState.ABORTED or view.continued_by is not None
    key = f"run/{view.run_id}/pull"
    content = Pull(
        head=view.branch,
        base=view.base_branch,
        title=progress.pull_title(view),
        body=_marked(key, progress.pull_body(view, links)),
        draft=not _done(view),
        closed=closed,
    )
    return Surface(key, content, create=not closed, pace=_slow_pace(view))


def surfaces(view: RunView, links: Links, shown: Shown) -> list[Surface]:
    """Return what should be visible besides the pull request and the gates, in the order in which it should appear."""
    return [
        _status(view, links, shown),
        *_stops(view, shown),
        *_end(view, links, shown),
        *_checks(view, links, shown),
    ]


def refusal_surfaces(view: RunView, refused: Iterable[DevflowError], shown: Shown) -> list[Surface]:
    """Return the comments on rights that are missing, each once; one that was granted since is told as such."""
    found: dict[str, Surface] = {}
    for error in refused:
        key = f"{refusals_prefix(view.run_id)}{error.code}"
        if permission := str(error.details.get("permission", "")):
            key += "/" + permission.replace(": ", "-")
        body = _marked(key, ending.refusal_comment(view, error))
        found.setdefault(key, Surface(key, Comment(view.issue_number, body)))
    for key in shown.refusals:
        body = _marked(key, ending.granted_comment(view))
        found.setdefault(key, Surface(key, Comment(view.issue_number, body, "RESOLVED"), create=False))
    return list(found.values())


def refusals_prefix(run_id: UUID) -> str:
    """Return how the keys of the comments on a run's missing rights begin."""
    return f"run/{run_id}/refused/"


def reply(key: str, issue_number: int, body: str) -> Surface:
    """Return our answer to what somebody wrote; `key` names that, so that it is answered once."""
    full = f"reply/{key}"
    return Surface(full, Comment(issue_number, _marked(full, body)))


def _status(view: RunView, links: Links, shown: Shown) -> Surface:
    key = f"run/{view.run_id}/status"
    asked_at = shown.gates.get(_gate_key(view, view.pending)) if view.pending else None
    body = _marked(key, progress.status_comment(view, links, shown.pull, asked_at, shown.pull_refused))
    pace = f"{_pace(view)}/{shown.pull}/{asked_at}/{shown.pull_refused is not None}"
    return Surface(key, Comment(view.issue_number, body), lasting=not view.state.terminal, pace=pace)


def gate_surfaces(view: RunView, links: Links, shown: Shown) -> Iterable[Surface]:
    """Return the comments of all gates; one that was answered before it could be shown is not made any more."""
    for item in view.gates:
        key = _gate_key(view, item)
        pending = item.state is RequestState.PENDING
        content = Comment(
            shown.pull or view.issue_number,
            _marked(key, gate.gate_comment(view, item, links, shown.pull, shown.opened_by)),
            "OUTDATED" if item.state is RequestState.SUPERSEDED else None,
        )
        yield Surface(key, content, create=pending, lasting=pending)


def _gate_key(view: RunView, item: GateView) -> str:
    return f"run/{view.run_id}/gate/{item.request_id}"


def _stops(view: RunView, shown: Shown) -> Iterable[Surface]:
    for stop in view.stops:
        key = f"run/{view.run_id}/stop/{stop.number}"
        body = _marked(key, ending.stop_comment(view, stop))
        content = Comment(shown.pull or view.issue_number, body, "RESOLVED" if stop.over else None)
        yield Surface(key, content, create=not stop.over)


def _end(view: RunView, links: Links, shown: Shown) -> Iterable[Surface]:
    if not view.state.terminal or view.report is None or view.discarded:
        return
    key = f"run/{view.run_id}/end"
    body = _marked(key, ending.end_comment(view, links, shown.pull, shown.pull_refused))
    yield Surface(key, Comment(shown.pull or view.issue_number, body))


def _checks(view: RunView, links: Links, shown: Shown) -> Iterable[Surface]:
    head = view.head_sha if view.publishes and not view.discarded else None
    for sha in shown.checked:
        if sha not in (head, shown.other_head):
            yield Surface(_check_key(view, sha), _overtaken(sha), create=False)
    if head is None:
        return
    if shown.other_head is not None:
        yield Surface(_check_key(view, shown.other_head), _not_taken_up(view, shown.other_head, head))
    closed = view.report is not None or not view.state.terminal
    status, conclusion = _CHECK_STATES[view.state if closed else RunState.EXECUTING]
    url = links.pull_url(shown.pull) if shown.pull is not None else links.issue_url(view.issue_number)
    content = Check(head, status, conclusion, texts.check_title(view), progress.check_summary(view, links), url)
    yield Surface(_check_key(view, head), content, pace=_slow_pace(view))


def _check_key(view: RunView, sha: str) -> str:
    return f"run/{view.run_id}/check/{sha}"


def is_overtaken(sha: str, content_hash: str | None) -> bool:
    """Tell whether a check is known to show that its commit was overtaken, after which it does not change."""
    return content_hash == Surface("", _overtaken(sha)).digest


def _overtaken(sha: str) -> Check:
    # it does not name the newest commit, or each commit would change the checks of all commits before it
    summary = "The branch has moved on; see the check of its newest commit."
    return Check(sha, "completed", "neutral", "Overtaken by a newer commit", summary)


def _not_taken_up(view: RunView, sha: str, own: str) -> Check:
    asks = view.pending is not None and not view.pending.outside
    summary = replies.not_taken_up(own, asks=asks, over=view.state.terminal, say=Say(view.prefixed))
    conclusion: Conclusion = "neutral" if view.state.terminal else "action_required"
    return Check(sha, "completed", conclusion, replies.NOT_TAKEN_UP, summary)


def _done(view: RunView) -> bool:
    return view.state is RunState.COMPLETED and view.report is not None


def _pace(view: RunView) -> str:
    """Return a text that differs where a reader of the status wants to know at once."""
    phases = [(phase.key, _glance(phase.state), phase.round, phase.attempts) for phase in view.phases]
    return _hash([_slow_facts(view), phases])


def _slow_pace(view: RunView) -> str:
    """Return a text that differs where a person has to do something else: phases alone do not change it."""
    return _hash(_slow_facts(view))


def _slow_facts(view: RunView) -> list[object]:
    pending = view.pending
    return [
        view.state,
        view.requested_action,
        view.error.code if view.error else None,
        view.waits_for,
        view.continued_by,
        view.report is not None,
        [str(pending.request_id), pending.approved_by] if pending else None,
    ]


def _glance(state: PhaseState) -> PhaseState:
    return PhaseState.RUNNING if state is PhaseState.VALIDATING else state


def _hash(facts: list[object]) -> str:
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def _marked(key: str, body: str) -> str:
    return f"{marker(key)}\n{body}"


def moved(surface: Surface, issue_number: int) -> Surface:
    """Return a comment's surface at the place where it was made, which it cannot leave."""
    if not isinstance(surface.content, Comment):
        return surface
    return replace(surface, content=replace(surface.content, issue_number=issue_number))
