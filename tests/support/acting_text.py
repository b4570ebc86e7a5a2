"""What GitHub would act on in a Markdown text: mentions, references, closing keywords, links, HTML, hidden characters.

The text is parsed as GitHub does, because `@name` in code is only text, and an escaped `\\@name` still is a mention.
"""

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

from markdown_it import MarkdownIt
from markdown_it.token import Token

_MENTION = re.compile(r"(?<![\w/])@([A-Za-z0-9][A-Za-z0-9-]*(?:/[\w-]+)?)")
_REFERENCE = re.compile(r"(?i)(?<![\w&])(?:#|\bGH-)\d+")
_CLOSING = re.compile(
    r"(?i)\b(?:close[sd]?|fix(?:e[sd])?|resolve[sd]?):?\s+(?:[\w.-]+/[\w.-]+)?(?:#|GH-|https?://\S+/issues/)\d+"
)
_ADDRESS = re.compile(r"(?i)\b(?:https?|ftp)://\S+|\bwww\.\S+")
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
_TAG = re.compile(r"</?([A-Za-z][A-Za-z0-9-]*)[^>]*>")
_MARKDOWN = MarkdownIt("commonmark", {"html": True}).enable("table").enable("strikethrough")


@dataclass(frozen=True)
class Acting:
    """Everything in one text that does more than stand there."""

    mentions: tuple[str, ...]
    references: tuple[str, ...]
    closes: tuple[str, ...]
    links: tuple[str, ...]
    tags: tuple[str, ...]
    comments: tuple[str, ...]
    hidden: tuple[str, ...]


def acting(markdown: str) -> Acting:
    """Return what GitHub acts on in the body of a comment, an issue or a pull request."""
    parts = list(_parts(_MARKDOWN.parse(markdown)))
    text = "".join(value for kind, value in parts if kind == "text")
    html = [value for kind, value in parts if kind == "html"]
    return Acting(
        mentions=tuple(_MENTION.findall(text)),
        references=tuple(_REFERENCE.findall(text)),
        closes=tuple(_CLOSING.findall(text)),
        links=(*(value for kind, value in parts if kind == "link"), *_ADDRESS.findall(text)),
        tags=tuple(name.lower() for value in html for name in _TAG.findall(_COMMENT.sub("", value))),
        comments=tuple(comment for value in html for comment in _COMMENT.findall(value)),
        hidden=tuple(f"U+{ord(char):04X}" for char in markdown if _is_hidden(char)),
    )


def _parts(tokens: list[Token]) -> Iterator[tuple[str, str]]:
    """Yield (kind, value): text as it is shown, HTML as it stands, where links and pictures lead."""
    for token in tokens:
        if token.type == "inline":
            yield from _parts(token.children or [])
            yield "text", "\n"
        elif token.type in ("text", "text_special"):
            yield "text", token.content
        elif token.type in ("softbreak", "hardbreak"):
            yield "text", "\n"
        elif token.type in ("html_inline", "html_block"):
            yield "html", token.content
            # what stands between tags of a block is shown, and acts, though it is no Markdown
            yield "text", _TAG.sub("", _COMMENT.sub("", token.content))
        elif token.type == "link_open":
            yield "link", str(token.attrGet("href"))
        elif token.type == "image":
            yield "link", str(token.attrGet("src"))
        elif token.type == "code_inline":
            yield "text", "\x00"


def _is_hidden(char: str) -> bool:
    # the zero-width space is what we break mentions with
    return char not in "\n\u200b" and unicodedata.category(char) in ("Cc", "Cf", "Cs")
