"""Where a run stands, three times: the status comment on the issue, the pull request's body, the check run's summary.

All three have the table of phases. Only the status comment tells the money of a phase that is still at work, so that
the other two change with the phases and not with every model call.
"""

from dataclasses import replace

from app.surface import texts
from app.surface.figures import cost, duration
from app.surface.render import LIMIT, code, fit, folded, link, table, title, words
from app.surface.replies import Say
from app.surface.view import Links, PhaseView, RunView
from engine.domain.states import PhaseState, RunState

_QUIET = (PhaseState.PENDING, PhaseState.SKIPPED)


def status_comment(
    view: RunView, links: Links, pull: int | None, asked_at: str | None = None, pull_refused: str | None = None
) -> str:
    """Return the comment on the issue that is kept up to date.

    `asked_at` is the address of the pending gate, `pull_refused` what GitHub said against the pull request.
    """
    head = [f"### {texts.RUN_ICONS[view.state]} {texts.headline(view)}"]
    say = Say(view.prefixed)
    facts = [f"**Now:** {texts.now(view)}"]
    if waits := texts.waits(view, asked_at):
        facts.append(f"**Waits for:** {waits}")
    facts.append(f"**What you can do:** {texts.next_step(view, say, pull)}")
    if pull_refused is not None:
        facts.append(f"**Not done:** {texts.pull_refused(pull_refused, pull)}")
    tail = ["\n".join(f"{fact}<br>" for fact in facts).removesuffix("<br>"), *_notes(view)]
    tail.append(f"<sub>{' · '.join([*_origin(view, links, pull), f'cost: {texts.spent_line(view)}'])}</sub>")
    return fit(head, [phase_table(view, links, live=True)], tail, texts.MORE)


def pull_title(view: RunView) -> str:
    """Return the title of the pull request: the issue's, with nothing in it that GitHub acts on."""
    return title(view.title) or f"Run {view.number} of issue {view.issue_number}"


def pull_body(view: RunView, links: Links) -> str:
    """Return the body of the pull request; it closes the issue when it is merged, and it alone says so."""
    issue = link("the issue", links.issue_url(view.issue_number))
    head = [
        f"Closes #{view.issue_number}.",
        f"Devflow takes {issue} through the workflow {code(view.workflow)}, one phase after the other. Each phase ends "
        "in a commit on this branch, and where the workflow has a gate, somebody decides before it goes on.",
        f"### {texts.RUN_ICONS[view.state]} {texts.headline(view)}",
    ]
    if view.retry_of is not None:
        head[1] += f" It goes on from run {view.retry_of}, and keeps what was approved there."
    if view.continued_by is not None:
        head[1] += f" Run {view.continued_by} has taken over from this one."
    tail = [*_notes(view), folded("How to work with it", _manual(view))]
    tail.append(f"<sub>{' · '.join(_origin(view, links, None, branch=False))}</sub>")
    return fit(head, [phase_table(view, links, live=False)], tail, texts.MORE)


def check_summary(view: RunView, links: Links) -> str:
    """Return the summary of the check run on the run's head."""
    tail = [texts.now(view)] if not view.state.terminal or view.state is RunState.FAILED else []
    return fit([], [phase_table(view, links, live=False)], [*tail, *_notes(view)], texts.MORE, LIMIT - 500)


def phase_table(view: RunView, links: Links, *, live: bool) -> str:
    """Return one row a phase: state, attempts, time, cost, and where its result is."""
    rows = [_row(phase if live else _settled(phase), view, links) for phase in view.phases]
    return table(texts.TABLE_HEADER, rows)


def _row(phase: PhaseView, view: RunView, links: Links) -> list[str]:
    seconds = phase.seconds()
    begun = phase.state is not PhaseState.PENDING or phase.round > 1
    so_far = " so far" if phase.state is PhaseState.RUNNING and phase.money.calls else ""
    return [
        texts.RUN_ICONS[view.state] if texts.stands_still(phase, view) else texts.PHASE_ICONS[phase.state],
        words(phase.title, 100) if phase.state in _QUIET else f"**{words(phase.title, 100)}**",
        texts.state_of(phase, view),
        str(phase.attempts) if phase.attempts else " ",
        duration(seconds) if seconds is not None else " ",
        cost(phase.money) + so_far if begun and (phase.money.calls or seconds is not None) else " ",
        _result(phase, links),
    ]


def _settled(phase: PhaseView) -> PhaseView:
    over = phase.state in (PhaseState.COMPLETED, PhaseState.FAILED, PhaseState.AWAITING_APPROVAL)
    return phase if over else replace(phase, money=type(phase.money)())


def _result(phase: PhaseView, links: Links) -> str:
    if phase.commit is None:
        return " "
    if phase.artifact is None:
        return link(code(phase.commit[:7]), links.commit_url(phase.commit))
    readable = phase.artifact.removesuffix(".json") + ".md"
    return link(words(phase.key, 64), links.blob_url(phase.commit, readable))


def _notes(view: RunView) -> list[str]:
    notes = texts.surroundings(view)
    return ["\n".join(["> [!NOTE]", *(f"> {note}<br>" for note in notes)]).removesuffix("<br>")] if notes else []


def _origin(view: RunView, links: Links, pull: int | None, *, branch: bool = True) -> list[str]:
    parts = [f"Run {view.number} ({code(view.short_id)})", f"workflow {code(view.workflow)}"]
    if pull is not None:
        parts.append(texts.pull_link(links, pull))
    if branch and view.publishes:
        parts.append(f"branch {code(view.branch)}")
    parts.append(f"asked for by {words(view.requested_by, 100)}")
    if view.retry_of is not None and branch:
        parts.append(f"goes on from run {view.retry_of}")
    return parts


def _manual(view: RunView) -> str:
    say = Say(view.prefixed)
    return "\n".join(
        [
            f"- At a gate, approve in a review or with {say('approve')}. Request changes in a review, or write "
            f"{say('revise', '<what to change>')}, and the phase is done again with your words.",
            "- You may push to this branch while it waits at a gate, the documents in `.devflow/runs` included. What "
            "you approve is what stands there then.",
            f"- {say('pause')} stops it for a while, {say('resume')} lets it go on, {say('abort')} ends it, "
            f"{say('help')} lists all commands.",
            "- It stays a draft until all phases are done. Nothing is merged by itself.",
        ]
    )
