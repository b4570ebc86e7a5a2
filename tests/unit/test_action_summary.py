"""The end of a step: exit code, outputs and summary, from a run at each of its stops, and from a hostile one."""

from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from app.action.outcome import Outcome
from app.action.summary import OUTPUTS, log_lines, outputs, summary
from app.surface.view import DecisionView, ErrorView, Money, RunView
from engine.domain.errors import DevflowError
from engine.domain.states import Action, RequestState, RunState
from tests.support import run_views as views
from tests.support.acting_text import acting

LINKS = views.Links()
TABLES = MarkdownIt("commonmark").enable("table")
texts = st.text(
    st.one_of(st.characters(), st.sampled_from("|\\`<>&*_[]()\n\r@#:/-")),
    max_size=40,
) | st.sampled_from(["| a |", "\n| x | y |\n", "</sub>", "<!-- x -->", "@ada", "closes #1", "```\n", "<details>"])


def ended(view: RunView | None = None, **more: object) -> Outcome:
    """Return the end of a step that worked on this run."""
    return Outcome("The comment was carried out.", view=view, links=LINKS, issue_number=12, **more)  # type: ignore[arg-type]


def rejected() -> RunView:
    """Return a run that a person has rejected."""
    said = views.gate(RequestState.REJECTED, decisions=(DecisionView("bob", Action.REJECT, "no"),))
    return replace(views.failed(), gates=(said,), error=ErrorView("approval_rejected", "bob rejected the gate"))


@pytest.mark.parametrize(
    ("outcome", "code"),
    [
        (Outcome("The label starts nothing.", is_ours=False), 0),
        (Outcome("A stranger was answered."), 0),
        (ended(views.at_gate()), 0),
        (ended(views.at_budget()), 0),
        (ended(views.paused()), 0),
        (ended(views.completed()), 0),
        (ended(replace(views.completed(), state=RunState.ABORTED, ended_by="bob")), 0),
        (ended(rejected()), 0),
        (ended(views.failed()), 1),
        (ended(views.at_gate(), error=DevflowError("github_unavailable", "no answer")), 1),
        (Outcome("", error=DevflowError("config_invalid", "wrong")), 1),
    ],
)
def test_a_step_fails_where_the_run_or_its_own_work_has_failed(outcome: Outcome, code: int) -> None:
    assert outcome.exit_code == code


def test_the_outputs_say_where_the_run_stands() -> None:
    found = outputs(ended(views.at_gate(), pull_number=13, report="https://github.example/report"))

    assert found == {
        "run-id": str(views.RUN),
        "state": "awaiting_approval",
        "pull-number": "13",
        "cost-usd": "0.0412",
        "report": "https://github.example/report",
        "error-code": "",
    }


def test_without_a_run_all_outputs_are_empty() -> None:
    assert outputs(Outcome("", is_ours=False)) == dict.fromkeys(OUTPUTS, "")


def test_a_cost_that_is_not_known_is_no_number() -> None:
    view = views.at_gate(money=Money(Decimal("0.1"), 2, unpriced=1))

    assert outputs(ended(view))["cost-usd"] == ""
    assert "unknown" in summary(ended(view))
    assert "unknown" in log_lines(ended(view))


@pytest.mark.parametrize(
    ("view", "command"),
    [
        (views.at_gate(), "`/approve`"),
        (views.at_gate(prefixed=True), "`/devflow approve`"),
        (views.at_budget(), "`/approve +2.00`"),
        (views.paused(), "`/resume`"),
        (views.failed(), "`/retry`"),
        (views.completed(), None),
        (views.run(), None),
    ],
)
def test_the_next_command_fits_the_state(view: RunView, command: str | None) -> None:
    outcome = ended(view)

    assert outcome.next_command == command
    assert command is None or command in summary(outcome)


def test_the_summary_shows_phases_decisions_cost_and_links() -> None:
    text = summary(ended(views.completed(), pull_number=13))

    assert "Specify what is wanted" in text
    assert "| `spec_approval` | approved by bob |" in text
    assert "**Cost:** 0." in text
    assert f"({LINKS.issue_url(12)})" in text
    assert f"({LINKS.pull_url(13)})" in text


@pytest.mark.parametrize(
    ("outcome", "is_said"),
    [
        (ended(views.completed(), pull_number=13, starts_no_checks=True), True),
        (ended(views.completed(), pull_number=13), False),
        (ended(views.completed(), starts_no_checks=True), False),
        (ended(views.at_gate(), pull_number=13, starts_no_checks=True), False),
    ],
)
def test_with_a_jobs_own_token_the_summary_says_that_no_checks_have_started(outcome: Outcome, is_said: bool) -> None:
    assert ("own checks have not started" in summary(outcome)) is is_said


def test_an_error_is_shown_with_what_to_do() -> None:
    error = DevflowError("github_unavailable", "the host said nothing", recovery_hint="run the job again")

    text = summary(Outcome("", error=error))

    assert "the host said nothing (`github_unavailable`)" in text
    assert "run the job again" in text


def test_every_error_of_a_step_is_shown() -> None:
    first, second = (DevflowError("permission_missing", f"it lacks {name}") for name in ("issues", "checks"))
    outcome = Outcome("", error=first, other_errors=(second,))

    text = summary(outcome)

    assert (outcome.error_code, outcome.errors) == ("permission_missing", (first, second))
    assert text.index("it lacks issues") < text.index("it lacks checks")


def _cells(text: str) -> list[int]:
    counts, row = [], 0
    for token in TABLES.parse(text):
        if token.type == "tr_open":
            row = 0
        elif token.type in ("td_open", "th_open"):
            row += 1
        elif token.type == "tr_close":
            counts.append(row)
    return counts


@given(texts, texts, texts)
def test_nobodys_words_act_or_break_a_table(one: str, two: str, three: str) -> None:
    said = DecisionView(one, Action.REVISE, two)
    view = views.at_gate(
        phases=(views.phase("spec", three), views.phase("plan", one)),
        gates=(views.gate(gate_key=three, decisions=(said,)),),
        requested_by=two,
    )
    outcome = Outcome(one, view=view, links=LINKS, error=DevflowError("usage", two, recovery_hint=three))

    text = summary(outcome)

    found = acting(text)
    assert (found.mentions, found.references, found.closes, found.comments) == ((), (), (), ())
    assert set(found.tags) <= {"br", "sub"}
    assert all(address.startswith(LINKS.page) for address in found.links)
    assert _cells(text) == [7, 7, 7, 2, 2]
