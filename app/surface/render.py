"""Markdown as GitHub shows it: cells, spans, folds, and the cut that keeps a text inside GitHub's limit.

All text of others goes through `words`, `code`, `plain` or `safe_text` before it stands in a body; what comes in as
`markdown` has been made by `artifact_markdown` or the report and is harmless already.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import quote as percent

from engine.domain.safe_text import inert, neutralise, strip_hidden

# GitHub allows 65,536 characters and does not say of which kind. Bytes are never fewer than any of them.
LIMIT = 65_000
TITLE_LIMIT = 256
FOLD_CHARS = 1_500
FOLD_LINES = 24
_LOGIN = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_-]{0,98}[A-Za-z0-9])?")
_MARKER = re.compile(r"<!-- devflow:([A-Za-z0-9/_.:-]+) -->")
_FENCE = re.compile(r" {0,3}(`{3,})")
_HEADING = re.compile(r"(#{1,6}) ")
_EXACT = re.compile(r"[A-Za-z0-9_./+-]+(?:@[0-9]+)?")


def size(text: str) -> int:
    """Return how much of the limit a text takes."""
    return len(text.encode())


def marker(key: str) -> str:
    """Return the hidden line by which a surface is found again whose id was lost."""
    return f"<!-- devflow:{key} -->"


def marker_of(body: str) -> str | None:
    """Return the key in the hidden first line of a body of ours, or None where it has no such line."""
    found = _MARKER.fullmatch(body.replace("\r\n", "\n").partition("\n")[0].strip())
    return found.group(1) if found else None


def one_line(text: str, limit: int) -> str:
    """Return the text on one line without hidden characters, cut at `limit` characters."""
    text = " ".join(strip_hidden(text).split())
    return text if len(text) <= limit else f"{text[: limit - 4].rstrip()} ..."


def words(text: str, limit: int = 300) -> str:
    """Return text of others for the inside of a line: shortened, and nothing in it acts."""
    return neutralise(one_line(text, limit))


def plain(text: str, limit: int = 200) -> str:
    """Return text of others for a place that takes no Markdown, such as a title."""
    return inert(one_line(text, limit))


def title(text: str) -> str:
    """Return text of others as a pull request's title: cut when it is harmless, because that makes it longer."""
    text = inert(one_line(text, TITLE_LIMIT))
    if size(text) <= TITLE_LIMIT:
        return text
    return f"{text.encode()[: TITLE_LIMIT - 4].decode(errors='ignore').rstrip()} ..."


def code(text: str, limit: int = 200, *, cell: bool = False) -> str:
    """Return the text as a code span that it cannot leave; in a table's `cell`, it cannot leave that either."""
    text = one_line(text, limit)
    if not _EXACT.fullmatch(text):
        text = inert(text).replace("<!--", "<\u200b!--")
    if cell:
        text = text.replace("|", "\\|")
    if not text:
        return ""
    ticks = "`" * (max((len(run) for run in re.findall(r"`+", text)), default=0) + 1)
    space = " " if text[0] in "` " or text[-1] in "` " else ""
    return f"{ticks}{space}{text}{space}{ticks}"


def mention(login: str) -> str:
    """Return `@login`; what is no login is shown and mentions nobody."""
    return f"@{login}" if _LOGIN.fullmatch(login) else words(login, 100)


def link(text: str, url: str) -> str:
    """Return a link whose text is ready Markdown."""
    return f"[{text}]({percent(url, safe=':/?#@!$&*+,;=%~._-')})"


def listed(items: Iterable[str], last: str = "and") -> str:
    """Return items as a sentence lists them."""
    parts = list(items)
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} {last} {parts[-1]}" if parts else ""


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table of ready cells."""
    lines = [f"| {' | '.join(header)} |", "|" + " --- |" * len(header)]
    return "\n".join(lines + [f"| {' | '.join(row)} |" for row in rows])


def quoted(text: str) -> str:
    """Return ready Markdown as a quotation."""
    return "\n".join(f"> {line}".rstrip() for line in text.split("\n"))


def folded(summary: str, markdown: str) -> str:
    """Return a part that a click opens; `summary` is ready HTML."""
    return f"<details>\n<summary>{summary}</summary>\n\n{markdown.strip()}\n\n</details>"


def html(text: str, limit: int = 200) -> str:
    """Return text of others for the summary of a fold: GitHub reads that as HTML and then still acts on mentions."""
    text = inert(one_line(text, limit))
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;")


@dataclass(frozen=True)
class Section:
    """A part of a document: its heading (ready Markdown, maybe empty) and what stands under it."""

    title: str
    text: str

    @property
    def long(self) -> bool:
        """Whether a reader is better off opening it when they want it."""
        return len(self.text) > FOLD_CHARS or self.text.count("\n") >= FOLD_LINES


def sections(markdown: str) -> list[Section]:
    """Split a document at its headings of level 2; its title is left out, deeper headings are moved to level 5.

    Headings inside of fenced code are none.
    """
    found: list[tuple[str, list[str]]] = [("", [])]
    for line, before, after in _lines(markdown):
        heading = None if before or after else _HEADING.match(line)
        level = len(heading.group(1)) if heading else 0
        if level == 1:
            continue
        if level == 2:
            found.append((line[3:].strip(), []))
        else:
            found[-1][1].append(f"##### {line[level + 1 :].strip()}" if level else line)
    parts = [Section(title, "\n".join(lines).strip("\n")) for title, lines in found]
    return [part for part in parts if part.text]


def reading(markdown: str, *, fold: Sequence[str] = ()) -> list[str]:
    """Return a document as blocks for reading: a heading each, long parts and those named in `fold` folded."""
    return [_block(part, fold=part.long or part.title in fold) for part in sections(markdown)]


def _block(part: Section, *, fold: bool) -> str:
    if not part.title:
        return part.text
    if not fold:
        return f"#### {part.title}\n\n{part.text}"
    count = part.text.count("\n") + 1
    lines = f" ({count} lines)" if count > 1 else ""
    return folded(f"<b>{_summary(part.title)}</b>{lines}", part.text)


def _summary(title: str) -> str:
    # a title comes as Markdown, and a summary is HTML: take its escapes off and put the other ones on
    return html(re.sub(r"\\([\\`*_\[\]<>&|~!$#.)=+-])", r"\1", title))


def fit(head: Sequence[str], middle: Sequence[str], tail: Sequence[str], more: str, limit: int = LIMIT) -> str:
    """Return the blocks as one body within `limit` bytes: `head` and `tail` stay whole, `middle` is cut.

    `more` stands at the cut and says where the rest is. A block is cut between lines, and what is open there is closed.
    """
    rest = f"*{more}*"
    room = limit - size("\n\n".join([*head, rest, *tail])) - 4
    shown: list[str] = []
    for block in middle:
        need = size(block) + 2
        if need <= room:
            shown.append(block)
            room -= need
            continue
        beginning = _beginning(block, room - 2)
        shown += [beginning, rest] if beginning else [rest]
        break
    return "\n\n".join([*head, *shown, *tail]) + "\n"


def _beginning(block: str, room: int) -> str:
    """Return as many lines of a block as fit, with its fence and its folds closed; nothing where too little fits."""
    kept: list[str] = []
    folds, open_fence = 0, ""
    for line, before, after in _lines(block):
        deeper = folds + (not before and not after) * ((line == "<details>") - (line == "</details>"))
        need = size(line) + 1
        if need + size(_closed(deeper, after)) > room:
            part = "" if before or after else _part(line, room - size(_closed(folds, "")) - 1)
            kept += [part] if part else []
            break
        kept.append(line)
        room -= need
        folds, open_fence = deeper, after
    text = "\n".join(kept).rstrip()
    if not text or text.endswith(("</summary>", "<details>")):
        return ""
    return text + _closed(folds, open_fence)


def _closed(folds: int, ticks: str) -> str:
    return (f"\n{ticks}" if ticks else "") + "\n\n</details>" * folds


def _part(line: str, room: int) -> str:
    """Return the beginning of one long line of text, cut between words; tables, headings and HTML are never cut."""
    if room < 200 or line.startswith(("|", "#", "<")):
        return ""
    text = line.encode()[:room].decode(errors="ignore")
    return text.rpartition(" ")[0].rstrip("\\") if " " in text else ""


def _lines(markdown: str) -> Iterator[tuple[str, str, str]]:
    """Yield each line with the fence that is open before it and the one that is open after it (none: empty)."""
    ticks = ""
    for line in markdown.split("\n"):
        before = ticks
        found = _FENCE.match(line)
        if not ticks and found:
            ticks = found.group(1)
        elif ticks and re.fullmatch(rf" {{0,3}}`{{{len(ticks)},}}\s*", line):
            ticks = ""
        yield line, before, ticks
