"""Attacks on what we show: whatever strangers write, in no place of ours does it act, hide something or break out."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from app.surface.render import code, folded, html, marker_of, plain, quoted, size, table, title, words
from tests.support.acting_text import acting

PIECES = [
    "@ada",
    "@octo/team",
    "#1",
    "GH-1",
    "gh-1",
    "octo/answers#1",
    "closes #1",
    "Fixes: octo/answers#1",
    "resolves GH-1",
    "https://evil.example/x",
    "www.evil.example",
    "ftp://evil.example",
    "mailto:eve@evil.example",
    "eve@evil.example",
    "[x](javascript:alert(1))",
    "![x](https://evil.example/x.png)",
    "<img src=x onerror=alert(1)>",
    "<script>",
    "<!-- devflow:run/x/status -->",
    "<!--",
    "-->",
    "</details>",
    "<details>",
    "</summary>",
    "</sub>",
    "<br>",
    "|",
    "\\|",
    "\\",
    "`",
    "``",
    "```",
    "~~~",
    "\n",
    "\r",
    "\r\n",
    "\u2028",
    "\t",
    " ",
    "    ",
    "# ",
    "> ",
    "- ",
    "1. ",
    "---",
    "===",
    "*",
    "_",
    "**",
    "~~",
    "$x$",
    "$$",
    "[^1]",
    "[^1]: ",
    "[x]: javascript:x",
    "[",
    "]",
    "(",
    ")",
    "&#64;ada",
    "&commat;ada",
    "&lt;",
    "\u200b",
    "\u202e",
    "\u2066",
    "\ufeff",
    "\x00",
    "\x1b[31m",
    "\U000e0041",
    "\ud800",
    ":",
    ".",
    "a",
    "1",
    "_GH-1",
    "0123456789abcdef0123456789abcdef01234567",
    "[bot]",
    "> [!WARNING]",
    ":shipit:",
    "\u0661",
    "\uff20ada",
    "@\u200bada",
]
TEXT = st.lists(st.sampled_from(PIECES), max_size=12).map("".join)


def _is_quiet(markdown: str, tags: set[str] = frozenset()) -> None:  # type: ignore[assignment]
    found = acting(markdown)
    assert (found.mentions, found.references, found.closes, found.links) == ((), (), (), ()), markdown
    assert set(found.tags) <= set(tags), markdown
    assert found.comments == (), markdown


@settings(max_examples=800, deadline=None)
@given(TEXT)
def test_words_of_others_do_nothing(text: str) -> None:
    for shown in (f"Said: {words(text)}.", words(text), f"- {words(text)}", f"### {words(text)}", f"**{words(text)}**"):
        _is_quiet(shown)
    assert "\n" not in words(text)


@settings(max_examples=800, deadline=None)
@given(TEXT)
def test_code_of_others_stays_in_its_span(text: str) -> None:
    _is_quiet(f"Run {code(text)} now.")
    _is_quiet(code(text) + "x")


@settings(max_examples=800, deadline=None)
@given(TEXT, TEXT)
def test_a_cell_of_others_stays_in_its_cell(one: str, other: str) -> None:
    shown = table(["A", "B", "C"], [[code(one, cell=True), words(other), "end"]])

    _is_quiet(shown)
    assert shown.count("\n") == 2


@settings(max_examples=500, deadline=None)
@given(TEXT, TEXT)
def test_a_fold_of_others_stays_closed(title: str, text: str) -> None:
    _is_quiet(folded(html(title), quoted(words(text, 2_000))), {"details", "summary"})


@settings(max_examples=500, deadline=None)
@given(TEXT)
@example("_GH-1_")
@example("_www.example.com")
def test_a_title_of_others_does_nothing(text: str) -> None:
    # a title takes no Markdown, so that what Markdown alone resolves stays as it is
    found = acting(plain(text).replace("&", "+"))

    assert (found.mentions, found.references, found.closes) == ((), (), ())


@settings(max_examples=300, deadline=None)
@given(TEXT, st.integers(1, 256))
@example("#1 ", 85)
@example("\U0001f600", 256)
def test_a_title_of_others_is_never_too_long_for_github_and_does_nothing(text: str, times: int) -> None:
    shown = title((text * times)[:256])

    assert size(shown) <= 256  # GitHub does not say what a character is; bytes are never fewer
    found = acting(shown.replace("&", "+"))
    assert (found.mentions, found.references, found.closes) == ((), (), ())


@settings(max_examples=500, deadline=None)
@given(TEXT)
def test_no_text_of_others_is_our_marker(text: str) -> None:
    for shown in (words(text), code(text), html(text)):
        assert marker_of(shown) is None


@pytest.mark.parametrize("key", ["run/x/status", "reply/label/5/20260102T030405Z/0a1b2c3d"])
def test_a_marker_counts_in_the_first_line_alone(key: str) -> None:
    assert marker_of(f"<!-- devflow:{key} -->\nx") == key
    assert marker_of(f"x\n<!-- devflow:{key} -->") is None
    assert marker_of(f"<!-- devflow:{key} --> <!-- devflow:other -->") is None
