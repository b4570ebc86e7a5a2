"""What people read of a run: whole comments compared with files that a reviewer reads, and the rules for long ones.

After a change that is meant, `DEVFLOW_WRITE_SNAPSHOTS=1 pytest tests/unit/test_surface_texts.py` writes the files anew.
"""

import os
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from app.surface import texts
from app.surface.ending import end_comment, stop_comment
from app.surface.figures import cost, duration, money
from app.surface.gate import gate_comment
from app.surface.progress import check_summary, pull_body, status_comment
from app.surface.render import (
    LIMIT,
    code,
    fit,
    folded,
    link,
    marker,
    marker_of,
    mention,
    plain,
    reading,
    size,
    table,
    words,
)
from app.surface.replies import Say
from app.surface.view import DecisionView, Money, RunView
from engine.domain.errors import ERRORS, Effect
from engine.domain.safe_text import fence
from engine.domain.states import Action, PhaseState, RequestState, RunState
from tests.support import run_views as views
from tests.support.run_views import Links

SNAPSHOTS = Path(__file__).parent / "surface_snapshots"
LINKS = Links()
PULL = 13


def _asked(view: RunView, pull: int | None = PULL) -> str:
    return gate_comment(view, view.gates[-1], LINKS, pull)


def test_who_opened_the_pull_request_is_told_to_decide_by_a_comment() -> None:
    view = views.at_gate()
    said = "ada opened the pull request, and GitHub lets nobody review their own"

    assert said in gate_comment(view, view.gates[-1], LINKS, PULL, "ada")
    assert said not in gate_comment(view, view.gates[-1], LINKS, None, "ada"), "it stands on the issue"
    assert "lets nobody review" not in _asked(view)


def _gate(state: RequestState, *decisions: DecisionView, **more: object) -> str:
    return _asked(views.run(gates=(views.gate(state, decisions=decisions, **more),)))


PAGES: dict[str, Callable[[], str]] = {
    "gate": lambda: _asked(views.at_gate()),
    "gate-two-approvals": lambda: _asked(
        views.at_gate(
            gates=(views.gate(required=2, decisions=(DecisionView("bob", Action.APPROVE),)),),
            approvers=("bob", "carol"),
            requester_may_approve=False,
            prefixed=True,
        ),
        None,
    ),
    "gate-of-code": lambda: _asked(views.at_gate(gates=(views.gate(code=True, round=2),), requester_may_approve=False)),
    "gate-approved": lambda: _gate(RequestState.APPROVED, DecisionView("bob", Action.APPROVE)),
    "gate-sent-back": lambda: _gate(RequestState.REVISED, DecisionView("bob", Action.REVISE, "Say what 0 people owe.")),
    "gate-overtaken": lambda: _gate(RequestState.SUPERSEDED, document=None),
    "gate-budget": lambda: _asked(views.at_budget()),
    "status-waiting-its-turn": lambda: status_comment(
        views.run(
            RunState.CREATED,
            waits_for=2,
            head_sha=None,
            phases=(views.phase("spec", "Specify what is wanted"), views.phase("plan", "Plan the work")),
            gates=(),
            money=Money(),
            total_tokens=0,
        ),
        LINKS,
        None,
    ),
    "status-working": lambda: status_comment(views.run(), LINKS, PULL),
    "status-at-gate": lambda: status_comment(views.at_gate(), LINKS, PULL, LINKS.comment_url(PULL, 5, pull=True)),
    "status-paused": lambda: status_comment(views.paused(), LINKS, PULL),
    "status-recorded-and-failed": lambda: status_comment(views.failed(), LINKS, PULL),
    "pull": lambda: pull_body(views.run(), LINKS),
    "check-at-gate": lambda: check_summary(views.at_gate(), LINKS),
    "stop": lambda: stop_comment(views.paused(), views.paused().stops[0]),
    "end-completed": lambda: end_comment(views.completed(), LINKS, PULL),
    "end-failed": lambda: end_comment(views.failed(), LINKS, PULL),
    "end-aborted": lambda: end_comment(
        replace(views.completed(), state=RunState.ABORTED, ended_by="bob", end_note="Not worth it.", changes=()),
        LINKS,
        PULL,
    ),
}


@pytest.mark.parametrize("name", PAGES)
def test_a_page_reads_as_its_snapshot_says(name: str) -> None:
    path = SNAPSHOTS / f"{name}.md"
    text = PAGES[name]()
    if os.environ.get("DEVFLOW_WRITE_SNAPSHOTS"):
        path.write_text(text)

    assert text == path.read_text()


def test_every_snapshot_is_of_a_page() -> None:
    assert {path.stem for path in SNAPSHOTS.iterdir()} == set(PAGES)


@pytest.mark.parametrize(
    ("spent", "shown"),
    [
        (Money(), "none"),
        (Money(Decimal(0), 3, 0, 3), "none (recorded)"),
        (Money(Decimal(0), 2, 2), "unknown"),
        (Money(Decimal("0.5"), 3, 1), "unknown, 0.5000 USD of it known"),
        (Money(Decimal("0.00004"), 1), "under 0.0001 USD"),
        (Money(Decimal("12.345"), 9), "12.34 USD"),
    ],
)
def test_an_unknown_cost_is_never_shown_as_nothing(spent: Money, shown: str) -> None:
    assert cost(spent) == shown


def test_money_is_written_without_the_sign_that_github_takes_for_a_formula() -> None:
    assert "$" not in money(Decimal("3.2"))


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0.2, "under 1 s"), (59.4, "59 s"), (60, "1 min 00 s"), (3599, "59 min 59 s"), (7380, "2 h 03 min")],
)
def test_time_is_written_as_people_say_it(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown


def test_time_at_a_gate_is_not_the_phases_time() -> None:
    phase = views.phase("spec", "Spec", PhaseState.COMPLETED, waited_seconds=80.0)

    assert phase.seconds() == 12.0


def test_every_error_that_stops_a_run_has_a_hint_without_a_shell_command() -> None:
    stopping = [code for code, spec in ERRORS.items() if spec.effect is not Effect.REFUSED]
    hints = [texts.hint(code, Say(prefixed=True)) for code in stopping]

    assert all(hints)
    assert not [hint for hint in hints if "devflow " in hint.replace("`/devflow ", "") or "`/approve" in hint]


def test_only_a_login_is_mentioned() -> None:
    assert mention("octo-cat_corp") == "@octo-cat_corp"
    assert mention("a/b") == "a/b"
    assert "@" not in mention("a b")


def test_a_code_span_cannot_be_left() -> None:
    assert code("a`b``c") == "```a`b``c```"
    assert code("`x`") == "`` `x` ``"
    assert code("a|b", cell=True) == "`a\\|b`"
    assert code("a\nb") == "`a b`"


def test_a_title_keeps_its_words_and_loses_its_references() -> None:
    shown = plain("Fix @bob's bug #12\n\nand GH-3, see https://example.com" + "x" * 300, 80)

    assert len(shown) <= 90
    assert "#12" not in shown
    assert "@bob" not in shown
    assert "GH-3" not in shown
    assert "https://" not in shown


def test_a_link_cannot_be_left_by_its_address() -> None:
    assert link("x", "https://e.x/a b)c<d>") == "[x](https://e.x/a%20b%29c%3Cd%3E)"


def test_a_marker_is_found_in_the_first_line_alone() -> None:
    key = "run/0198f2a4-5b1c-7d3e-8f40-0000c0ffee42/gate/x"

    assert marker_of(f"{marker(key)}\r\ntext") == key
    assert marker_of(f"text\n{marker(key)}") is None
    assert marker_of(f"> {marker(key)}") is None


def test_long_parts_of_a_document_are_folded_and_short_ones_are_not() -> None:
    document = "# Title\n\n## Short\n\nOne line.\n\n## Long\n\n" + "\n".join(f"- item {n}" for n in range(40))

    short, long = reading(document)

    assert short == "#### Short\n\nOne line."
    assert long.startswith("<details>\n<summary><b>Long</b> (40 lines)</summary>\n\n- item 0")
    assert long.endswith("- item 39\n\n</details>")


def test_headings_in_fenced_code_are_no_headings() -> None:
    text = fence("# not one\n````\n## not one either")

    assert reading(f"# T\n\n## Part\n\n{text}") == [f"#### Part\n\n{text}"]


@pytest.mark.parametrize(
    "block",
    [
        "\n".join(f"- item {n} 🙂" for n in range(9_000)),
        "word 🙂 " * 20_000,
        "🙂" * 60_000,
        fence("\n".join(f"line {n}" for n in range(9_000))),
        folded("x", "\n\n".join([fence("y" * 50)] * 1_500)),
        table(["a", "b"], [["🙂" * 20, words("x | y")] for _ in range(1_000)]),
    ],
)
def test_what_is_too_long_is_cut_with_what_is_open_closed(block: str) -> None:
    body = fit(["head"], ["first", block, "never shown"], ["tail"], "the rest is elsewhere")

    assert size(body) <= LIMIT
    assert body.startswith("head\n\nfirst\n\n")
    assert body.endswith("*the rest is elsewhere*\n\ntail\n")
    assert "never shown" not in body
    assert body.count("<details>") == body.count("</details>")
    assert sum(line.startswith("```") for line in body.split("\n")) % 2 == 0
    if "\n" in block:
        assert size(body) > LIMIT * 0.9, "as much is shown as fits"


def test_what_fits_is_shown_whole() -> None:
    assert fit(["a"], ["b", "c"], ["d"], "more") == "a\n\nb\n\nc\n\nd\n"
