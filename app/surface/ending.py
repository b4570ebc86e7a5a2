"""Comments on a run that stands still, lacks a right or has ended: what somebody has to do, and the last word."""

from collections.abc import Mapping
from typing import Any

from app.surface import texts
from app.surface.figures import duration
from app.surface.render import code, fit, folded, link, listed, reading, table, words
from app.surface.replies import Say
from app.surface.view import ChangeView, Links, RunView, StopView
from engine.domain.errors import DevflowError
from engine.domain.states import RunState

_FILES_SHOWN = 12
_FILES_AT_ALL = 100
_ITEMS_SHOWN = 20
# What the report has among the unresolved, and this comment tells as the way in which it was done.
_TOLD = ("commands ran without a sandbox", "the cost is unknown")


def stop_comment(view: RunView, stop: StopView) -> str:
    """Return the comment on a pause that needs somebody; once it is over it says so."""
    head = [f"### {texts.stop_title(stop, view)}", f"{texts.sentence(stop.message)} ({code(stop.code)})"]
    if not stop.over:
        say = Say(view.prefixed)
        head.append(f"**What you can do:** {texts.hint(stop.code, say)} {say('abort', '<why>')} ends the run.")
    return fit(head, [], [f"<sub>run {view.number}</sub>"], texts.MORE)


def refusal_comment(view: RunView, error: DevflowError) -> str:
    """Return the comment on a right that Devflow lacks here: what was refused, and what to grant.

    The error's texts are made by us alone, so they are shown as they are.
    """
    head = [
        f"### {texts.refusal_title(view)}",
        f"{_capital(error.message)} ({code(error.code)}).",
        f"**What you can do:** {_capital(error.recovery_hint)}. {texts.REFUSAL_NEXT}",
    ]
    return fit(head, [], [f"<sub>run {view.number}</sub>"], texts.MORE)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def granted_comment(view: RunView) -> str:
    """Return what takes the place of such a comment when GitHub has taken what it refused."""
    return fit([f"### {texts.GRANTED}"], [], [f"<sub>run {view.number}</sub>"], texts.MORE)


def end_comment(view: RunView, links: Links, pull: int | None, pull_refused: str | None = None) -> str:
    """Return the last comment on a run: what came of it, and the report to open.

    `pull_refused` is what GitHub said against the pull request.
    """
    say = Say(view.prefixed)
    head = [f"### {texts.end_title(view, pull)}"]
    if view.state is not RunState.COMPLETED:
        head.append(texts.now(view))
    head.append(f"**Next:** {texts.next_step(view, say, pull)}")
    middle = [_change(change) for change in view.changes]
    if pull is not None and view.changes:
        middle.append(link("See every changed line", f"{links.pull_url(pull)}/files"))
    report = view.report or {}
    middle += [part for part in (_checks(report), _decisions(report)) if part]
    middle.append(f"**Cost:** {texts.spent_line(view)}.")
    unresolved = [words(str(item), 600) for item in report.get("unresolved", []) if not str(item).startswith(_TOLD)]
    if pull_refused is not None:
        unresolved.insert(0, texts.pull_refused(pull_refused, pull))
    if unresolved:
        middle.append("#### Unresolved\n\n" + _list(unresolved))
    if notes := texts.surroundings(view):
        middle.append("#### How it was done\n\n" + _list(notes))
    if view.report_markdown:
        middle.append(folded("<b>The full report</b>", "\n\n".join(reading(view.report_markdown))))
    return fit(head, middle, [f"<sub>{' · '.join(_footer(view, links))}</sub>"], _more(view, links))


def _change(change: ChangeView) -> str:
    text = f"#### What changed: {words(change.title, 100)}\n\n{words(change.summary, 2_000)}"
    rows = [[code(path, 120, cell=True), words(kind, 20), words(why, 200)] for path, kind, why in change.files]
    if not rows:
        return text
    shown = table(["File", "", "Why"], rows[:_FILES_AT_ALL])
    if len(rows) > _FILES_AT_ALL:
        shown += f"\n\nand {len(rows) - _FILES_AT_ALL} more files."
    if len(rows) > _FILES_SHOWN:
        shown = folded(f"{len(rows)} files", shown)
    return f"{text}\n\n{shown}"


def _checks(report: Mapping[str, Any]) -> str:
    last: dict[tuple[str, str], Mapping[str, Any]] = {}
    for check in report.get("checks", []):
        last[check["phase_key"], check["name"]] = check  # they come by round and attempt: the last one counts
    rows = [
        [
            "✅" if check["met"] else "❌",
            code(check["name"], 60, cell=True),
            words(check["phase_key"], 60),
            code(check["command"], 120, cell=True),
            "out of time" if check["exit_code"] is None else f"exit {check['exit_code']}",
            duration(check["seconds"]),
        ]
        for check in last.values()
    ]
    if not rows:
        return "#### Checks\n\nNo checks were run."
    return "#### Checks\n\n" + table(["", "Check", "Phase", "Command", "Ended with", "Time"], rows)


def _decisions(report: Mapping[str, Any]) -> str:
    said = []
    for request in report.get("approvals", []):
        for item in request["decisions"]:
            said.append(f"{code(request['gate_key'])}: {texts.answered(item['action'], item['by'], item['note'])}")
    return "#### Decisions\n\n" + (_list(said) if said else "Nobody was asked.")


def _list(items: list[str]) -> str:
    more = [f"and {len(items) - _ITEMS_SHOWN} more, see the report"] if len(items) > _ITEMS_SHOWN else []
    return "\n".join(f"- {item}" for item in [*items[:_ITEMS_SHOWN], *more])


def _footer(view: RunView, links: Links) -> list[str]:
    parts = [f"run {view.number} ({code(view.short_id)})"]
    if view.started_at is not None and view.ended_at is not None:
        parts.append(f"took {duration((view.ended_at - view.started_at).total_seconds())} in all")
    if view.publishes and not view.discarded and view.head_sha is not None:
        files = [link(name, links.blob_url(view.head_sha, _report(view, name))) for name in ("md", "json")]
        parts.append(f"report as {listed(files)}")
    return parts


def _report(view: RunView, suffix: str) -> str:
    return f".devflow/runs/{view.run_id}/report.{suffix}"


def _more(view: RunView, links: Links) -> str:
    if view.head_sha is None or view.discarded:
        return texts.MORE
    return f"{texts.MORE} {link('Read the whole report', links.blob_url(view.head_sha, _report(view, 'md')))}."
