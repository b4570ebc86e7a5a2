"""GitHub's Markdown as a person reads it in a terminal: rendered, folded parts as one line, hidden comments gone."""

import html
import re

from rich.console import Console, Group, RenderableType
from rich.markdown import Markdown
from rich.padding import Padding
from rich.text import Text

_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
_DETAILS = re.compile(r"<details>\s*<summary>(.*?)</summary>(.*?)</details>", re.DOTALL)
_TAG = re.compile(r"</?(?:sub|sup|b|i|br|kbd|code|p|h\d)\b[^>]*>")
_INVISIBLE = re.compile("[\u200b\u200c\u200d\u2060]")


def render(body: str, *, unfold: bool = False) -> RenderableType:
    """Return a comment's body for the terminal; with `unfold`, what GitHub shows folded is shown whole."""
    text = _COMMENT.sub("", body)
    parts: list[RenderableType] = []
    position = 0
    for found in _DETAILS.finditer(text):
        parts += _markdown(text[position : found.start()])
        parts.append(Text(f"▸ {_plain(found[1])}", style="bold"))
        if unfold:
            parts.append(Padding(Group(*_markdown(found[2])), (0, 0, 0, 2)))
        position = found.end()
    parts += _markdown(text[position:])
    return Group(*parts)


def _markdown(text: str) -> list[RenderableType]:
    shown = _INVISIBLE.sub("", html.unescape(_TAG.sub("", text))).strip()
    return [Markdown(shown)] if shown else []


def _plain(summary: str) -> str:
    return html.unescape(re.sub(r"<[^>]+>", "", summary)).strip()


def page(console: Console, title: str, body: str, *, unfold: bool = False) -> None:
    """Print one comment: who wrote it and where as a rule, then the text."""
    console.rule(Text(title), align="left", style="dim")
    console.print(Padding(render(body, unfold=unfold), (0, 2)))
    console.print()
