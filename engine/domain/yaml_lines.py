"""YAML that knows its lines: the way from a user's file to plain values, with every mistake placed.

The reader takes the YAML 1.2 core scalars only (`on`, `1:30` and dates stay strings), and refuses what a
configuration file has no use for: anchors, tags, duplicate or non-string keys, deep nesting, large files.
`engine/domain/files.py` turns the values into models and model errors back into lines.
"""

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from engine.domain.errors import DevflowError

MAX_BYTES = 262_144
MAX_DEPTH = 40
_SHOWN = 60

Location = tuple[str | int, ...]


@dataclass(frozen=True)
class Problem:
    """One mistake in a file: where it stands (`line` counts from 1), what was found there and what is allowed."""

    file: str
    line: int
    where: str
    found: str
    allowed: str

    def __str__(self) -> str:
        place = f" {self.where}:" if self.where else ""
        return f"{self.file}:{self.line}:{place} found {self.found}, allowed: {self.allowed}"

    def to_json(self) -> dict[str, str | int]:
        """Return the problem as a JSON object."""
        return {
            "file": self.file,
            "line": self.line,
            "where": self.where,
            "found": self.found,
            "allowed": self.allowed,
        }


class FilesInvalid(DevflowError):  # noqa: N818 - reads as the sentence it is
    """One or more files of the user are wrong (`config_invalid`); `problems` has all of them."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        shown = [str(problem) for problem in self.problems[:5]]
        if len(self.problems) > len(shown):
            shown.append(f"and {len(self.problems) - len(shown)} more")
        super().__init__(
            "config_invalid",
            "\n".join(shown),
            details={"problems": [problem.to_json() for problem in self.problems]},
        )


@dataclass(frozen=True)
class Document:
    """A parsed file: its plain value, and for each place in it the line where that place starts."""

    file: str
    value: Any
    lines: dict[Location, int] = field(default_factory=dict)

    def line_of(self, where: Location) -> int:
        """Return the line of the place, or of the nearest place around it that the file has."""
        while where and where not in self.lines:
            where = where[:-1]
        return self.lines.get(where, 1)

    def problem(self, where: Location, found: str, allowed: str) -> Problem:
        """Return a problem at this place of the file."""
        return Problem(self.file, self.line_of(where), format_location(where), found, allowed)


def format_location(where: Location) -> str:
    """Return a place as people write it: `phases[2].timeout_seconds`."""
    text = ""
    for part in where:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def show(value: Any) -> str:
    """Return a value as JSON, cut to a length that fits a line."""
    if value is None:
        return "nothing"
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."


def parse_yaml(data: bytes, file: str, *, max_bytes: int = MAX_BYTES) -> Document:
    """Return the one document in `data` (UTF-8; empty means an empty mapping); raises `FilesInvalid`."""
    if len(data) > max_bytes:
        raise FilesInvalid([Problem(file, 1, "", f"{len(data)} bytes", f"at most {max_bytes} bytes")])
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise FilesInvalid([Problem(file, line, "", f"byte 0x{data[error.start]:02x}", "UTF-8 text")]) from error
    reader = _Reader(file)
    try:
        node = _Loader(text).get_single_node()
        value = {} if node is None else reader.read(node, ())
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        found = str(error.problem or error.context).removeprefix("but found ")
        problem = Problem(file, mark.line + 1 if mark else 1, "", found, "one plain YAML document")
        raise FilesInvalid([problem]) from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        found = f"the character U+{error.character:04X}"
        raise FilesInvalid([Problem(file, line, "", found, "printable text")]) from error
    if reader.problems:
        raise FilesInvalid(reader.problems)
    return Document(file, value, reader.lines)


class _Loader(yaml.SafeLoader):
    """Composes nodes with the YAML 1.2 core scalars, without aliases, to a bounded depth."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - as PyYAML declares it
    depth = 0

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise yaml.composer.ComposerError(None, None, "an anchor or alias (write the value out)", event.start_mark)
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise yaml.composer.ComposerError(None, None, f"more than {MAX_DEPTH} levels", event.start_mark)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+", list("-+0123456789")),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", list("-+.0123456789")),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), _first)


class _Reader:
    """Turns nodes into values and notes the line of each."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.lines: dict[Location, int] = {}
        self.problems: list[Problem] = []

    def read(self, node: Node, where: Location) -> Any:
        self.lines.setdefault(where, node.start_mark.line + 1)
        if isinstance(node, MappingNode):
            if node.tag == "tag:yaml.org,2002:map":
                return self._mapping(node, where)
        elif isinstance(node, SequenceNode):
            if node.tag == "tag:yaml.org,2002:seq":
                return [self.read(item, (*where, index)) for index, item in enumerate(node.value)]
        elif isinstance(node, ScalarNode):
            return self._scalar(node, where)
        return self._refuse(node, where, f"the tag {node.tag}", "plain YAML without tags")

    def _mapping(self, node: MappingNode, where: Location) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, ScalarNode) or key_node.tag != "tag:yaml.org,2002:str":
                shown = key_node.value if isinstance(key_node, ScalarNode) else "a list or mapping"
                self._refuse(key_node, where, f"the key {shown}", "text as key (put it in quotes)")
                continue
            key = str(key_node.value)
            if key in result:
                first = self.lines[(*where, key)]
                self._refuse(key_node, (*where, key), f"the key again (first in line {first})", "each key once")
                continue
            self.lines[(*where, key)] = key_node.start_mark.line + 1
            result[key] = self.read(value_node, (*where, key))
        return result

    def _scalar(self, node: ScalarNode, where: Location) -> Any:
        text = str(node.value)
        match node.tag.removeprefix("tag:yaml.org,2002:"):
            case "str":
                return text
            case "null" if not node.style:
                return None
            case "bool" if text.lower() in ("true", "false"):
                return text.lower() == "true"
            case "int" if re.fullmatch(r"[-+]?[0-9]{1,18}", text):
                return int(text)
            case "float" if re.fullmatch(r"[-+0-9.eE]{1,40}", text) and math.isfinite(float(text)):
                return float(text)
            case "int" | "float":
                return self._refuse(node, where, show(text), "a number of ordinary size")
        return self._refuse(node, where, f"the tag {node.tag}", "plain YAML without tags")

    def _refuse(self, node: Node, where: Location, found: str, allowed: str) -> None:
        line = node.start_mark.line + 1
        self.problems.append(Problem(self.file, line, format_location(where), found, allowed))
