"""Every sentence that people read in answer to what they wrote or did: what was wrong, who may, what to type.

The handlers in `app.inbound` choose, this module words it. What others wrote goes through `words` or `code`; the only
person who is mentioned is the one who is answered. A shell command is never the advice: readers have a comment box.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from app.surface.render import code, listed, mention, table, words
from engine.domain.config import CONFIG_PATH
from engine.domain.errors import DevflowError
from engine.domain.ids import short_id
from engine.domain.states import RunState

MAX_PROBLEMS = 5
_OPERATOR = "Whoever operates this Devflow server has to see to that; then put the label on again."
_AGAIN = "Put the label on again when that is done."
NOT_TAKEN_UP = "Changed by hand, and not taken up"
# What to do about a start that was refused, by the error's code.
_START_HINTS = {
    "config_invalid": f"Mend {code(CONFIG_PATH)} or the file named above on the default branch. {_AGAIN}",
    "workflow_not_found": f"Use one of these in the label `devflow:<workflow>`, or in {code(CONFIG_PATH)}.",
    "persona_not_found": f"Name one of these in {code(CONFIG_PATH)}, then put the label on again.",
    "schema_not_found": "Name one of these in the workflow, or add its file under `.devflow/schemas`. " + _AGAIN,
    "binding_unsatisfied": "Add a persona with these capabilities to `.devflow/personas`. " + _AGAIN,
    "price_unknown": f"Add the model's price to `prices` in {code(CONFIG_PATH)}. {_AGAIN}",
    "consent_required": _OPERATOR,
    "backend_unavailable": _OPERATOR,
    "sandbox_unavailable": _OPERATOR,
    "storage_full": _OPERATOR,
    "issue_invalid": "Write what is wanted into the issue, then put the label on again.",
    "base_not_found": "Make a first commit on the default branch, then put the label on again.",
    "nested_repository": "Declare it as a submodule, or remove it from the default branch. " + _AGAIN,
}


@dataclass(frozen=True)
class Say:
    """How commands are typed in this repository: `/approve`, or `/devflow approve` where it wants the prefix."""

    prefixed: bool = False

    def __call__(self, command: str, rest: str = "") -> str:
        """Return the command as a code span."""
        return code(f"{'/devflow ' if self.prefixed else '/'}{command} {rest}".strip())


def named(run: Mapping[Any, Any]) -> str:
    """Return how people tell a run from others."""
    return f"run {run['number']} ({code(short_id(run['run_id']))})"


def start_refused(login: str, error: DevflowError) -> str:
    """Return why nothing was started, and what to do about it."""
    hint = _START_HINTS.get(error.code, _AGAIN)
    return f"{mention(login)}, nothing was started.\n\n{_what(error)}\n\n{hint}"


def start_denied(login: str, approvers: Sequence[str]) -> str:
    """Return why a person's label starts nothing."""
    return (
        f"{mention(login)}, nothing was started: {_who_may(approvers, 'start a run')} They can put the label on again."
    )


def issue_closed(login: str) -> str:
    """Return why a label on a closed issue starts nothing."""
    return f"{mention(login)}, nothing was started, because this issue is closed. Reopen it and put the label on again."


def label_on_pull(login: str) -> str:
    """Return why a label on a pull request starts nothing."""
    return f"{mention(login)}, nothing was started: this is a pull request. Put the label on an issue."


def feedback_cut(login: str, most: int) -> str:
    """Return that a review was too long to be passed on whole."""
    return (
        f"{mention(login)}, your review with its comments is longer than an agent is given: it gets the first "
        f"{most:,} characters. Say again what matters of the rest when the next version is there."
    )


def run_in_flight(login: str, live: Mapping[Any, Any], say: Say) -> str:
    """Return why a second trigger starts nothing."""
    return (
        f"{mention(login)}, no second run was started: {named(live)} of this issue {state_words(live)}. "
        f"Wait until it has ended, or end it with {say('abort')}; then put the label on again."
    )


def queued(login: str, new: Mapping[Any, Any], before: Mapping[Any, Any]) -> str:
    """Return that a run waits for another one."""
    return f"{mention(login)}, {named(new)} begins when {named(before)} of this issue has ended."


def took_over(login: str, new: Mapping[Any, Any], before: Sequence[Mapping[Any, Any]], *, discarded: bool) -> str:
    """Return that a run takes the place of others; `discarded`: their branches go as well."""
    old = listed(named(run) for run in before)
    stopped = "are stopped" if len(before) > 1 else "is stopped"
    gone = f" {'Their branches are' if len(before) > 1 else 'Its branch is'} deleted." if discarded else ""
    return f"{mention(login)}, {old} {stopped}, and {named(new)} begins as soon as that is done.{gone}"


def near_miss(typed: str, suggestion: str | None, say: Say) -> str:
    """Return what was probably meant."""
    meant = f" Did you mean {say(suggestion)}?" if suggestion else ""
    return f"{code(typed, 80)} is no command.{meant} {say('help')} lists them."


def no_run(say: Say) -> str:
    """Return that a command found no run to act on."""
    return "There is no run here. The label `devflow` on an issue starts one."


def not_carried_out(names: Sequence[str], say: Say) -> str:
    """Return which commands of a comment were left out after one that was refused."""
    left = listed(say(name) for name in names)
    return f"{left} further down in the same comment {'were' if len(names) > 1 else 'was'} not carried out."


def closed_issue_retry() -> str:
    """Return why nothing is tried again for a closed issue."""
    return "This issue is closed. Reopen it first."


def denied(error: DevflowError, action: str) -> str:
    """Return why a person may not do that, and who may."""
    if error.details.get("own"):
        return "In this repository, whoever asked for a run does not approve it; somebody else has to."
    return f"That has no effect. {_who_may(error.details.get('approvers', ()), action)} Ask one of them."


def command_refused(error: DevflowError, run: Mapping[Any, Any], *, asks: bool, say: Say) -> str:
    """Return why a command had no effect on a run, and which one fits; `asks`: a question is open."""
    if error.code == "permission_denied":
        return denied(error, "decide here")
    parts = [_what(error)]
    if error.code == "usage":
        parts.append(_usage(error, say))
    elif error.code == "approval_superseded":
        parts.append(
            f"Look at the newest version, then answer again; {say('approve', '<sha>')} says which one you mean."
        )
    elif error.code in ("template_load_failed", "run_metadata_missing"):
        parts.append(f"{say('abort')} ends the run; the label starts another one.")
    else:
        parts.append(what_fits(run, asks=asks, say=say))
    return " ".join(parts)


def came_before(say: Say) -> str:
    """Return why an answer that is older than the question does not count."""
    return (
        "This was written before the question that is open now. Look at it, then answer again; "
        f"{say('approve', '<sha>')} says which version you mean."
    )


def review_needs_comment(say: Say) -> str:
    """Return why a review does not answer a question about money or a lost conversation."""
    return f"A review does not answer the question that is open now. Answer it in a comment, with {say('approve')}."


def review_commands(say: Say) -> str:
    """Return why commands in a review's text have no effect."""
    return "Commands count in ordinary comments. In a review, choose **Approve** or **Request changes**."


def what_fits(run: Mapping[Any, Any], *, asks: bool, say: Say) -> str:
    """Return which commands fit a run as it stands."""
    match RunState(run["state"]):
        case RunState.CREATED:
            return f"It has not begun yet; {say('pause')} holds it back, {say('abort')} ends it."
        case RunState.EXECUTING:
            return f"It is working and asks when it needs somebody; {say('pause')} stops it, {say('abort')} ends it."
        case RunState.AWAITING_APPROVAL:
            return f"It waits for {say('approve')}, {say('revise', '<feedback>')}, {say('reject')} or {say('abort')}."
        case RunState.PAUSED if asks:
            return f"It has paused with a question; {say('approve')}, {say('reject')} or {say('abort')} answers it."
        case RunState.PAUSED:
            return f"It has paused; {say('resume')} lets it go on, {say('abort')} ends it."
        case RunState.COMPLETED:
            return "It is done. For another run, put the label on again."
    return f"It has ended; {say('retry')} starts over where it stopped."


def edited_artifact_invalid(login: str, error: DevflowError, say: Say) -> str:
    """Return that a push has made an artifact invalid, with what is wrong with it."""
    return (
        f"{mention(login)}, {_what(error, capital=False)}\n\n"
        f"The question stands as it was. Mend the file on the branch, or answer {say('revise', '<feedback>')}."
    )


def not_taken_up(own: str, *, asks: bool, over: bool, say: Say) -> str:
    """Return why a run does not go on from a commit that somebody has pushed; `own` is its last one.

    `asks`: it is at a gate that still asks about `own`; `over`: it has ended.
    """
    if over:
        return f"Somebody pushed this commit, and the run has ended without it. The run's last commit is {code(own)}."
    if asks:
        return (
            "Somebody pushed this commit, and what it makes of the result is not valid. "
            f"The gate still asks about {code(own)}: mend the file on the branch, or answer "
            f"{say('revise', '<feedback>')}."
        )
    return (
        "Somebody pushed this commit while the run was at work, and the run cannot go on from it. "
        f"Put the branch back to {code(own)}, the run's last commit; if the run has paused by then, {say('resume')}."
    )


def status(run: Mapping[Any, Any], *, phase: str | None, asks: bool, pull_url: str | None, say: Say) -> str:
    """Return where a run stands and what fits."""
    lead = f"{named(run)} {state_words(run)}."
    parts = [lead[:1].upper() + lead[1:]]
    if phase is not None:
        parts.append(f"Its phase is {code(phase)}.")
    if pull_url is not None:
        parts.append(f"Its work is in {pull_url}.")
    return " ".join([*parts, what_fits(run, asks=asks, say=say)])


def help_text(rows: Sequence[tuple[str, str, str]], approvers: Sequence[str]) -> str:
    """Return the list of commands; `rows` are what is typed, what it does, who may."""
    shown = table(("Comment", "What it does", "Who may"), [(code(row[0], cell=True), row[1], row[2]) for row in rows])
    who = _who_may(approvers, "decide")
    return f"A command stands at the start of a line of a new comment.\n\n{shown}\n\n{who}"


def addressed(login: str, text: str, *, is_theirs: bool = True) -> str:
    """Return a text with its reader's name before it; a login that is no longer theirs is not mentioned."""
    name = mention(login) if is_theirs else words(login, 100)
    return f"{name}, {text[:1].lower()}{text[1:]}" if text[:1].isalpha() else f"{name}: {text}"


def state_words(run: Mapping[Any, Any]) -> str:
    """Return in a few words where a run stands."""
    return {
        RunState.CREATED: "has not begun yet",
        RunState.EXECUTING: "is at work",
        RunState.AWAITING_APPROVAL: "waits for a decision",
        RunState.PAUSED: "has paused",
        RunState.COMPLETED: "is done",
        RunState.FAILED: "has failed",
        RunState.ABORTED: "was stopped",
    }[RunState(run["state"])]


def unforeseen(login: str) -> str:
    """Return that something of ours is broken: nothing was done, and it is known."""
    return (
        f"{mention(login)}, this could not be carried out: Devflow itself failed over it, several times. "
        "Whoever operates this Devflow server finds the reason in its log. Try it again later."
    )


def refused_by_github(login: str) -> str:
    """Return that GitHub did not let us do what was wanted, however often it was tried."""
    return (
        f"{mention(login)}, this could not be carried out: GitHub did not give Devflow what that takes, however often "
        "it was asked. Whoever operates this Devflow server finds GitHub's answer in its log. Try it again later."
    )


def _who_may(approvers: Sequence[str], what: str) -> str:
    others = f", and {listed(words(name, 100) for name in approvers)}," if approvers else ""
    return f"Whoever has write permission on this repository{others} may {what}."


def _usage(error: DevflowError, say: Say) -> str:
    if "dollars" in error.message:
        return f"For example: {say('approve', '+2.00')}."
    return f"For example: {say('revise', 'Say what happens with an empty list.')}"


def _what(error: DevflowError, *, capital: bool = True) -> str:
    problems = error.details.get("problems")
    if isinstance(problems, list) and problems:
        shown = [_problem(problem) for problem in problems[:MAX_PROBLEMS]]
        if len(problems) > len(shown):
            shown.append(f"- and {len(problems) - len(shown)} more")
        return "\n".join(shown)
    text = words(error.message, 1_000).rstrip(".")
    return f"{text[:1].upper() if capital else text[:1]}{text[1:]}."


def _problem(problem: Mapping[Any, Any]) -> str:
    where = f" at {code(str(problem['where']))}" if problem.get("where") else ""
    return (
        f"- {code(str(problem['file']))}, line {int(problem['line'])}{where}: "
        f"found {words(str(problem['found']), 200)}; allowed: {words(str(problem['allowed']), 500)}"
    )
