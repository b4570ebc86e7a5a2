"""What counts as a command in a comment: what a person typed as one, and nothing that only looks like it."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.inbound.commands.parser import MAX_COMMANDS, NearMiss, Parsed, parse
from app.inbound.commands.registry import BY_NAME, COMMANDS, table

FENCE = "```"


def names(body: str, *, prefixed: bool = False) -> list[str]:
    """The names of the commands in a comment; a near miss shows what was typed."""
    found = parse(body, prefixed=prefixed)
    return [one.command.name if isinstance(one, Parsed) else f"{one.typed}?" for one in found]


def only(body: str) -> Parsed:
    """The one command of a comment."""
    (found,) = parse(body)
    assert isinstance(found, Parsed)
    return found


@pytest.mark.parametrize("name", BY_NAME)
def test_each_command_is_known_by_its_name_and_with_the_prefix(name: str) -> None:
    assert names(f"/{name}") == [name]
    assert names(f"/devflow {name}") == [name]
    assert names(f"/Devflow  {name.upper()}\n") == [name]


@pytest.mark.parametrize(
    "body",
    [
        "please /approve this",
        "text\n\nI would `/approve`",
        "`/approve`",
        "\\/approve",
        "/approver/file.txt",
        "/etc/passwd",
        "//approve",
        "/ approve",
        f"{FENCE}\n/approve\n{FENCE}",
        f"{FENCE}text\n/approve",
        "~~~\n/approve\n~~~",
        "    /approve",
        "a list:\n\n-     /approve",
        "- /approve",
        "1. /approve",
        "# /approve",
        "> /approve",
        "> quoted\n/approve",
        "> > twice\n> /approve",
        "- > in a list\n  > /approve",
        "<!-- /approve -->",
        "<!--\n/approve\n-->",
        "<!--\n\n/approve\n\n-->",
        "text <!-- hidden\n/approve\n--> text",
        "<!-- never closed\n\n/approve",
        "code `over\n/approve\nlines` ends",
        "[a link\n/approve\n](https://example.org)",
        "[a link](\n/approve\n)",
        "![a picture\n/approve\n](x.png)",
        "<details>\n/approve\n</details>",
        "<details>\n\n/approve\n\n</details>",
        "<pre>\n\n/approve\n\n</pre>",
        "| a |\n|---|\n/approve |",
        "[ref]:\n/approve",
        "&#47;approve",
        "\u200b/approve",
        "\uff0fapprove",
        "text\u2028/approve",
        "text\x0b/approve",
        "",
    ],
)
def test_what_people_do_not_see_as_a_command_is_none(body: str) -> None:
    assert parse(body) == []


@pytest.mark.parametrize(
    "body",
    [
        "/approve",
        "   /approve",
        "/Approve",
        "/approve.",
        "/approve!",
        "text\n/approve",
        "text  \n/approve",
        "text\\\n/approve",
        "`code`\n/approve",
        "`code\nover lines`\n/approve",
        "text <!-- a\nb --> text\n/approve",
        "text <!-- never closed\n/approve",
        "> quoted\n\n/approve",
        "- point\n/approve",
        "/approve\n---",
        "/approve\n-- \nAda",
        "/approve\n===",
        f"{FENCE}\ncode\n{FENCE}\n/approve",
        "*emphasis\n/approve\nover lines*",
        "text\r\n/approve\r\n",
        "text\r/approve",
        "\ufefftext\n/approve",
        "Gr\u00fc\u00dfe \U0001f600\n/approve\u00a0",
        "/approve\x00\n/approve",
    ],
)
def test_a_command_at_the_start_of_a_line_of_text_counts(body: str) -> None:
    assert names(body) == ["approve"]


def test_several_commands_count_in_their_order_with_their_numbers() -> None:
    found = parse("/resume\nthen\n/devflow status\n\n/help")

    assert [(one.number, one.command.name) for one in found if isinstance(one, Parsed)] == [
        (1, "resume"),
        (2, "status"),
        (3, "help"),
    ]


def test_a_comment_carries_only_so_many_commands() -> None:
    assert len(parse("/status\n" * 500)) == MAX_COMMANDS


def test_an_approval_may_name_a_commit() -> None:
    assert only("/approve 0123ABCdef").sha == "0123abcdef"
    assert only("/approve `0123abcdef`").sha == "0123abcdef"
    assert only("/approve 12ab").sha == "12ab"
    assert only("/approve 0123abcdef thanks") == Parsed(1, BY_NAME["approve"], "thanks", "0123abcdef")
    assert only("/approve thanks a lot") == Parsed(1, BY_NAME["approve"], "thanks a lot")
    assert only("/approve added") == Parsed(1, BY_NAME["approve"], "added")


def test_an_approval_at_a_budget_gate_carries_its_amount() -> None:
    assert only("/approve +2.00") == Parsed(1, BY_NAME["approve"], "+2.00")
    assert only("/approve `+2.00`").text == "+2.00"


def test_feedback_goes_on_over_lines_code_and_lists_until_the_next_command() -> None:
    feedback = f"use the parser\n\n- and\n- test it\n\n{FENCE}python\n/abort\n{FENCE}"

    revise, status = parse(f"/revise {feedback}\n\n/status\nrest")

    assert isinstance(revise, Parsed)
    assert revise.text == feedback
    assert isinstance(status, Parsed)
    assert status.command.name == "status"


def test_feedback_may_begin_in_the_line_below() -> None:
    assert only("/revise\nname the limits\n").text == "name the limits"


def test_a_path_in_feedback_ends_nothing() -> None:
    assert only("/revise mend these:\n/etc/hosts\n/var/log is full").text == "mend these:\n/etc/hosts\n/var/log is full"


@pytest.mark.parametrize(
    "tail",
    [
        "On Mon, 2 Nov 2026 at 10:00, devflow[bot] <notifications@github.com> wrote:\n\n> text\n> /abort",
        "On Mon, 2 Nov 2026 at 10:00, devflow[bot] <notifications@github.com>\nwrote:\n\n> text\n> /abort",
        "On Mon, 2 Nov 2026 at 10:00, devflow[bot] wrote:\n\ntext without marks\n\n/abort",
        "Am Montag schrieb devflow[bot] <x@example.org>:\n\n/abort",
        "Le lun. 2 nov. 2026, devflow[bot] a écrit :\n\n/abort",
        "-----Original Message-----\nFrom: devflow\n\n/abort",
        "---------- Forwarded message ---------\n\n/abort",
        "________________________________\nFrom: devflow[bot] <x@example.org>\nSent: Monday\nTo: Ada\n\n/abort",
        "**From:** devflow\n**Sent:** Monday\n\n/abort",
    ],
)
def test_the_answered_mail_below_an_answer_is_not_read(tail: str) -> None:
    (found,) = parse(f"/revise better\n\n{tail}")

    assert isinstance(found, Parsed)
    assert found.command.name == "revise"
    assert found.text.removesuffix("_" * 32).strip() == "better"


def test_an_answer_below_the_quoted_mail_counts() -> None:
    assert names("On Mon, 2 Nov 2026, Ada wrote:\n> text\n> /abort\n\n/approve") == ["approve"]


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("/aprove", "approve"), ("/approved", "approve"), ("/rejct", "reject"), ("/retyr", "retry"), ("/abrot", "abort")],
)
def test_a_near_miss_is_told_what_was_meant(typed: str, meant: str) -> None:
    assert parse(f"{typed} it") == [NearMiss(typed, meant)]


def test_a_word_far_from_every_command_is_somebody_elses() -> None:
    assert parse("/assign @ada\n/lgtm\n/usr\n/me waves") == []


def test_an_unknown_word_after_the_prefix_is_always_answered() -> None:
    assert parse("/devflow frobnicate") == [NearMiss("/devflow frobnicate", None)]
    assert parse("/devflow aprove") == [NearMiss("/devflow aprove", "approve")]
    assert parse("/devflow 42!") == [NearMiss("/devflow 42!", None)]
    assert names("/devflow") == ["help"]


def test_where_the_prefix_is_asked_for_nothing_else_counts() -> None:
    assert names("/approve\n/aprove\n/devflow approve\n/status", prefixed=True) == ["approve"]


def test_feedback_in_prefixed_style_may_contain_lines_that_look_bare() -> None:
    (found,) = parse("/devflow revise say\n/approve\nin the text", prefixed=True)

    assert isinstance(found, Parsed)
    assert found.text == "say\n/approve\nin the text"


def test_the_table_of_commands_has_every_command_as_it_is_typed() -> None:
    assert [row[0] for row in table(prefixed=False)] == [command.usage for command in COMMANDS]
    assert table(prefixed=True)[0][0] == "/devflow approve [sha]"


@pytest.mark.parametrize(
    "body",
    [
        "/approve " + "[" * 65_000,
        "/approve\n" + "> " * 30_000,
        "/approve\n" + "*a_" * 20_000,
        "/approve\n" + "`" * 65_000,
        "/approve\n" + "<!--" * 16_000,
        "On a " * 13_000 + "\n/approve",
        "/a\n" * 20_000,
    ],
)
def test_a_hostile_comment_is_read_in_good_time(body: str) -> None:
    began = time.monotonic()

    parse(body)

    assert time.monotonic() - began < 10


PIECES = st.sampled_from(
    ["/approve", "/devflow", " status", "/aprove", "\n", "\r\n", "> ", "- ", "`", FENCE, "<!--", "-->", "    ", "[",
     "](", ")", "|", "|-|", "# ", "---", "*", "\\", "\x00", "\u2028", "On x wrote:", "\ud800", "<details>", "text"]
)  # fmt: skip


@given(st.text(max_size=300) | st.lists(PIECES, max_size=40).map("".join))
def test_whatever_is_written_it_is_read_without_an_error(body: str) -> None:
    for prefixed in (False, True):
        for one in parse(body, prefixed=prefixed):
            assert isinstance(one, NearMiss) or one.command.name in BY_NAME


@given(st.lists(PIECES, max_size=20).map("".join))
def test_whatever_is_quoted_never_counts(body: str) -> None:
    quoted = "\n".join(f"> {line}" for line in body.replace("\r", "\n").split("\n"))

    assert parse(quoted) == []


@given(st.lists(PIECES, max_size=20).map("".join))
def test_whatever_stands_in_a_code_block_never_counts(body: str) -> None:
    block = "`" * 200

    assert parse(f"{block}\n{body}\n{block}") == []
