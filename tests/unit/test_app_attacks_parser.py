"""Attacks on what is read from strangers: commands that nobody sees, comments that take long, forged bodies."""

import time

import pytest

from app.inbound.commands.parser import MAX_COMMENT, parse

N = MAX_COMMENT


@pytest.mark.parametrize(
    "body",
    [
        "<details>\n<summary>log</summary>\n\n/approve\n\n</details>",
        "<DETAILS open>\n\n/approve\n\n</DETAILS>",
        "- item\n\n  <details>\n\n  /approve\n\n  </details>",
        "~~struck\n/approve\nout~~",
        "[^1]: a footnote\n/approve",
        '[text](target "a title\n/approve\n")',
        "[text]: target 'a title\n/approve\n'",
        "![\n/approve\n](image.png)",
        '<a title="\n/approve\n">',
        "text <!--\n/approve\n-->",
        "<!-- never closed\n/approve",
        "<style>\n/approve\n</style>",
        "``\n/approve\n``",
        "$$\n/approve\n$$",
        "\u2044approve",
        "\uff0fapprove",
        "/\u0430pprove",
        "/appr\u200bove",
        "/\u200bapprove",
        "\u202e/approve",
        "> quoted\n/approve",
        ">\n> /approve",
        "    /approve",
        "\t/approve",
        "text /approve",
        "&#47;approve",
        "\\/approve",
        "</approve>",
        "//approve",
        "[/approve](x)",
        "| a |\n| - |\n/approve",
    ],
)
def test_what_nobody_sees_as_a_command_is_none(body: str) -> None:
    assert parse(body) == []


@pytest.mark.parametrize("body", ["/approve\r", "a\r\n/approve\r\nb", "a\n\n/approve", "<div>\n\n/approve\n\n</div>"])
def test_what_people_see_as_a_command_is_one(body: str) -> None:
    (found,) = parse(body)
    assert getattr(found, "command").name == "approve"  # noqa: B009


HEAVY = {
    "open brackets": "/approve\n" + "[" * N,
    "links": "/approve\n" + "[a](" * (N // 4),
    "emphasis": "/approve\n" + "*a_ " * (N // 4),
    "ticks": "/approve\n" + "".join("`" * i + "a" for i in range(1, 360)),
    "CDATA": "/approve\n" + "a<![CDATA[" * (N // 10),
    "tags": "/approve\n<a" + ' a="b' * (N // 6),
    "quotes": "/approve\n\n" + ">" * (N // 2),
    "lists": "/approve\n\n" + "- " * (N // 2),
    "many commands": "/pause\n" * (N // 7),
    "many words": "/approve\n" + "/zz\n" * (N // 4),
    "near misses": "/approv\n" * (N // 8),
    "mail heads": "/approve\n" + "On 12345 wrote:\n>\na\n" * (N // 20),
    "German mail heads": "/approve\n" + ("Am " + "a schrieb " * 38 + "\n") * (N // 390),
    "references": "/approve\n" + "[a\n" * (N // 3),
    "table": "/approve\n\n" + "|a" * 100 + "|\n" + "|-" * 100 + "|\n" + "|\n" * 30_000,
    "lines": "/approve\n" + "a\n" * (N // 2),
    "hard breaks": "/approve\n" + "\\\n" * (N // 2),
    "details": "/approve\n\n" + "<details>\n\n" * (N // 11),
}


@pytest.mark.parametrize("what", HEAVY)
def test_reading_a_comment_costs_no_more_than_in_proportion_to_its_length(what: str) -> None:
    def seconds(body: str) -> float:
        began = time.process_time()
        parse(body)
        return time.process_time() - began

    def in_proportion() -> bool:
        short, whole = seconds(body[: N // 4]), seconds(body)
        # a quadratic cost would be sixteen times as high; short times say nothing
        return whole < 0.2 or whole < 9 * max(short, 0.01)

    body = HEAVY[what]
    # what disturbs a measurement does not do so twice
    assert in_proportion() or in_proportion()
