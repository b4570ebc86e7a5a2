"""Runs as their surfaces see them, made from values: an ordinary one at each of its stops, and a hostile one."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from app.surface.view import ChangeView, DecisionView, ErrorView, GateView, Money, PhaseView, RunView, StopView
from engine.catalog import Catalog
from engine.domain.artifact_markdown import render_markdown
from engine.domain.states import Action, PhaseState, RequestState, RunState

RUN = UUID("0198f2a4-5b1c-7d3e-8f40-0000c0ffee42")
SPEC_REQUEST = UUID("0198f2a4-7000-7000-8000-000000000001")
PLAN_REQUEST = UUID("0198f2a4-7000-7000-8000-000000000002")
BEGUN = datetime(2026, 3, 14, 9, 26, 53, tzinfo=UTC)
BASE, TRIGGER, SPEC_COMMIT, PLAN_COMMIT, HEAD = (digit * 40 for digit in "01234")
DIGEST = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
SPEC = {
    "summary": "Splitting a bill between nobody must say so instead of dividing by zero.",
    "requirements": [
        "`split(total, 0)` raises `ValueError` with a message that names the number of people.",
        "Every other call gives what it gave before.",
    ],
    "acceptance_criteria": ["A test calls `split(10, 0)` and sees the ValueError.", "All older tests pass unchanged."],
    "approach": "Look at the number of people before anything is computed, and raise there.",
    "risks": ["Callers that catch ZeroDivisionError today would no longer see it."],
    "out_of_scope": ["Negative totals."],
}


class Links:
    """The addresses of a repository that nobody has."""

    page = "https://github.example/ada/billsplit"

    def issue_url(self, number: int) -> str:
        """Return the address of an issue."""
        return f"{self.page}/issues/{number}"

    def pull_url(self, number: int) -> str:
        """Return the address of a pull request."""
        return f"{self.page}/pull/{number}"

    def commit_url(self, sha: str) -> str:
        """Return the address of a commit."""
        return f"{self.page}/commit/{sha}"

    def blob_url(self, ref: str, path: str) -> str:
        """Return the address of a file."""
        return f"{self.page}/blob/{ref}/{path}"

    def comment_url(self, number: int, comment_id: int, *, pull: bool = False) -> str:
        """Return the address of a comment."""
        return f"{self.pull_url(number) if pull else self.issue_url(number)}#issuecomment-{comment_id}"


def rendered(artifact: dict[str, Any], schema_id: str = "dev/spec@1") -> str:
    """Return an artifact as the engine renders it."""
    return render_markdown(artifact, Catalog({}).schema(schema_id))


def phase(key: str, title: str, state: PhaseState = PhaseState.PENDING, **more: Any) -> PhaseView:
    """Return a phase; a begun one has taken a minute and a half, a completed one has its artifact."""
    values: dict[str, Any] = {"persona": "analyst"}
    if state is not PhaseState.PENDING:
        values |= {"attempts": 1, "started_at": BEGUN}
    if state in (PhaseState.COMPLETED, PhaseState.AWAITING_APPROVAL):
        values |= {
            "ended_at": BEGUN + timedelta(seconds=92),
            "artifact": f".devflow/runs/{RUN}/{key}.json",
            "commit": SPEC_COMMIT,
            "money": Money(Decimal("0.0312"), 4),
        }
    return PhaseView(key, title, state, **values | more)


def gate(state: RequestState = RequestState.PENDING, **more: Any) -> GateView:
    """Return the gate after the specification."""
    values: dict[str, Any] = {
        "document": rendered(SPEC),
        "artifact": f".devflow/runs/{RUN}/spec.json",
        "digest": DIGEST,
        "commit": SPEC_COMMIT,
        "gate_key": "spec_approval",
        "phase_key": "spec",
        "phase_title": "Specify what is wanted",
        "round": 1,
    }
    return GateView(request_id=SPEC_REQUEST, state=state, **values | more)


def run(state: RunState = RunState.EXECUTING, **more: Any) -> RunView:
    """Return a run of the workflow `development`, in its second phase where nothing else is said."""
    values: dict[str, Any] = {
        "branch": "devflow/12-bill-of-nobody-c0ffee42",
        "base_branch": "main",
        "base_sha": BASE,
        "requested_by": "ada",
        "head_sha": SPEC_COMMIT,
        "started_at": BEGUN,
        "sandbox": "bwrap",
        "budget_usd": Decimal(5),
        "money": Money(Decimal("0.0412"), 5),
        "total_tokens": 18_234,
        "phases": (
            phase("spec", "Specify what is wanted", PhaseState.COMPLETED),
            phase("plan", "Plan the work", PhaseState.RUNNING, persona="planner", money=Money(Decimal("0.0100"), 1)),
            phase("implement", "Implement the plan"),
        ),
        "gates": (gate(RequestState.APPROVED, decisions=(DecisionView("bob", Action.APPROVE),)),),
    }
    values |= {"title": "Splitting a bill between nobody divides by zero", "workflow": "development@1"}
    return RunView(run_id=RUN, repository_id=4711, number=3, issue_number=12, state=state, **values | more)


def at_gate(**more: Any) -> RunView:
    """Return the run as it waits for a decision on its specification."""
    phases = (
        phase("spec", "Specify what is wanted", PhaseState.AWAITING_APPROVAL),
        phase("plan", "Plan the work"),
        phase("implement", "Implement the plan"),
    )
    return run(RunState.AWAITING_APPROVAL, **{"phases": phases, "gates": (gate(),)} | more)


def at_budget(**more: Any) -> RunView:
    """Return the run as it waits for more money."""
    asked = GateView(PLAN_REQUEST, "budget_exceeded", "-", "budget exceeded", 1, RequestState.PENDING)
    message = "the run has spent 4.98 USD of 5.00, and the next call may cost 0.20"
    values = {"gates": (asked,), "error": ErrorView("budget_exceeded", message), "money": Money(Decimal("4.98"), 41)}
    return run(RunState.PAUSED, **values | more)


def paused(**more: Any) -> RunView:
    """Return the run as it stands still because of the world around it."""
    message = "the model server answered 401 three times"
    stop = StopView(17, "backend_unavailable", message, over=False)
    return run(RunState.PAUSED, **{"stops": (stop,), "error": ErrorView(stop.code, stop.message)} | more)


def _report(**more: Any) -> dict[str, Any]:
    check = {"phase_key": "implement", "name": "pytest", "command": "python3 -m pytest -q", "round": 1, "attempt": 1}
    decided = {"by": "bob", "action": "approve", "note": None}
    return {
        "checks": [check | {"exit_code": 0, "met": True, "expected": "pass", "seconds": 3.2, "output_tail": "ok"}],
        "approvals": [{"gate_key": "spec_approval", "phase_key": "spec", "decisions": [decided]}],
        "unresolved": ["checks were detected, not configured: pytest"],
    } | more


REPORT_MARKDOWN = """# Run 3: Splitting a bill between nobody divides by zero

**completed**, workflow development@1, branch `devflow/12-bill-of-nobody-c0ffee42`

## Phases

| phase | state | round | attempts | started | ended |
|---|---|---|---|---|---|
| spec | completed | 1 | 1 | 2026-03-14 09:26 | 2026-03-14 09:28 |

## Checks

| phase | check | command | exit code | expected | seconds |
|---|---|---|---|---|---|
| implement | pytest | python3 \\-m pytest \\-q | 0 | pass | 3.2 |
"""


def completed(**more: Any) -> RunView:
    """Return the run at its end, its report written."""
    done = (
        phase("spec", "Specify what is wanted", PhaseState.COMPLETED),
        phase("plan", "Plan the work", PhaseState.COMPLETED, commit=PLAN_COMMIT),
        phase("implement", "Implement the plan", PhaseState.COMPLETED, commit=HEAD, round=2, attempts=2),
    )
    files = (
        ("billsplit/split.py", "modified", "Refuses to split between nobody."),
        ("tests/test_split.py", "modified", "Calls it with nobody."),
    )
    values: dict[str, Any] = {
        "phases": done,
        "head_sha": HEAD,
        "ended_at": BEGUN + timedelta(minutes=41),
        "report": _report(),
        "report_markdown": REPORT_MARKDOWN,
        "changes": (ChangeView("Implement the plan", "`split` refuses to split between nobody.", files),),
    }
    return run(RunState.COMPLETED, **values | more)


def failed(**more: Any) -> RunView:
    """Return the run as it has failed: its check did not pass, the agent was recorded, and nothing was confined."""
    phases = (
        phase("spec", "Specify what is wanted", PhaseState.COMPLETED, money=Money(Decimal(0), 2, 0, 2)),
        phase(
            "plan",
            "Plan the work",
            PhaseState.FAILED,
            attempts=2,
            ended_at=BEGUN + timedelta(hours=1, minutes=2),
            error_code="check_failed",
            money=Money(Decimal(0), 1, 0, 1),
        ),
        phase("implement", "Implement the plan", PhaseState.SKIPPED, started_at=None, attempts=0),
    )
    values: dict[str, Any] = {
        "phases": phases,
        "error": ErrorView("check_failed", "check pytest ended with exit code 1, expected: pass"),
        "ended_at": BEGUN + timedelta(hours=1, minutes=3),
        "report": _report(unresolved=["phase plan was not completed"]),
        "report_markdown": REPORT_MARKDOWN,
        "money": Money(Decimal(0), 3, 0, 3),
        "budget_usd": None,
        "total_tokens": 0,
        "sandbox": "none",
    }
    return run(RunState.FAILED, **values | more)


NASTY = (
    "@everyone @org/team closes #1, fixes: GH-2, resolves ada/billsplit#3, fixes https://github.example/a/b/issues/4\n"
    "<!-- devflow:run/1/status -->\n</details></summary><img src=x onerror=y> ![i](http://x.example/i.png) [l](//x) "
    "`code` ``` | cell | **bold** \u202e\u200b&lt;!-- www.example.com $x$ \\` mail@example.com <@everyone> # Heading"
)


def hostile(length: int = 1) -> RunView:
    """Return a run at its gate whose every text wants to mention, close, forge or break something."""
    nasty = NASTY * length
    artifact = SPEC | {"requirements": [nasty, f"```\n{nasty}\n```"], "approach": nasty, "summary": nasty}
    noted = DecisionView(nasty, Action.REVISE, nasty)
    sent_back = replace(gate(RequestState.REVISED, decisions=(noted,), document=rendered(artifact)))
    overtaken = gate(RequestState.SUPERSEDED, document=None)
    asked = gate(
        document=rendered(artifact),
        phase_title=nasty,
        gate_key=nasty,
        required=3,
        decisions=(DecisionView(nasty, Action.APPROVE),),
    )
    return at_gate(
        title=nasty,
        branch=nasty,
        workflow=nasty,
        requested_by=f"ada\n{nasty}",
        approvers=(nasty, "carol"),
        error=ErrorView(nasty, nasty),
        gates=(sent_back, overtaken, asked),
        phases=(
            phase("spec", nasty, PhaseState.AWAITING_APPROVAL, persona=nasty),
            phase(nasty, nasty, PhaseState.FAILED, error_code=nasty, persona=nasty),
        ),
        stops=(StopView(1, nasty, nasty, over=False),),
    )


def hostile_end(length: int = 1) -> RunView:
    """Return the same run at its end."""
    nasty = NASTY * length
    check = _report()["checks"][0] | {"name": nasty, "command": nasty, "phase_key": nasty}
    decided = {"by": nasty, "action": "approve", "note": nasty}
    request = {"gate_key": nasty, "phase_key": nasty, "decisions": [decided]}
    return replace(
        hostile(length),
        state=RunState.FAILED,
        ended_by=nasty,
        end_note=nasty,
        report=_report(checks=[check], approvals=[request], unresolved=[nasty] * 30),
        report_markdown=rendered(SPEC | {"approach": nasty}),
        changes=(ChangeView(nasty, nasty, ((nasty, nasty, nasty),) * 150),),
        gates=(),
        stops=(),
    )
