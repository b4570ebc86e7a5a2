"""Text from strangers made harmless: for a model that reads it (`clean_untrusted`), for people (`neutralise`).

Issue texts and agents' artifacts pass through here before they reach a prompt, a Markdown file or a comment.
"""

import re
import unicodedata

_BREAK = "\u200b"
# Format characters that are visible signs of their scripts.
_VISIBLE_FORMAT = frozenset("\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2\U000110bd\U000110cd")
# Letters and marks that show nothing: fillers, variation selectors, joiners.
_BLANK = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0\ufffe\uffff") | {
    chr(code)
    for first, last in ((0x180B, 0x180F), (0xFE00, 0xFE0F), (0xE0100, 0xE01EF))
    for code in range(first, last + 1)
}
_COMMENT = re.compile(r"<!--(?:-?>|.*?--!?>)", re.DOTALL)
_OPEN_BLOCK = re.compile(r"^ {0,3}<!--.*", re.DOTALL | re.MULTILINE)


def strip_hidden(text: str) -> str:
    """Return the text without characters that people do not see; line ends become newlines."""
    text = re.sub("\r\n?|\u2028|\u2029|\x85|\x0b|\x0c", "\n", text)
    return "".join(char for char in text if char in "\n\t" or not _is_hidden(char))


def _is_hidden(char: str) -> bool:
    if char < "\x7f":
        return char < " "
    category = unicodedata.category(char)
    return (
        category in ("Cc", "Cs")
        or char in _BLANK
        or (category == "Cf" and char not in _VISIBLE_FORMAT)
        or _is_tag(char)
    )


def _is_tag(char: str) -> bool:
    return 0xE0000 <= ord(char) <= 0xE0FFF


def clean_untrusted(text: str) -> str:
    """Return what a person sees of the text: no hidden characters, no HTML comments (an open one hides the rest)."""
    text = strip_hidden(text)
    while True:
        shown = _COMMENT.sub("", text)
        if shown == text:
            shown = _OPEN_BLOCK.sub("", text)
        if shown == text:
            # What is left stands inside a line, where it is shown as it is.
            shown = text.replace("<!--", "")
        if shown == text:
            return text
        text = shown


def neutralise(text: str) -> str:
    """Return the text as Markdown that shows just it: no mention, reference, link, HTML or formatting of its own."""
    return "\n".join(_neutral_line(line) for line in strip_hidden(text).split("\n"))


def _neutral_line(line: str) -> str:
    line = line.expandtabs(4).strip()
    line = re.sub(r"([\\`*_\[\]<>&|~!$#])", r"\\\1", line)
    line = re.sub(r"^(\d{1,9}(?=[.)])|(?=[-+=]))", r"\1\\", line)
    return inert(line)


def inert(text: str) -> str:
    """Return the text with what GitHub acts on outside of Markdown broken: mentions, references, bare addresses."""
    text = re.sub(r"@(?=\w)", f"@{_BREAK}", text)
    text = re.sub(r"#(?=\d)", f"#{_BREAK}", text)
    text = re.sub(r"(?i)(GH-)(?=\d)", rf"\1{_BREAK}", text)
    text = text.replace("://", f":{_BREAK}//")
    return re.sub(r"(?i)www\.", lambda match: match.group()[:-1] + _BREAK + ".", text)


def fence(text: str) -> str:
    """Return the text as a fenced code block that it cannot close; HTML comments in it are broken."""
    text = strip_hidden(text).replace("<!--", f"<{_BREAK}!--").strip("\n")
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    ticks = "`" * max(3, longest + 1)
    return f"{ticks}text\n{text}\n{ticks}"
