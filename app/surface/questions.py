"""Every sentence around a gate: what is asked, of whom, what came of it, and how it is answered."""

from app.surface.render import code, listed, mention, words
from app.surface.replies import Say
from app.surface.texts import sentence, spent_line
from app.surface.view import GateView, RunView
from engine.domain.states import RequestState

NO_RESULT = "This phase leaves no document. What it changed is in the commit."
RESULT_GONE = "What was asked about then is no longer the current version; it stays in the commit."


def gate_title(gate: GateView, view: RunView) -> str:
    """Return the head line of a gate's comment."""
    phase = words(gate.phase_title, 80)
    match gate.state:
        case RequestState.PENDING if gate.gate_key == "budget_exceeded":
            return f"🟡 {mention(view.requested_by)}, the run has used up its money: may it spend more?"
        case RequestState.PENDING if gate.outside:
            return f"🟡 {mention(view.requested_by)}, the agent's conversation was lost: shall it begin a new one?"
        case RequestState.PENDING if not view.requester_may_approve:
            return f"🟡 {mention(view.requested_by)}, your run needs somebody else's decision: {phase}"
        case RequestState.PENDING:
            return f"🟡 {mention(view.requested_by)}, please decide: {phase}"
        case RequestState.APPROVED:
            return f"✅ Approved by {listed(words(name, 60) for name in gate.approved_by)}: {phase}"
        case RequestState.REVISED:
            return f"↩️ Sent back by {_last_by(gate)}: {phase}"
        case RequestState.REJECTED:
            return f"❌ Rejected by {_last_by(gate)}: {phase}"
        case RequestState.ABORTED:
            return f"⏹️ The run was stopped before a decision: {phase}"
        case RequestState.SUPERSEDED:
            return f"♻️ Overtaken, decide on the newer request: {phase}"
    return f"⏹️ No longer asked: {phase}"


def _last_by(gate: GateView) -> str:
    return words(gate.decisions[-1].by, 60) if gate.decisions else "somebody"


def question(view: RunView, gate: GateView) -> str:
    """Return what a gate outside the phases asks about."""
    why = f"{sentence(view.error.message)}.".replace("..", ".") if view.error else ""
    if gate.gate_key != "budget_exceeded" or view.budget_usd is None:
        return why
    return f"{why}\n\nSpent so far: {spent_line(view)}.".strip()


def gate_lead(gate: GateView, code_link: str) -> str:
    """Return the sentence under the head line of a gate that waits; `code_link` leads to the changed lines."""
    if gate.outside:
        return "The work so far is kept, and nothing happens until somebody decides."
    again = f" This is round {gate.round}: it was changed after an earlier answer." if gate.round > 1 else ""
    below = f"Its report stands below, and its code in {code_link}" if gate.code else "Its result stands below"
    return f"The phase {code(gate.phase_key)} is done. {below}; the run goes on when you say so.{again}"


def overtaken() -> str:
    """Return why a request counts no more though nobody decided on it."""
    return "Somebody changed on the branch what was asked about here. The question stands anew, for the new content."


def answers(gate: GateView, view: RunView, pull: str | None) -> tuple[list[str], list[list[str]]]:
    """Return the table of answers to a gate: header and rows; `pull` is a link to the review, where there is one."""
    say = Say(view.prefixed)
    if gate.gate_key == "budget_exceeded":
        rows = [["raise the cap and go on", say("approve", "+2.00")], ["end the run", say("reject", "<why>")]]
        return ["To", "comment"], rows
    if gate.outside:
        rows = [["begin a new conversation", say("approve")], ["end the run", say("reject", "<why>")]]
        return ["To", "comment"], rows
    exact = say("approve", gate.commit[:7]) if gate.commit else ""
    rows = [
        ["go on", say("approve") + (f", or {exact} for just this version" if exact else ""), "**Approve**"],
        ["have it changed", say("revise", "<what to change>"), "**Request changes** and say what"],
        ["end the run as failed", say("reject", "<why>"), ""],
        ["end the run", say("abort", "<why>"), ""],
    ]
    if pull is None:
        return ["To", "comment"], [row[:2] for row in rows]
    return ["To", "comment", f"or {pull}"], rows


def own_pull(opened_by: str) -> str:
    """Return what keeps whoever opened the pull request from reviewing it."""
    return f"{words(opened_by, 60)} opened the pull request, and GitHub lets nobody review their own: a comment it is."


def example(gate: GateView, view: RunView) -> str:
    """Return one whole answer as somebody would write it."""
    if gate.outside:
        return ""
    say = Say(view.prefixed)
    return f"For example: {say('revise', 'Name the error message, and say how it is tested.')}"
