"""Every sentence that people read about a run on GitHub, in one place; `render` makes what others wrote harmless.

Nobody is mentioned here but the person who asked for the run: others are named without `@`.
"""

from collections.abc import Callable

from app.surface.figures import cost, count, money
from app.surface.render import code, link, listed, mention, plain, words
from app.surface.replies import Say
from app.surface.view import GateView, Links, Money, PhaseView, RunView, StopView
from engine.domain.states import PhaseState, RequestState, RunState

RUN_ICONS = {
    RunState.CREATED: "⏳",
    RunState.EXECUTING: "🔵",
    RunState.AWAITING_APPROVAL: "🟡",
    RunState.PAUSED: "⏸️",
    RunState.COMPLETED: "✅",
    RunState.FAILED: "❌",
    RunState.ABORTED: "⏹️",
}
PHASE_ICONS = {
    PhaseState.PENDING: "⚪",
    PhaseState.RUNNING: "🔵",
    PhaseState.VALIDATING: "🔵",
    PhaseState.AWAITING_APPROVAL: "🟡",
    PhaseState.COMPLETED: "✅",
    PhaseState.FAILED: "❌",
    PhaseState.SKIPPED: "⏭️",
}
_PHASE_WORDS = {
    PhaseState.PENDING: "not started",
    PhaseState.RUNNING: "in work",
    PhaseState.VALIDATING: "being checked",
    PhaseState.AWAITING_APPROVAL: "waits for a decision",
    PhaseState.COMPLETED: "completed",
    PhaseState.FAILED: "failed",
    PhaseState.SKIPPED: "not done",
}
TABLE_HEADER = ("", "Phase", "State", "Attempts", "Time", "Cost", "Result")
MORE = "The rest is cut off here, because it is longer than GitHub takes."
GRANTED = "✅ GitHub lets Devflow do it now"
REFUSAL_NEXT = "Nothing is lost meanwhile: the work is on the run's branch, and it is tried again with the next event."
_ANSWERS = {"approve": "approved", "reject": "rejected", "revise": "sent back", "abort": "stopped"}

_TRY_AGAIN = "{retry} starts over where it failed and keeps what was approved."
_HINTS = {
    "budget_exceeded": "{approve} `+2.00` raises the cap by 2 US dollars, {reject} ends the run.",
    "session_recovery_required": "{approve} starts a new conversation with the agent, {reject} ends the run.",
    "backend_unavailable": "When the model server answers again, {resume} goes on from here.",
    "storage_full": "When whoever runs Devflow has made room on its disk, {resume} goes on from here.",
    "push_conflict": "Somebody moved the branch. Put it back to the run's last commit, named above, then {resume}.",
    "push_rejected": "The rules of this repository refuse the push. Change them for this branch, then {resume}.",
    "repository_not_found": "See that the repository is there, and that Devflow reaches it, then {resume}.",
    "permission_missing": "Give Devflow the permission that is named above, then {resume}.",
    "token_refused": "Give Devflow a token that GitHub takes, then {resume}.",
    "paused_by_person": "{resume} goes on from here.",
    "artifact_timeout_exhausted": "Give the phase a longer `timeout_seconds` in its workflow. " + _TRY_AGAIN,
    "setup_failed": "Mend `setup` in `.github/devflow.yml`. " + _TRY_AGAIN,
    "approval_rejected": "Make the issue clearer and put the label on again, or {retry} from where it was rejected.",
    "revisions_exhausted": "Raise `max_revisions` in the workflow, or take the work over by hand on this branch.",
    "protected_path": "The agent touched files that it must not touch. " + _TRY_AGAIN,
    "internal_error": "This is a bug in Devflow; its log has the details. " + _TRY_AGAIN,
}


def pull_link(links: Links, pull: int | None) -> str:
    """Return a link to the run's pull request, or words where it has none."""
    return "the pull request" if pull is None else link(f"pull request #\u200b{pull}", links.pull_url(pull))


def headline(view: RunView, clean: Callable[[str, int], str] = words) -> str:
    """Return in a few words where the run stands; `clean` is `plain` for a place that takes no Markdown."""
    current = view.current
    phase = "" if current is None else clean(current.title, 80)
    match view.state:
        case RunState.CREATED:
            return "Devflow will begin soon" if view.waits_for is None else "Devflow waits its turn"
        case RunState.EXECUTING if view.requested_action:
            return "Devflow is stopping"
        case RunState.EXECUTING:
            return f"Devflow is working: {phase}" if phase else "Devflow is finishing"
        case RunState.AWAITING_APPROVAL:
            return f"Devflow waits for a decision: {phase}"
        case RunState.PAUSED:
            return "Devflow has paused" + (f": {phase}" if phase else "")
        case RunState.COMPLETED:
            return "Devflow is done"
        case RunState.FAILED:
            return "Devflow has failed" + _in_phase(view, clean)
    return "Devflow was stopped"


def _in_phase(view: RunView, clean: Callable[[str, int], str] = words) -> str:
    failed = next((phase for phase in view.phases if phase.state is PhaseState.FAILED), None)
    return f": {clean(failed.title, 80)}" if failed else ""


def now(view: RunView) -> str:
    """Return what happens at this moment."""
    current = view.current
    match view.state:
        case RunState.CREATED:
            if view.waits_for is not None:
                return f"Run {view.waits_for} of this issue is still going on; this one begins when that has ended."
            return "The run waits for a free worker."
        case RunState.EXECUTING:
            return _working(view, current)
        case RunState.AWAITING_APPROVAL:
            return "The result is on the branch, and nothing happens until somebody decides."
        case RunState.PAUSED:
            return _why(view) or "Nothing happens until somebody lets it go on."
        case RunState.COMPLETED:
            return "All phases are done, and the branch is ready for your review."
        case RunState.FAILED:
            return _why(view) or "A phase could not be done."
    return ended(view)


def _working(view: RunView, current: PhaseView | None) -> str:
    if view.requested_action:
        return f"Somebody asked for {code(view.requested_action)}; the agent is being stopped."
    if current is None:
        return "All phases are done; the final report is being written."
    who = f"{code(current.persona)} works" if current.persona else "An agent works"
    what = f"on **{words(current.title, 80)}**"
    if current.state is PhaseState.VALIDATING:
        return f"The result of {what.removeprefix('on ')} is being checked."
    if current.state is PhaseState.PENDING:
        return f"**{words(current.title, 80)}** is about to begin."
    again = f", round {current.round}: the work was sent back" if current.round > 1 else ""
    if current.attempts > 1:
        again += f", attempt {current.attempts}: what the first one left was not accepted"
    return f"{who} {what}{again}."


def _why(view: RunView) -> str:
    if view.error is None:
        return ""
    if view.error.code == "paused_by_person":
        return f"{sentence(view.error.message)}."
    return f"{sentence(view.error.message)} ({code(view.error.code)})"


def sentence(text: str) -> str:
    """Return an error's message as the beginning of a sentence."""
    said = words(text, 600)
    return said[:1].upper() + said[1:]


def ended(view: RunView) -> str:
    """Return who ended the run and why."""
    who = "" if not view.ended_by else f" by {words(view.ended_by, 100)}"
    return f"Stopped{who}" + (f": {words(view.end_note, 600)}" if view.end_note else ".")


def waits(view: RunView, where: str | None) -> str:
    """Return what the run waits for, or nothing; `where` is the address of the pending gate's comment."""
    gate = view.pending
    if gate is not None:
        name = code(gate.gate_key)
        return f"{asked(gate)} at {link(f'the gate {name}', where) if where else f'the gate {name}'}. {who_may(view)}"
    if view.state is RunState.CREATED and view.waits_for is not None:
        return f"the end of run {view.waits_for}"
    return "somebody who lets it go on" if view.state is RunState.PAUSED else ""


def asked(gate: GateView) -> str:
    """Return how many approvals a gate lacks."""
    given = gate.approved_by
    if gate.required == 1:
        return "one decision"
    so_far = f" (so far {len(given)}: {listed(words(name, 100) for name in given)})" if given else ""
    return f"{gate.required} approvals by different people{so_far}"


def pull_refused(said: str, pull: int | None) -> str:
    """Return that GitHub refuses the pull request, or a change to the one that is there, in its own words."""
    what = "the pull request" if pull is None else "a change to the pull request"
    return f"GitHub refuses {what}: {words(said, 600)}"


def next_step(view: RunView, say: Say, pull: int | None) -> str:
    """Return what people can do about the run now; `pull` is the number of its pull request, if it has one."""
    match view.state:
        case RunState.EXECUTING | RunState.CREATED:
            return f"{say('pause')} stops it for a while, {say('abort', '<why>')} ends it."
        case RunState.AWAITING_APPROVAL:
            return f"Answer the gate, or end the run with {say('abort', '<why>')}."
        case RunState.PAUSED:
            ending = f"{say('abort', '<why>')} ends it."
            if view.error is None or view.pending is not None:
                return f"Answer the gate; {ending}"
            return f"{hint(view.error.code, say)} {ending}"
        case RunState.COMPLETED:
            if pull is None:
                return f"There is no pull request. Review the branch {code(view.branch)}, and open one by hand."
            return "Review the pull request, and merge it if you like it."
        case RunState.FAILED:
            return hint(view.error.code if view.error else "", say)
    if view.discarded:
        return "Another run took its place."
    return f"{say('retry')} starts over where it stopped and keeps what was approved."


def hint(error_code: str, say: Say) -> str:
    """Return what to type, or whom to ask, after an error."""
    text = _HINTS.get(error_code, _TRY_AGAIN)
    names = ("approve", "reject", "resume", "retry")
    return text.format(**{name: say(name) for name in names}).replace("` `", " ")


def state_of(phase: PhaseView, view: RunView) -> str:
    """Return a phase's state with what belongs to it, for the table."""
    text = _PHASE_WORDS[phase.state]
    if stands_still(phase, view):
        text = "paused"
    if phase.state is PhaseState.COMPLETED:
        by = [gate for gate in view.gates if gate.phase_key == phase.key and gate.state is RequestState.APPROVED]
        if by:
            text = f"approved by {listed(words(name, 60) for name in by[-1].approved_by)}"
    elif phase.state is PhaseState.FAILED and phase.error_code:
        text = f"failed: {code(phase.error_code, cell=True)}"
    elif phase.state is PhaseState.RUNNING and text != "paused" and phase.started_at is not None:
        text = f"in work since {phase.started_at:%H:%M} UTC"
    return f"{text}, round {phase.round}" if phase.round > 1 else text


def stands_still(phase: PhaseView, view: RunView) -> bool:
    """Whether a phase is at work but for the pause of its run."""
    return view.state is RunState.PAUSED and phase.state in (PhaseState.RUNNING, PhaseState.VALIDATING)


def who_may(view: RunView) -> str:
    """Return who may answer the run's gates."""
    who = "Everybody with write access to this repository may decide"
    if view.approvers:
        who += f", and so may {listed(words(name, 100) for name in view.approvers)}"
    if view.unknown_approvers:
        names = listed(words(name, 100) for name in view.unknown_approvers)
        who += f"; no account of {names} is known from when the run began, so nobody decides by that name"
    if not view.requester_may_approve:
        who += f"; {words(view.requested_by, 100)}, who asked for the run, may not approve it"
    return f"{who}."


def surroundings(view: RunView) -> list[str]:
    """Return what a reader must not miss about how the run is done: recorded agent, no sandbox, cost unknown."""
    notes = []
    if view.money.recorded:
        notes.append("The agent is a recording: no model was asked." + _some_recorded(view.money))
    if view.sandbox == "none":
        notes.append("Commands run **without a sandbox**, because the operator chose so.")
    if view.money.unpriced:
        notes.append(f"The cost is unknown: {count(view.money.unpriced, 'model call')} without a known price.")
    return notes


def _some_recorded(spent: Money) -> str:
    return "" if spent.recorded == spent.calls else f" That holds for {spent.recorded} of {spent.calls} calls."


def spent_line(view: RunView) -> str:
    """Return what the run has cost so far and its cap."""
    if view.money.calls and view.money.recorded == view.money.calls:
        return f"none ({count(view.money.calls, 'turn')} of a recorded agent)"
    calls = f" in {count(view.money.calls, 'model call')}" if view.money.calls else ""
    tokens = f" with {count(view.total_tokens, 'token')}" if calls and view.total_tokens else ""
    cap = f" (cap {money(view.budget_usd)})" if view.budget_usd is not None else ""
    return f"{cost(view.money)}{calls}{tokens}{cap}"


def answered(action: str, by: str, note: str | None) -> str:
    """Return what one person answered at a gate."""
    said = f": {words(note, 300)}" if note else ""
    return f"{_ANSWERS.get(action, words(action, 30))} by {words(by, 100)}{said}"


def refusal_title(view: RunView) -> str:
    """Return the head line of the comment on a right that is missing."""
    return f"⚠️ {mention(view.requested_by)}, GitHub does not let Devflow do all that this run needs"


def stop_title(stop: StopView, view: RunView) -> str:
    """Return the head line of the comment on a pause that needs somebody."""
    if stop.over:
        return "▶️ The run went on"
    return f"⏸️ {mention(view.requested_by)}, the run has paused and needs somebody"


def end_title(view: RunView, pull: int | None) -> str:
    """Return the head line of the last comment on a run."""
    who = mention(view.requested_by)
    match view.state:
        case RunState.COMPLETED:
            ready = "the pull request is ready for your review" if pull is not None else "all phases are done"
            return f"✅ {who}, {ready}"
        case RunState.FAILED:
            return f"❌ {who}, the run has failed{_in_phase(view)}"
    return "⏹️ The run was stopped"


def check_title(view: RunView) -> str:
    """Return the line that stands beside the check run."""
    text = headline(view, plain).removeprefix("Devflow ").removeprefix("is ").removeprefix("was ")
    return text[:1].upper() + text[1:]
