"""What a step prints: own commands are understood as they are meant, and nobody else's words are a command."""

import io
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.action.workflow_commands import RunnerLog, escape_data, escape_property, write_outputs, write_summary
from engine.domain.errors import DevflowError
from engine.domain.yaml_lines import FilesInvalid, Problem
from tests.action_runner.files import read_values
from tests.action_runner.log import Annotation, LogReader

HOSTILE = [
    "::error::x",
    "::set-output name=state::completed",
    "::add-mask::e",
    "::stop-commands::x",
    "::x::",
    "::endgroup::",
    "::group::x",
    "##[error]x",
    "##[add-mask]e",
    "  ::error::x",
    "\n::error::x",
    "\r::error::x",
    "\u2028::error::x",
    "\x85::error::x",
    "%0A::error::x",
    "%250A",
    "%0D%0A",
    "%25",
    "%",
    "::",
    ":",
    ",",
    "=",
    ";",
    "]",
    "file=a,line=1",
    "${{ secrets.X }}",
    "$(id)",
    "`id`",
    "\x00",
    "\x1b[31m",
    "\u202e",
    "\n",
    "\r",
    "\r\n",
    " ",
    "title",
]
texts = st.lists(st.one_of(st.sampled_from(HOSTILE), st.text(max_size=8)), max_size=8).map("".join)


def read_back(act: Callable[[RunnerLog], None], *secrets: str) -> LogReader:
    """Return what the runner makes of a step's log."""
    stream = io.StringIO()
    with RunnerLog(secrets, stream) as log:
        act(log)
    reader = LogReader()
    reader.read(stream.getvalue())
    return reader


def acted(reader: LogReader) -> tuple[int, int, int, int, int]:
    """Return how many lines of each kind have acted."""
    kinds = (reader.masks, reader.annotations, reader.groups, reader.outdated, reader.other)
    return tuple(len(kind) for kind in kinds)  # type: ignore[return-value]


@given(texts)
def test_nothing_that_is_said_acts(text: str) -> None:
    reader = read_back(lambda log: log.say(text))

    assert acted(reader) == (0, 0, 0, 0, 0)
    assert not reader.stopped


@given(texts)
def test_nothing_that_a_library_prints_past_us_acts(text: str) -> None:
    stream = io.StringIO()
    with RunnerLog((), stream) as log:
        with log.group("A"):
            stream.write(f"{text}\n")
        log.error("B")
        stream.write(f"{text}\n")
    reader = LogReader()
    reader.read(stream.getvalue())

    assert reader.groups == ["A"]
    assert reader.annotations == [Annotation("error", "B")]
    assert acted(reader) == (0, 1, 1, 0, 0)
    assert not reader.stopped


@given(texts, texts, texts)
def test_an_annotation_is_one_and_says_what_was_meant(message: str, title: str, file: str) -> None:
    reader = read_back(lambda log: log.error(message, title=title, file=file, line=7))

    assert acted(reader) == (0, 1, 0, 0, 0)
    (said,) = reader.annotations
    assert said.kind == "error"
    assert said.line in ("7", "")
    assert "\n" not in said.title + said.file


@given(texts)
def test_a_groups_title_is_one_line(title: str) -> None:
    def act(log: RunnerLog) -> None:
        with log.group(title), log.group("inner"):
            log.say("x")

    reader = read_back(act)

    assert acted(reader) == (0, 0, 1, 0, 0)
    assert "\n" not in reader.groups[0]
    assert reader.depth == 0
    assert reader.text.split("\n")[-2:] == ["inner", "x"]


@given(st.text())
def test_escapes_are_taken_back_by_the_runner(text: str) -> None:
    reader = LogReader()
    reader.line(f"::error title=a{escape_property(text)}b::{escape_data(text)}")

    assert reader.annotations == [Annotation("error", text, title=f"a{text}b")]


def test_secrets_are_masked_before_anything_else() -> None:
    reader = read_back(lambda log: log.say("the key is sk-1, and its lines are one and two"), "sk-1", "one\ntwo")

    assert reader.text == "the key is ***, and its lines are *** and ***"
    assert {"sk-1", "one", "two"} <= set(reader.masks)


@given(st.lists(texts.filter(str.strip), min_size=1, max_size=3))
def test_no_secret_of_any_form_acts_or_is_shown(secrets: list[str]) -> None:
    reader = read_back(lambda log: None, *secrets)

    assert reader.text.strip() == ""
    assert acted(reader)[1:] == (0, 0, 0, 0)
    assert set(secrets) <= set(reader.masks)


def test_after_an_exception_commands_stay_stopped() -> None:
    stream = io.StringIO()
    with pytest.raises(ZeroDivisionError), RunnerLog((), stream):
        raise ZeroDivisionError
    stream.write("ZeroDivisionError: ::error::x\n::error::y\n")
    reader = LogReader()
    reader.read(stream.getvalue())

    assert reader.stopped
    assert acted(reader) == (0, 0, 0, 0, 0)


def test_mistakes_in_a_file_are_annotated_at_their_lines() -> None:
    error = FilesInvalid(
        [
            Problem(".github/devflow.yml", 3, "checks[0].run", "nothing", "a command"),
            Problem(".github/devflow.yml", 9, "", "an unknown key", "checks, setup"),
        ]
    )

    reader = read_back(lambda log: log.show_error(error))

    assert reader.annotations == [
        Annotation(
            "error",
            "checks[0].run: found nothing, allowed: a command",
            "Devflow: config_invalid",
            ".github/devflow.yml",
            "3",
        ),
        Annotation(
            "error",
            "found an unknown key, allowed: checks, setup",
            "Devflow: config_invalid",
            ".github/devflow.yml",
            "9",
        ),
    ]


def test_an_error_says_what_to_do_next() -> None:
    reader = read_back(lambda log: log.show_error(DevflowError("run_in_flight", "it runs", recovery_hint="wait")))

    assert reader.annotations == [Annotation("error", "it runs\nNext: wait", "Devflow: run_in_flight")]


@given(st.dictionaries(st.sampled_from(["run-id", "state", "report"]), texts, max_size=3))
def test_outputs_come_out_as_they_went_in(tmp_path_factory: pytest.TempPathFactory, values: dict[str, str]) -> None:
    file = tmp_path_factory.mktemp("step") / "output"

    write_outputs(file, values)

    # the files are read by lines, so a carriage return comes back as a line feed
    lines = {name: value.encode(errors="replace").decode() for name, value in values.items()}
    meant = {name: value.replace("\r\n", "\n").replace("\r", "\n") for name, value in lines.items()}
    assert read_values(file.read_bytes().decode()) == meant


def test_a_forged_delimiter_ends_nothing(tmp_path: Path) -> None:
    write_outputs(tmp_path / "output", {"state": "x\nend-\nEOF\nstate=y\nreport<<z\n"})

    assert list(read_values((tmp_path / "output").read_text())) == ["state"]


def test_what_stands_in_the_files_already_is_kept(tmp_path: Path) -> None:
    (tmp_path / "output").write_text("a=1\n")

    write_outputs(tmp_path / "output", {"b": "2"})
    write_summary(tmp_path / "summary", "one")
    write_summary(tmp_path / "summary", "two\n")

    assert read_values((tmp_path / "output").read_text()) == {"a": "1", "b": "2"}
    assert (tmp_path / "summary").read_text() == "one\ntwo\n"


def test_a_step_without_such_files_writes_none() -> None:
    write_outputs(None, {"a": "1"})
    write_summary(None, "x")
