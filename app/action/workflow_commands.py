"""What a step tells the runner: lines of its log that act, and the files for outputs and the job summary.

The runner takes every line of the log that begins with `::name::`, and older forms anywhere in a line, for a command.
So commands are stopped from the first line to the last, whoever prints it (us, a library, a traceback), by a random
token that nobody else knows; they are let through only for the moment in which one of our own is printed.
"""

import secrets as random
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self, TextIO

from app.surface.render import one_line
from engine.atomic_file import write_file
from engine.domain.errors import DevflowError
from engine.domain.safe_text import strip_hidden

_MESSAGE_LIMIT = 2_000
_TITLE_LIMIT = 200
# The runner shows no more than ten of each kind for one step.
_ANNOTATIONS = 10


def escape_data(text: str) -> str:
    """Return the text for the part of a command behind its second `::`."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def escape_property(text: str) -> str:
    """Return the text for a value among the properties of a command."""
    return escape_data(text).replace(":", "%3A").replace(",", "%2C")


class RunnerLog:
    """The log of one step; as a context it masks `secrets` before anything else and stops commands until its end."""

    def __init__(self, secrets: Sequence[str] = (), stream: TextIO | None = None) -> None:
        self._secrets = secrets
        self._stream = stream or sys.stdout
        self._token = ""
        self._open_group = False
        self._shown: list[DevflowError] = []

    def __enter__(self) -> Self:
        masks = [_command("add-mask", one) for one in self._secrets if one.strip()]
        # a secret of several lines comes out line by line, so each of them is one
        masks += [_command("add-mask", line) for one in self._secrets for line in _lines_of(one)]
        self._write([*masks, self._stop()])
        return self

    def __exit__(self, kind: type[BaseException] | None, raised: BaseException | None, _: TracebackType | None) -> None:
        if raised is None:
            self._write([f"::{self._token}::"])
            self._token = ""
        # after an exception the rest of the log is its traceback, in which anybody's words may stand: stay stopped

    def say(self, text: str) -> None:
        """Print text of any origin; nothing in it acts, and characters that people do not see are left out."""
        self._write(strip_hidden(text).split("\n"))

    @contextmanager
    def group(self, title: str) -> Iterator[None]:
        """Print what is said inside as a group that a click opens; a group inside a group is only its title."""
        if self._open_group:
            self.say(title)
            yield
            return
        self._act("group", one_line(title, _TITLE_LIMIT))
        self._open_group = True
        try:
            yield
        finally:
            self._open_group = False
            self._act("endgroup", "")

    def error(self, message: str, *, title: str = "", file: str = "", line: int | None = None) -> None:
        """Print an annotation that stands on the run's page, at a file's line where there is one."""
        self._annotate("error", message, title, file, line)

    def warning(self, message: str, *, title: str = "", file: str = "", line: int | None = None) -> None:
        """Print a warning in the same way."""
        self._annotate("warning", message, title, file, line)

    def notice(self, message: str, *, title: str = "") -> None:
        """Print a notice in the same way."""
        self._annotate("notice", message, title, "", None)

    def show_error(self, error: DevflowError) -> None:
        """Print an error, once: one annotation for each mistake in a file that it names, else one for all of it."""
        if any(error is shown for shown in self._shown):
            return
        self._shown.append(error)
        title = f"Devflow: {error.code}"
        problems = error.details.get("problems", ())
        for problem in problems[:_ANNOTATIONS]:
            found = f"{problem['where']}: found {problem['found']}, allowed: {problem['allowed']}".removeprefix(": ")
            self.error(found, title=title, file=problem["file"], line=problem["line"])
        if not problems:
            self.error(f"{error.message}\nNext: {error.recovery_hint}", title=title)

    def _annotate(self, kind: str, message: str, title: str, file: str, line: int | None) -> None:
        text = strip_hidden(message)
        shown = text if len(text) <= _MESSAGE_LIMIT else f"{text[:_MESSAGE_LIMIT]} ..."
        place = {"file": one_line(file, 1_000), "line": str(line) if file and line else ""}
        self._act(kind, shown, title=one_line(title, _TITLE_LIMIT), **place)

    def _act(self, name: str, text: str, **properties: str) -> None:
        line = _command(name, text, **properties)
        if self._token:
            # in one piece, so that nothing that others print comes between while commands are let through
            self._write([f"::{self._token}::", line, self._stop()])
        else:
            self._write([line])

    def _stop(self) -> str:
        self._token = random.token_hex(16)
        return f"::stop-commands::{self._token}"

    def _write(self, lines: Sequence[str]) -> None:
        self._stream.flush()
        self._stream.write("".join(f"{line}\n" for line in lines))
        self._stream.flush()


def write_outputs(path: Path | None, values: Mapping[str, str]) -> None:
    """Add outputs to the step's file for them, each between delimiters that its value cannot contain."""
    added = []
    for name, value in values.items():
        delimiter = f"end-{random.token_hex(16)}"
        if delimiter in value:
            raise AssertionError("128 random bits came twice")
        # a carriage return at the end would make one line end of two
        lines = value.replace("\r\n", "\n").replace("\r", "\n")
        added.append(f"{name}<<{delimiter}\n{lines}\n{delimiter}\n")
    _append(path, "".join(added))


def write_summary(path: Path | None, markdown: str) -> None:
    """Add a text to the job's summary."""
    _append(path, markdown.rstrip("\n") + "\n")


def _append(path: Path | None, text: str) -> None:
    if path is not None:
        before = path.read_bytes() if path.exists() else b""
        write_file(path, before + text.encode(errors="replace"))


def _command(name: str, text: str, **properties: str) -> str:
    given = ",".join(f"{key}={escape_property(value)}" for key, value in properties.items() if value)
    return f"::{name}{f' {given}' if given else ''}::{escape_data(text)}"


def _lines_of(secret: str) -> list[str]:
    lines = [line.strip() for line in secret.replace("\r", "\n").split("\n")]
    return [line for line in lines if line] if len(lines) > 1 else []
