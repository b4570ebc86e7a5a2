"""The comment of a gate: what is asked, of whom, the result itself as a document, and what to type.

While the gate waits it shows all of that; once it is answered, the answer is the head line and the rest is folded.
"""

from app.surface import questions, texts
from app.surface.render import code, fit, folded, link, quoted, reading, table, words
from app.surface.view import GateView, Links, RunView
from engine.domain.states import Action, RequestState

# What the engine adds to a result is for looking up, not for reading through.
_FOLDED = ("Checks",)


def gate_comment(view: RunView, gate: GateView, links: Links, pull: int | None, opened_by: str | None = None) -> str:
    """Return the comment on one posting of a gate; `pull` is the pull request on which people may review.

    `opened_by` is who opened it, where that is a person, who may not.
    """
    head = [f"### {questions.gate_title(gate, view)}"]
    footer = f"<sub>{' · '.join(_footer(view, gate, links))}</sub>"
    if gate.state is not RequestState.PENDING:
        return _answered(gate, links, head, footer)
    head += [questions.gate_lead(gate, _code_link(gate, links, pull)), "---"]
    review = None if pull is None or gate.outside else link("review the pull request", f"{links.pull_url(pull)}/files")
    header, rows = questions.answers(gate, view, review)
    tail = ["---", "#### Your answer", table(header, rows), questions.example(gate, view)]
    own = f" {questions.own_pull(opened_by)}" if review is not None and opened_by is not None else ""
    tail.append(f"It takes {texts.asked(gate)}. {texts.who_may(view)}{own}")
    return fit(head, _document(view, gate), [block for block in [*tail, footer] if block], _more(gate, links))


def _code_link(gate: GateView, links: Links, pull: int | None) -> str:
    if pull is not None:
        return link("the pull request", f"{links.pull_url(pull)}/files")
    return "the commit" if gate.commit is None else link("the commit", links.commit_url(gate.commit))


def _document(view: RunView, gate: GateView) -> list[str]:
    if gate.outside:
        return [questions.question(view, gate)]
    return [questions.NO_RESULT] if gate.document is None else reading(gate.document, fold=_FOLDED)


def _answered(gate: GateView, links: Links, head: list[str], footer: str) -> str:
    if gate.state is RequestState.SUPERSEDED:
        head.append(questions.overtaken())
    for item in gate.decisions:
        if item.note and item.action is not Action.APPROVE:
            head.append(quoted(words(item.note, 2_000)))
    middle = []
    if gate.document is not None:
        inside = fit([], reading(gate.document, fold=_FOLDED), [], _more(gate, links), 50_000)
        middle = [folded("What was decided on", inside)]
    elif gate.digest is not None and gate.state is not RequestState.SUPERSEDED:
        middle = [questions.RESULT_GONE]
    return fit(head, middle, [footer], _more(gate, links))


def _footer(view: RunView, gate: GateView, links: Links) -> list[str]:
    parts = []
    if gate.digest is not None:
        name = words(gate.phase_key, 64)
        if gate.artifact is not None and gate.commit is not None:
            name = link(name, links.blob_url(gate.commit, gate.artifact))
        parts.append(f"Document {name}, SHA-256 {code(gate.digest)}")
    if gate.commit is not None:
        parts.append(f"commit {link(code(gate.commit[:7]), links.commit_url(gate.commit))}")
    return [*parts, f"gate {code(gate.gate_key)}", f"run {view.number}"]


def _more(gate: GateView, links: Links) -> str:
    if gate.artifact is None or gate.commit is None:
        return texts.MORE
    readable = gate.artifact.removesuffix(".json") + ".md"
    return f"{texts.MORE} {link('Read the whole document', links.blob_url(gate.commit, readable))}."
