"""The tests' own eye for what GitHub acts on: it has to see what is there, or the conversations show nothing."""

import pytest

from engine.domain.safe_text import fence, neutralise
from tests.support.acting_text import acting


@pytest.mark.parametrize(
    ("markdown", "part", "seen"),
    [
        ("Ask @octo or \\@grace/team.", "mentions", ("octo", "grace/team")),
        ("<details>\n<summary>@octo</summary>\n</details>", "mentions", ("octo",)),
        ("| a |\n| --- |\n| @octo |", "mentions", ("octo",)),
        ("ping@example.org `@octo` @\u200bocto", "mentions", ()),
        ("see #12, GH-7 and `#3`", "references", ("#12", "GH-7")),
        ("This fixes #1 and\ncloses octo/answers#2; resolved: GH-3", "closes", ("fixes #1", "closes octo/answers#2")),
        ("[x](https://a.example) ![y](https://b.example)", "links", ("https://a.example", "https://b.example")),
        ("bare www.example.org", "links", ("www.example.org",)),
        ("<script>x</script> and <b>y</b>", "tags", ("script", "script", "b", "b")),
        ("<!-- devflow:a -->\n\ntext <!-- b -->", "comments", ("<!-- devflow:a -->", "<!-- b -->")),
        ("a\u202eb", "hidden", ("U+202E",)),
    ],
)
def test_it_sees_what_acts_and_nothing_else(markdown: str, part: str, seen: tuple[str, ...]) -> None:
    found = getattr(acting(markdown), part)

    assert found[: len(seen)] == seen
    assert seen or not found


@pytest.mark.parametrize("harmless", [neutralise, fence])
def test_what_was_made_harmless_does_not_act(harmless: object) -> None:
    text = "@octo fixes #1 GH-2 <b>x</b> <!-- y --> [z](https://a.example) www.example.org \u202e"
    assert callable(harmless)

    found = acting(harmless(text))

    assert (found.mentions, found.references, found.closes, found.links) == ((), (), (), ())
    assert (found.tags, found.comments, found.hidden) == ((), (), ())
