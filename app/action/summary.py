"""The end of a step as people and workflows read it: the job's summary, in Markdown, and the step's outputs."""

from decimal import Decimal

from app.action.outcome import Outcome, cost_text
from app.surface import texts
from app.surface.progress import phase_table
from app.surface.render import code, fit, link, listed, table, words
from app.surface.replies import Say
from app.surface.view import Links, RunView
from engine.domain.errors import DevflowError
from engine.domain.states import RunState

# The same words as in `action.yml`, in its order.
OUTPUTS = ("run-id", "state", "pull-number", "cost-usd", "report", "error-code")
_DECISIONS_SHOWN = 50
_NO_CHECKS = (
    "The pull request's own checks have not started, because what a job's own token does starts no workflows. "
    "Close the pull request and open it again, or give another token as `github-token`."
)


def outputs(outcome: Outcome) -> dict[str, str]:
    """Return every output; what there is not is empty."""
    values = (
        outcome.run_id,
        outcome.state,
        outcome.pull_number,
        None if outcome.cost_usd is None else _amount(outcome.cost_usd),
        outcome.report,
        outcome.error_code,
    )
    return {name: "" if value is None else str(value) for name, value in zip(OUTPUTS, values, strict=True)}


def _amount(usd: Decimal) -> str:
    """Return an amount for a program: all of its digits, at least two of them behind the point."""
    whole, _, rest = f"{usd:f}".partition(".")
    return f"{whole}.{rest.rstrip('0').ljust(2, '0')}"


def summary(outcome: Outcome) -> str:
    """Return the job's summary: what became of the event, phases, decisions, cost, and what to type next."""
    view = outcome.view
    head = ["### Devflow" if view is None else f"### {texts.RUN_ICONS[view.state]} {texts.headline(view)}"]
    if outcome.handled:
        head.append(words(outcome.handled, 1_000))
    head += [_error(error) for error in outcome.errors]
    if view is None or outcome.links is None:
        return fit(head, [], [], texts.MORE)
    middle = [phase_table(view, outcome.links, live=True)]
    if outcome.decisions:
        rows = [
            [code(key, 64, cell=True), texts.answered(said.action, said.by, said.note)]
            for key, said in outcome.decisions
        ]
        middle.append("#### Decisions\n\n" + table(["Gate", "Answer"], rows[-_DECISIONS_SHOWN:]))
    return fit(
        head,
        middle,
        [*_facts(outcome, view), *_notes(outcome, view), _footer(outcome, view, outcome.links)],
        texts.MORE,
    )


def _error(error: DevflowError) -> str:
    lines = [f"**The step could not do its work:** {words(error.message, 2_000)} ({code(error.code)})"]
    return "<br>\n".join([*lines, f"**Next:** {words(error.recovery_hint, 1_000)}"])


def _facts(outcome: Outcome, view: RunView) -> list[str]:
    lines = [f"**Cost:** {texts.spent_line(view)}"]
    step = texts.next_step(view, Say(view.prefixed), outcome.pull_number)
    if view.state.terminal or outcome.next_command is None:
        lines.append(f"**Next:** {step}")
    else:
        lines.append(f"**Next:** {outcome.next_command} as a comment. {step}")
    return ["<br>\n".join(lines)]


def _notes(outcome: Outcome, view: RunView) -> list[str]:
    notes = list(texts.surroundings(view))
    if outcome.starts_no_checks and outcome.pull_number is not None and view.state is RunState.COMPLETED:
        notes.append(_NO_CHECKS)
    return ["\n".join(f"- {note}" for note in notes)] if notes else []


def _footer(outcome: Outcome, view: RunView, links: Links) -> str:
    places = [link("issue", links.issue_url(view.issue_number))]
    if outcome.pull_number is not None:
        places.append(link("pull request", links.pull_url(outcome.pull_number)))
    parts = [f"run {view.number} ({code(view.short_id)})", f"workflow {code(view.workflow)}", listed(places)]
    return f"<sub>{' · '.join(parts)}</sub>"


def log_lines(outcome: Outcome) -> str:
    """Return the end of the step for its log: plain text, a few lines."""
    view = outcome.view
    lines = [outcome.handled] if outcome.handled else []
    if view is not None:
        lines.append(f"Run {view.number}: {view.state}, cost {cost_text(outcome)}")
        lines += [f"  {phase.key}: {phase.state}" for phase in view.phases]
    return "\n".join(lines)
