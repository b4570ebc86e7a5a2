"""From a comment's Markdown to the commands in it: pure, and careful about what only looks like one.

A command stands at the start of a line that people see as ordinary text. What stands in code, in quotes, in HTML
comments, in folds, links, tables, footnotes or formulas, struck out, or in the quoted tail of an e-mail is no command.
The Markdown parser decides what is what; each line that it shows is known by its place in the source, so what follows a
command is taken as it was typed. Strangers write comments too: reading one takes time in proportion to its length.
"""

import difflib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

from markdown_it import MarkdownIt
from markdown_it.rules_inline import StateInline, escape, newline
from markdown_it.token import Token

from app.inbound.commands.registry import BY_NAME, PREFIX, Argument, Command

MAX_COMMENT = 65_536
MAX_COMMANDS = 10
_CANDIDATE = re.compile(r"^ {0,3}/[A-Za-z]", re.MULTILINE)
_COMMAND = re.compile(r" {0,3}/([A-Za-z][A-Za-z_-]*)([.,;:!]*)(?=\s|$)[^\S\n]*")
_WORD = re.compile(r"([A-Za-z][A-Za-z_-]*)([.,;:!]*)(?=\s|$)[^\S\n]*")
_SHA = re.compile(r"[0-9A-Fa-f]{7,64}")
_SHORT_SHA = re.compile(r"(?=[a-fA-F]*\d)[0-9A-Fa-f]{1,6}")
_CLOSE_ENOUGH = 0.75
_ATTRIBUTION = re.compile(
    r"(?:On\b.{5,300}\bwrote|Am\b.{5,300}\bschrieb\b.{0,100}|Le\b.{5,300}\ba écrit|El\b.{5,300}\bescribió)\s?:",
    re.DOTALL,
)
_FOLD = re.compile(r"<(/?)details(?=[\s/>])", re.IGNORECASE)
_FOOTNOTE = re.compile(r" {0,3}\[\^[^\]\s]+\]:")
_FORWARDED = re.compile(r"-{2,}\s*(?:Original|Forwarded) message\s*-{2,}", re.IGNORECASE)
_MAIL_HEADER = re.compile(r"\*{0,2}From:\*{0,2}\s")
_MAIL_HEADER_NEXT = re.compile(r"\*{0,2}(?:Sent|Date|To|Reply to|Cc|Subject):\*{0,2}\s")


@dataclass(frozen=True)
class Parsed:
    """A command in a comment: `number` counts from 1; `sha` and `text` are what followed it."""

    number: int
    command: Command
    text: str = ""
    sha: str | None = None


@dataclass(frozen=True)
class NearMiss:
    """A word that is no command but was surely meant as one; `suggestion` is the name of the closest, if any is."""

    typed: str
    suggestion: str | None


@dataclass(frozen=True)
class _Line:
    """A line that people see as text and that begins with a slash: its number in the source and what it is."""

    at: int
    name: str
    argument: str
    is_prefixed: bool


def parse(body: str, *, prefixed: bool = False) -> list[Parsed | NearMiss]:
    """Return the commands of a comment in their order, with near misses among them; never raises.

    `prefixed`: only `/devflow NAME` counts. A comment with a near miss is to be answered, not carried out by halves.
    """
    body = body[:MAX_COMMENT].replace("\r\n", "\n").replace("\r", "\n")
    if not _CANDIDATE.search(body):
        return []
    source = body.split("\n")
    end = _end_of_own_text(source)
    lines = (line for line in _command_lines(source, end) if line.is_prefixed or not prefixed)
    read = ((line, BY_NAME.get(line.name) or _near_miss(line)) for line in lines)
    # one more than is taken, because the next one ends the text of the last
    meant = list(islice(((line, one) for line, one in read if one is not None), MAX_COMMANDS + 1))
    stops = [line.at for line, _ in meant[1:]] + [end]
    return [
        one if isinstance(one, NearMiss) else _parsed(number, one, line, source[line.at + 1 : stop])
        for number, ((line, one), stop) in enumerate(zip(meant, stops, strict=False), 1)
    ][:MAX_COMMANDS]


def _near_miss(line: _Line) -> NearMiss | None:
    close = difflib.get_close_matches(line.name, BY_NAME, n=1, cutoff=_CLOSE_ENOUGH)
    typed = f"/{PREFIX} {line.name}".rstrip() if line.is_prefixed else f"/{line.name}"
    if not close and not line.is_prefixed:
        return None  # somebody else's command, or a path
    return NearMiss(typed, close[0] if close else None)


def _parsed(number: int, command: Command, line: _Line, following: list[str]) -> Parsed:
    argument = line.argument.strip()
    if command.argument is Argument.VERSION:
        first = argument.partition(" ")[0].strip("`.,;")
        if _SHA.fullmatch(first) or _SHORT_SHA.fullmatch(first):
            return Parsed(number, command, argument.partition(" ")[2].strip(), first.lower())
        return Parsed(number, command, argument.strip("`"))
    if command.argument in (Argument.TEXT, Argument.OPTIONAL_TEXT):
        return Parsed(number, command, "\n".join([argument, *following]).strip())
    return Parsed(number, command, argument)


def _command_lines(source: list[str], end: int) -> Iterator[_Line]:
    apart = _set_apart(source[:end])
    for number in _visible_lines("\n".join(source[:end])):
        match = _COMMAND.match(source[number])
        if match is None or number in apart:
            continue
        name, rest = match[1].lower(), source[number][match.end() :]
        if name != PREFIX:
            yield _Line(number, name, rest, is_prefixed=False)
            continue
        inner = _WORD.match(rest)
        if inner is None and rest.strip():
            yield _Line(number, rest.split()[0][:40], "", is_prefixed=True)
        else:
            name, rest = (inner[1].lower(), rest[inner.end() :]) if inner else ("help", "")
            yield _Line(number, name, rest, is_prefixed=True)


def _visible_lines(text: str) -> Iterator[int]:
    """Yield the numbers of the lines that begin as text of a paragraph or heading outside every quote."""
    quotes = tables = folds = 0
    for token in _MARKDOWN.parse(text):
        quotes += _opened(token, "blockquote")
        tables += _opened(token, "table")
        if token.type == "html_block":
            folds = _folds(token, folds)
        if token.type != "inline" or quotes or tables or token.map is None:
            continue
        number, before = token.map[0], 0
        for offset, is_open in _line_starts(token.children or []):
            number, before = number + token.content.count("\n", before, offset), offset
            if not folds and is_open:
                yield number
        for child in token.children or []:
            folds = _folds(child, folds) if child.type == "html_inline" else folds


def _line_starts(children: list[Token]) -> Iterator[tuple[int, bool]]:
    """Yield where each line begins, and whether it does so outside of links and of what is struck out."""
    inside = 0
    yield 0, True
    for child in children:
        inside += _opened(child, "link") + _opened(child, "s")
        if child.type in ("softbreak", "hardbreak") and "next" in child.meta:
            yield child.meta["next"], not inside


def _folds(token: Token, folds: int) -> int:
    """Return how many folds are open after some HTML; what stands in one is not seen before somebody opens it."""
    for found in _FOLD.finditer(token.content):
        folds = max(folds - 1, 0) if found[1] else folds + 1
    return folds


def _set_apart(source: list[str]) -> set[int]:
    """Return the lines in footnotes and formulas, of which the Markdown parser knows nothing."""
    found: set[int] = set()
    is_footnote = False
    marks = [number for number, line in enumerate(source) if line.strip() == "$$"]
    for first, last in zip(marks[::2], marks[1::2], strict=False):
        found.update(range(first, last))
    for number, line in enumerate(source):
        is_footnote = bool(line.strip()) and (is_footnote or _FOOTNOTE.match(line) is not None)
        if is_footnote:
            found.add(number)
    return found


def _opened(token: Token, kind: str) -> int:
    return {f"{kind}_open": 1, f"{kind}_close": -1}.get(token.type, 0)


def _noting(rule: Callable[[StateInline, bool], bool]) -> Callable[[StateInline, bool], bool]:
    """Return the rule so that each line break it makes knows where in the source the next line begins."""

    def noting(state: StateInline, silent: bool) -> bool:
        done = rule(state, silent)
        if done and not silent and state.tokens and state.tokens[-1].type in ("softbreak", "hardbreak"):
            state.tokens[-1].meta.setdefault("next", state.pos)
        return done

    return noting


def _make_markdown() -> MarkdownIt:
    parser = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    parser.inline.ruler.at("newline", _noting(newline))
    parser.inline.ruler.at("escape", _noting(escape))
    parser.parse("text")  # its tables of rules are made now, and not by two threads at once
    return parser


_MARKDOWN = _make_markdown()


def _end_of_own_text(source: list[str]) -> int:
    """Return where a mail program put the message that was answered, or else the end.

    What stands below a message with quote marks is the writer's own; without marks, nobody can tell where it ends.
    """
    is_quoted = [line.startswith(">") if line.strip() else None for line in source]
    # from where on there is nothing but quotes and empty lines
    quotes_from = max((number for number, quoted in enumerate(is_quoted) if quoted is False), default=-1) + 1
    for number, line in enumerate(source):
        following = " ".join(source[number + 1 : number + 3]).strip()
        if _FORWARDED.fullmatch(line.strip()):
            return number
        if _MAIL_HEADER.match(line) and _MAIL_HEADER_NEXT.match(following):
            return number
        for length in (1, 2):
            if _ATTRIBUTION.fullmatch(" ".join(part.strip() for part in source[number : number + length])):
                after = number + length
                next_one = next((quoted for quoted in islice(is_quoted, after, None) if quoted is not None), False)
                if not next_one or after >= quotes_from:
                    return number
    return len(source)
