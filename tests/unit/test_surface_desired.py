"""What should be visible of a run in each of its states, and that nobody's text gets a say in it."""

import re
from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from app.surface.desired import (
    Check,
    Comment,
    Pull,
    Shown,
    Surface,
    gate_surfaces,
    pull_surface,
    reply,
    surfaces,
)
from app.surface.heads import other_head
from app.surface.render import marker, marker_of
from app.surface.view import DecisionView, RunView
from engine.domain.states import Action, PhaseState, RequestState, RunState
from tests.support import run_views as views
from tests.support.run_views import HEAD, RUN, SPEC_COMMIT, SPEC_REQUEST, Links

LINKS = Links()
SHOWN = Shown(pull=13, checked=(SPEC_COMMIT,))
GITHUB_LIMIT = 65_536
MARKDOWN = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
OUR_HTML = re.compile(r"<!-- devflow:[\w/.:-]+ -->|</?details>|</?summary>|</?sub>|</?b>|<br>")
MENTION = re.compile(r"(?<!\w)@[A-Za-z0-9][\w-]*")
CLOSING = re.compile(r"(?i)\b(close[sd]?|fix(e[sd])?|resolve[sd]?)\b:?\s+(\S*#\d|GH-\d|https?://)")


def everything(view: RunView, shown: Shown = SHOWN) -> dict[str, Surface]:
    """Return all surfaces of a run by the end of their key."""
    pull = pull_surface(view, LINKS)
    found = [*([pull] if pull else []), *gate_surfaces(view, LINKS, shown), *surfaces(view, LINKS, shown)]
    return {surface.key.removeprefix(f"run/{RUN}/"): surface for surface in found}


def bodies(view: RunView, shown: Shown = SHOWN) -> dict[str, str]:
    """Return every Markdown text that a run shows."""
    texts = {}
    for name, surface in everything(view, shown).items():
        match surface.content:
            case Comment(body=body) | Pull(body=body) | Check(summary=body):
                texts[name] = body
    return texts


def others(view: RunView, shown: Shown = SHOWN) -> Iterator[tuple[str, str]]:
    """Yield what a run shows but for the one line that closes the issue, which only the pull request has."""
    for name, body in bodies(view, shown).items():
        lines = body.split("\n")
        assert lines.count("Closes #12.") == (name == "pull")
        yield name, "\n".join(line for line in lines if line != "Closes #12.")


def _tokens(body: str) -> Iterator[Token]:
    for token in MARKDOWN.parse(body):
        yield token
        yield from token.children or []


def acting(body: str) -> list[str]:
    """Return what GitHub would act on, or what is not ours, in a text."""
    found = []
    for token in _tokens(body):
        if token.type in ("html_block", "html_inline"):
            rest = OUR_HTML.sub("", token.content)
            found += re.findall(r"<[^>]*>?", rest) + MENTION.findall(rest) + [hit[0] for hit in CLOSING.findall(rest)]
        elif token.type == "text":
            found += MENTION.findall(token.content) + [hit.group() for hit in CLOSING.finditer(token.content)]
            found += re.findall(r"\w://|www\.\w", token.content)
        elif token.type == "link_open" and not str(token.attrs["href"]).startswith(Links.page):
            found.append(str(token.attrs["href"]))
        elif token.type == "image":
            found.append(str(token.attrs["src"]))
    return found


def folds_hold(body: str) -> bool:
    """Whether every fold is closed, and none is closed that is not open."""
    depth = 0
    for token in _tokens(body):
        if token.type in ("html_block", "html_inline"):
            for tag in re.findall(r"</?details>", token.content):
                depth += 1 if tag == "<details>" else -1
                if depth < 0:
                    return False
    return depth == 0


STATES = {
    "created": views.run(RunState.CREATED, head_sha=None, gates=()),
    "executing": views.run(),
    "at a gate": views.at_gate(),
    "out of money": views.at_budget(),
    "paused": views.paused(),
    "completed": views.completed(),
    "failed": views.failed(),
    "aborted": replace(views.completed(), state=RunState.ABORTED, ended_by="bob", changes=()),
}


def test_a_run_that_waits_for_a_worker_has_a_status_comment_alone() -> None:
    assert list(everything(STATES["created"], Shown())) == ["status"]


def test_a_run_at_work_has_a_draft_and_a_check_on_its_head() -> None:
    shown = everything(views.run(gates=()), Shown())

    assert list(shown) == ["pull", "status", f"check/{SPEC_COMMIT}"]
    pull, check = shown["pull"].content, shown[f"check/{SPEC_COMMIT}"].content
    assert isinstance(pull, Pull)
    assert isinstance(check, Check)
    assert (pull.draft, pull.closed, pull.head, pull.base) == (True, False, views.run().branch, "main")
    assert pull.body.count("Closes #12.") == 1
    assert (check.status, check.conclusion) == ("in_progress", None)


def test_nothing_is_proposed_before_something_is_on_the_branch() -> None:
    assert pull_surface(views.run(head_sha=views.BASE), LINKS) is None


def test_a_pull_request_whose_branch_was_discarded_is_not_made_but_says_that_it_was_stopped() -> None:
    view = views.run(head_sha=views.BASE, state=RunState.ABORTED, discarded=True)

    pull = pull_surface(view, LINKS)

    assert pull is not None and not pull.create
    assert isinstance(pull.content, Pull) and pull.content.closed
    assert "was stopped" in pull.content.body
    assert "check" not in "".join(everything(views.run(head_sha=views.BASE, gates=()), Shown()))


@pytest.mark.parametrize(
    ("state", "check"),
    [
        ("at a gate", ("completed", "action_required")),
        ("out of money", ("completed", "action_required")),
        ("paused", ("completed", "action_required")),
        ("completed", ("completed", "success")),
        ("failed", ("completed", "failure")),
        ("aborted", ("completed", "cancelled")),
    ],
)
def test_the_check_says_how_the_run_stands(state: str, check: tuple[str, str]) -> None:
    view = STATES[state]
    content = everything(view)[f"check/{view.head_sha}"].content

    assert isinstance(content, Check)
    assert (content.status, content.conclusion) == check


def test_a_gate_stands_on_the_pull_request_else_on_the_issue() -> None:
    for shown, number in ((SHOWN, 13), (Shown(), 12)):
        gate = everything(views.at_gate(), shown)[f"gate/{SPEC_REQUEST}"]
        assert isinstance(gate.content, Comment)
        assert gate.content.issue_number == number
        assert (gate.create, gate.lasting, gate.content.minimised) == (True, True, None)


def test_a_gate_that_was_answered_before_it_was_shown_is_not_shown_any_more() -> None:
    gate = everything(views.run())[f"gate/{SPEC_REQUEST}"]

    assert not gate.create


def test_an_overtaken_gate_is_minimised() -> None:
    view = views.at_gate(gates=(views.gate(RequestState.SUPERSEDED, document=None),))
    content = everything(view)[f"gate/{SPEC_REQUEST}"].content

    assert isinstance(content, Comment)
    assert content.minimised == "OUTDATED"


def test_a_pause_that_is_over_is_not_announced_and_what_announced_it_is_minimised() -> None:
    stop = replace(views.paused().stops[0], over=True)
    surface = everything(views.run(stops=(stop,)))["stop/17"]

    assert isinstance(surface.content, Comment)
    assert (surface.create, surface.content.minimised) == (False, "RESOLVED")


def test_the_end_comes_with_its_report_and_makes_the_draft_ready() -> None:
    unreported = everything(replace(views.completed(), report=None))
    reported = everything(views.completed())

    assert "end" not in unreported
    assert isinstance(unreported["pull"].content, Pull)
    assert unreported["pull"].content.draft
    assert "end" in reported
    assert isinstance(reported["pull"].content, Pull)
    assert (reported["pull"].content.draft, reported["pull"].content.closed) == (False, False)


def test_a_failed_run_keeps_its_draft_until_another_takes_over() -> None:
    failed, continued = (everything(view)["pull"] for view in (views.failed(), views.failed(continued_by=4)))

    assert isinstance(failed.content, Pull)
    assert isinstance(continued.content, Pull)
    assert (failed.content.draft, failed.content.closed) == (True, False)
    assert (continued.content.closed, continued.create) == (True, False)


def test_an_aborted_run_closes_its_pull_request_and_opens_none() -> None:
    pull = everything(STATES["aborted"])["pull"]

    assert isinstance(pull.content, Pull)
    assert (pull.content.closed, pull.create) == (True, False)


def test_a_run_whose_branch_was_thrown_away_says_no_last_word_and_checks_nothing() -> None:
    shown = everything(replace(STATES["aborted"], discarded=True), Shown(13, (SPEC_COMMIT,)))

    assert "end" not in shown
    assert [name for name in shown if name.startswith("check")] == [f"check/{SPEC_COMMIT}"]
    assert isinstance(shown[f"check/{SPEC_COMMIT}"].content, Check)
    assert shown[f"check/{SPEC_COMMIT}"].content.conclusion == "neutral"


def test_an_older_heads_check_is_ended_as_neutral() -> None:
    shown = everything(views.completed(), Shown(13, (SPEC_COMMIT, HEAD)))

    old = shown[f"check/{SPEC_COMMIT}"]
    assert isinstance(old.content, Check)
    assert (old.content.status, old.content.conclusion, old.create) == ("completed", "neutral", False)
    assert isinstance(shown[f"check/{HEAD}"].content, Check)


@pytest.mark.parametrize(
    ("state", "conclusion", "said"),
    [
        ("at a gate", "action_required", "not valid"),
        ("executing", "action_required", f"back to `{SPEC_COMMIT}`"),
        ("aborted", "neutral", "has ended without it"),
    ],
)
def test_a_commit_that_the_run_has_not_taken_up_has_a_check_of_its_own(state: str, conclusion: str, said: str) -> None:
    by_hand = "9" * 40
    view = replace(STATES[state], head_sha=SPEC_COMMIT)
    row = {"surface_key": f"run/{RUN}/check/branch", "facts": {"beside": SPEC_COMMIT}, "target": {"sha": by_hand}}
    assert other_head([row], RUN, SPEC_COMMIT) == by_hand  # type: ignore[list-item]
    assert other_head([row], RUN, HEAD) is None, "the run has gone on since"  # type: ignore[list-item]

    shown = everything(view, Shown(13, checked=(by_hand,), other_head=by_hand))

    check, own = shown[f"check/{by_hand}"].content, shown[f"check/{SPEC_COMMIT}"].content
    assert isinstance(check, Check)
    assert (check.status, check.conclusion, said in check.summary) == ("completed", conclusion, True)
    assert own == everything(view)[f"check/{SPEC_COMMIT}"].content


def test_the_same_view_gives_the_same_surfaces() -> None:
    for view in STATES.values():
        first, second = everything(view), everything(view)
        assert {name: item.digest for name, item in first.items()} == {n: item.digest for n, item in second.items()}


def test_what_a_phase_costs_while_it_works_changes_the_status_comment_alone() -> None:
    before = views.run()
    phases = (before.phases[0], replace(before.phases[1], money=views.Money(views.Decimal("0.9"), 7)), before.phases[2])
    after = replace(before, phases=phases, money=views.Money(views.Decimal("0.93"), 11))

    changed = {name for name, item in everything(after).items() if item.digest != everything(before)[name].digest}

    assert changed == {"status"}
    assert everything(after)["status"].pace == everything(before)["status"].pace, "so that it is changed at leisure"


@pytest.mark.parametrize(
    "after",
    [
        views.run(phases=(*views.run().phases[:1], replace(views.run().phases[1], state=PhaseState.VALIDATING))),
        views.run(phases=(*views.run().phases[:1], replace(views.run().phases[1], attempts=2))),
        views.run(requested_action="pause"),
        views.at_gate(),
        views.at_gate(gates=(views.gate(required=2, decisions=(DecisionView("bob", Action.APPROVE),)),)),
        views.paused(),
    ],
)
def test_whatever_a_reader_wants_to_know_at_once_changes_the_pace(after: RunView) -> None:
    assert everything(after)["status"].pace != everything(views.run())["status"].pace


@pytest.mark.parametrize("state", STATES)
def test_every_text_holds_its_own_marker_and_mentions_nobody_but_who_asked(state: str) -> None:
    view = STATES[state]
    for name, body in others(view):
        if not name.startswith("check"):
            assert marker_of(body) == f"run/{RUN}/{name}"
        assert set(acting(body)) <= {"@ada"}
        assert body.count("@ada") <= 1
        assert folds_hold(body)


@pytest.mark.parametrize("make", [views.hostile, views.hostile_end])
@pytest.mark.parametrize("length", [1, 40])
@pytest.mark.parametrize("shown", [SHOWN, Shown()])
def test_text_of_others_neither_mentions_nor_closes_nor_forges_nor_breaks(
    make: type[RunView], length: int, shown: Shown
) -> None:
    view: RunView = make(length)
    for name, body in others(view, shown):
        assert acting(body) == [], name
        assert folds_hold(body), name
        assert body.count("<!-- devflow:") == (0 if name.startswith("check") else 1), name
        assert len(body) <= GITHUB_LIMIT, name
    pull = everything(view)["pull"].content
    assert isinstance(pull, Pull)
    assert not MENTION.search(pull.title)
    assert not CLOSING.search(pull.title)
    assert "\n" not in pull.title
    assert len(pull.title) <= 256


@pytest.mark.parametrize("view", [views.hostile(60), views.hostile_end(60)])
def test_no_text_is_longer_than_github_takes_by_any_measure(view: RunView) -> None:
    pictures = "🙂👩‍👩‍👧‍👦 " * 4_000
    gates = tuple(replace(gate, document=f"# T\n\n## P\n\n{pictures}\n" * 3) for gate in view.gates)
    for name, body in bodies(replace(view, gates=gates, report_markdown=pictures)).items():
        assert len(body.encode()) <= GITHUB_LIMIT, name
        assert folds_hold(body), name


def test_a_long_artifact_is_cut_with_a_link_to_the_whole_and_the_commands_stay() -> None:
    document = views.rendered(views.SPEC | {"approach": "A sentence of some length. " * 5_000})
    body = bodies(views.at_gate(gates=(views.gate(document=document),)))[f"gate/{SPEC_REQUEST}"]

    assert "[Read the whole document](https://github.example/ada/billsplit/blob/" in body
    assert "| go on | `/approve`, or `/approve 2222222`" in body
    assert body.rstrip().endswith("</sub>")


def test_a_check_title_is_plain_text_on_one_line() -> None:
    content = everything(views.hostile())[f"check/{SPEC_COMMIT}"].content

    assert isinstance(content, Check)
    assert "\n" not in content.title
    assert not MENTION.search(content.title)


NASTY_TEXT = st.text(st.sampled_from(list("ab @#<>!-`|*_[]()\\/&$~\n\r\t1.:=+🙂\u200b\u202e")), max_size=80)


@settings(max_examples=150, deadline=None)
@given(title=NASTY_TEXT, text=NASTY_TEXT)
def test_no_text_whatever_acts(title: str, text: str) -> None:
    artifact = views.SPEC | {"requirements": [text, title], "approach": text or "x"}
    gate = views.gate(
        document=views.rendered(artifact), phase_title=title, decisions=(DecisionView(text, Action.APPROVE, text),)
    )
    view = views.at_gate(title=title, requested_by="ada", gates=(gate, replace(gate, state=RequestState.REVISED)))

    for name, body in others(view):
        assert set(acting(body)) <= {"@ada"}, name
        assert folds_hold(body), name


def test_a_reply_is_named_by_what_it_answers() -> None:
    surface = reply("991/1", 12, "Only people with write access may do that.")

    assert surface.key == "reply/991/1"
    assert surface.content == Comment(12, f"{marker('reply/991/1')}\nOnly people with write access may do that.")
