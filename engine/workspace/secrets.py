"""Finding credentials in what is about to be published, line by line, without ever repeating one.

Only what is new is looked at: a line that the file had before is not this run's doing. The token detectors of
detect-secrets do most of it; its entropy, keyword and address detectors are left out because they flag ordinary code.
"""

import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol, cast

from detect_secrets.core.plugins.util import get_mapping_from_secret_type_to_class

_LEFT_OUT = {
    "Base64HighEntropyString",
    "BasicAuthDetector",
    "HexHighEntropyString",
    "IPPublicDetector",
    "KeywordDetector",
}
_START = r"(?<![A-Za-z0-9])"
_OWN = {
    "GitHub token": re.compile(_START + r"(?:github_pat_[A-Za-z0-9_]{22,}|gh[pousr]_[A-Za-z0-9]{30,})"),
    "GitLab token": re.compile(_START + r"gl(?:pat|ptt|rt|dt|cbt)-[A-Za-z0-9_-]{20,}"),
    "model key": re.compile(_START + r"sk-(?:(?:proj|svcacct|admin|ant|or)-[A-Za-z0-9_-]{20,}|[A-Za-z0-9]{32,})"),
    "AWS key": re.compile(_START + r"(?:A3T[A-Z0-9]|ABIA|ACCA|AKIA|ASIA)[A-Z0-9]{16}(?![A-Za-z0-9])"),
    "Google key": re.compile(_START + r"AIza[A-Za-z0-9_-]{35}"),
    "Slack token": re.compile(_START + r"xox[abeoprs]-[A-Za-z0-9-]{10,}"),
    "Hugging Face token": re.compile(_START + r"hf_[A-Za-z0-9]{30,}"),
    "npm token": re.compile(_START + r"npm_[A-Za-z0-9]{36}"),
    "private key": re.compile(r"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----"),
}
# A line without one of these cannot hold a token, and most lines have none.
_CANDIDATE = re.compile(r"[A-Za-z0-9_+/=.:-]{16,}|PRIVATE KEY")
_WINDOW = 16_384
_OVERLAP = 2_048
_WIDE = {codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}


@dataclass(frozen=True)
class Secret:
    """Where a credential stands (lines count from 1) and what it looks like."""

    line: int
    kind: str


class _Detector(Protocol):
    secret_type: str

    def analyze_string(self, string: str) -> Iterator[str]: ...


def find_secrets(new: bytes, old: bytes = b"") -> list[Secret]:
    """Return the credentials in those lines of `new` that `old` does not have, in order, one a line and kind."""
    known = set(_decode(old).split("\n"))
    found: dict[Secret, None] = {}
    for number, line in enumerate(_decode(new).split("\n"), start=1):
        if line not in known:
            for kind, _ in _matches(line):
                found[Secret(number, kind)] = None
    return list(found)


def redact(text: str) -> str:
    """Return the text with every credential replaced by the name of its kind."""
    return "\n".join(_redact_line(line) for line in text.split("\n"))


def redact_json(value: Any) -> Any:
    """Return a JSON value with `redact` done to every text in it."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, dict):
        return {name: redact_json(item) for name, item in value.items()}
    return [redact_json(item) for item in value] if isinstance(value, list) else value


def _redact_line(line: str) -> str:
    for kind, value in sorted(_matches(line), key=lambda match: len(match[1]), reverse=True):
        line = line.replace(value, f"[{kind} removed]")
    return line


def _matches(line: str) -> Iterator[tuple[str, str]]:
    for start in range(0, max(len(line) - _OVERLAP, 1), _WINDOW - _OVERLAP):
        window = line[start : start + _WINDOW]
        if _CANDIDATE.search(window):
            yield from _matches_in(window)


def _matches_in(text: str) -> Iterator[tuple[str, str]]:
    seen = False
    for kind, pattern in _OWN.items():
        for match in pattern.finditer(text):
            seen = True
            yield kind, match[0]
    if seen:
        return  # the detectors below would only name the same thing again
    for detector in _detectors():
        for value in detector.analyze_string(text):
            yield detector.secret_type, value


@cache
def _detectors() -> tuple[_Detector, ...]:
    classes: list[type[object]] = list(get_mapping_from_secret_type_to_class().values())
    wanted = sorted((one for one in classes if one.__name__ not in _LEFT_OUT), key=lambda one: one.__name__)
    return tuple(cast(_Detector, one()) for one in wanted)


def _decode(content: bytes) -> str:
    encoding = _WIDE.get(content[:2])
    # every byte has a character in Latin-1, and all tokens are ASCII
    return content[2:].decode(encoding, "replace") if encoding else content.decode("latin-1")
