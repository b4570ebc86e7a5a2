"""Reading a step's log as GitHub's runner does: lines that act, lines that are shown, and values that are masked."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

# `set-env` and `add-path` were switched off by GitHub, `set-output` and `save-state` are still carried out there.
REFUSED = ("set-env", "add-path")
OUTDATED = ("set-output", "save-state")
ANNOTATIONS = ("error", "warning", "notice")
KNOWN = {
    *("add-mask", "add-matcher", "remove-matcher", "debug", "echo", "endgroup", "group", "stop-commands"),
    *REFUSED,
    *OUTDATED,
    *ANNOTATIONS,
}
_DATA = (("%0D", "\r"), ("%0A", "\n"), ("%25", "%"))
_PROPERTY = (("%0D", "\r"), ("%0A", "\n"), ("%3A", ":"), ("%2C", ","), ("%25", "%"))
_OLD = (("%3B", ";"), ("%0D", "\r"), ("%0A", "\n"), ("%5D", "]"), ("%25", "%"))


@dataclass(frozen=True)
class Annotation:
    """A message on the run's page; `line` is empty where there is none."""

    kind: str
    message: str
    title: str = ""
    file: str = ""
    line: str = ""


@dataclass(frozen=True)
class Command:
    """A line that acts."""

    name: str
    text: str
    properties: dict[str, str] = field(default_factory=dict)


@dataclass
class LogReader:
    """Takes a log line by line; `text` is what people see, everything that acted stands in the lists."""

    masks: list[str] = field(default_factory=list)
    annotations: list[Annotation] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)
    outdated: list[Command] = field(default_factory=list)
    other: list[Command] = field(default_factory=list)
    depth: int = 0
    _shown: list[str] = field(default_factory=list)
    _token: str = ""

    @property
    def text(self) -> str:
        """Return what people see of the log."""
        return "\n".join(self._shown)

    @property
    def stopped(self) -> bool:
        """Whether lines do not act at the moment."""
        return bool(self._token)

    def read(self, output: str) -> None:
        """Take a whole output; the runner ends lines at a line feed, a carriage return, or both."""
        for line in re.split(r"\r\n|\r|\n", output.removesuffix("\n")):
            self.line(line)

    def line(self, line: str) -> None:
        """Take one line."""
        known = KNOWN | ({self._token} if self._token else set())
        command = _new_form(line, known) or _old_form(line, known)
        if command is None:
            self._shown.append(self.masked(line))
        elif self._token:
            if command.name.casefold() == self._token.casefold():
                self._token = ""
            else:
                self.ignored.append(line)
                self._shown.append(self.masked(line))
        else:
            self._act(command)

    def _act(self, command: Command) -> None:
        match command.name:
            case "stop-commands":
                self._token = command.text
            case "add-mask":
                # the runner masks a value of several lines line by line as well
                self.masks += [command.text, *command.text.split("\n")] if "\n" in command.text else [command.text]
            case "group":
                self.groups.append(command.text)
                self.depth += 1
                self._shown.append(f"[group] {self.masked(command.text)}")
            case "endgroup":
                self.depth -= 1
            case name if name in ANNOTATIONS:
                given = {key: command.properties.get(key, "") for key in ("title", "file", "line")}
                self.annotations.append(Annotation(name, self.masked(command.text), **given))
                self._shown.append(f"[{name}] {self.masked(command.text)}")
            case name if name in OUTDATED:
                self.outdated.append(command)
            case _:
                self.other.append(command)

    def masked(self, text: str) -> str:
        """Return the text with every masked value in it replaced."""
        for value in sorted(filter(str.strip, self.masks), key=len, reverse=True):
            text = text.replace(value, "***")
        return text

    def masked_all(self, texts: Iterable[str]) -> list[str]:
        """Return all texts masked."""
        return [self.masked(text) for text in texts]


def _new_form(line: str, known: set[str]) -> Command | None:
    """Read `::name key=value,key=value::text` at the beginning of a line."""
    line = line.lstrip()
    end = line.find("::", 2)
    if not line.startswith("::") or end < 0:
        return None
    name, _, properties = line[2:end].partition(" ")
    if name.casefold() not in {one.casefold() for one in known}:
        return None
    pairs = [part.split("=", 1) for part in properties.strip().split(",") if "=" in part]
    return Command(
        name.casefold(),
        _unescape(line[end + 2 :], _DATA),
        {key: _unescape(value, _PROPERTY) for key, value in pairs if value},
    )


def _old_form(line: str, known: set[str]) -> Command | None:
    """Read `##[name key=value;key=value]text` anywhere in a line."""
    begin = line.find("##[")
    end = line.find("]", begin)
    if begin < 0 or end < 0:
        return None
    name, _, properties = line[begin + 3 : end].partition(" ")
    if name.casefold() not in {one.casefold() for one in known}:
        return None
    pairs = [part.split("=", 1) for part in properties.split(";") if "=" in part]
    return Command(name.casefold(), _unescape(line[end + 1 :], _OLD), {key: _unescape(one, _OLD) for key, one in pairs})


def _unescape(text: str, mapping: tuple[tuple[str, str], ...]) -> str:
    for written, meant in mapping:
        text = text.replace(written, meant)
    return text
