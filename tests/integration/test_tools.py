"""The tools of an agent, each on a real worktree in a real sandbox."""

import asyncio
import errno
import json
import os
import secrets
import time
from pathlib import Path
from typing import Any

import pytest

from engine.agents.base import Tools
from engine.agents.search import glob_expression
from engine.agents.tool_specs import NAMES
from engine.agents.tools import ANSWER_LIMIT, Toolbox
from engine.domain.errors import DevflowError
from engine.workspace import files
from engine.workspace.confine import Sandlock
from engine.workspace.launch import Limits
from engine.workspace.toolchain import Toolchain
from tests.sandboxes import alive, make_worktree, sandbox

SCHEMA = {"type": "object", "properties": {"approach": {"type": "string"}}, "required": ["approach"]}


@pytest.fixture
def worktree(tmp_path: Path) -> Path:
    worktree = make_worktree(tmp_path)
    (worktree / "src").mkdir()
    (worktree / "src" / "app.py").write_text("one\ntwo\nthree\n")
    return worktree


def _tools(worktree: Path, allowed: frozenset[str] = frozenset(NAMES), **options: Any) -> Toolbox:
    given: dict[str, Any] = {"artifact_schema": SCHEMA, "artifact_path": "artifact.json", **options}
    return Toolbox(worktree, sandbox("sandlock"), allowed=allowed, **given)


async def _call(tools: Tools, name: str, /, **arguments: object) -> tuple[bool, str]:
    result = await tools.call(name, json.dumps(arguments))
    return result.ok, result.text


def test_the_specs_are_function_tools_in_a_fixed_order(worktree: Path) -> None:
    specs = _tools(worktree).specs

    assert [spec["function"]["name"] for spec in specs] == [*NAMES, "submit_artifact"]
    assert all(spec["type"] == "function" for spec in specs)
    assert all(spec["function"]["parameters"]["additionalProperties"] is False for spec in specs)
    assert specs[-1]["function"]["parameters"]["properties"]["artifact"] == SCHEMA
    assert "artifact.json" in specs[-1]["function"]["description"]


async def test_only_the_allowed_tools_exist(worktree: Path) -> None:
    tools = _tools(worktree, frozenset({"read_file"}), artifact_schema=None)

    assert [spec["function"]["name"] for spec in tools.specs] == ["read_file"]
    assert await _call(tools, "run_command", command="true") == (
        False,
        "there is no tool 'run_command' here; there are: read_file",
    )
    assert not (await _call(tools, "submit_artifact", artifact={}))[0]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ('{"path": ', "not valid JSON"),
        ('{"path": NaN}', "not valid JSON"),
        ('{"path": "\\ud800"}', "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ("[]", "is not of type 'object'"),
        ('{"path": 3}', "$.path: 3 is not of type 'string'"),
        ("{}", "'path' is a required property"),
        ('{"path": "a", "colour": "red"}', "'colour' was unexpected"),
        ("", "'path' is a required property"),
        ('{"path": "a", "start_line": 0}', "$.start_line: 0 is less than the minimum of 1"),
    ],
)
async def test_wrong_arguments_are_answered_with_what_is_wrong(worktree: Path, arguments: str, said: str) -> None:
    result = await _tools(worktree).call("read_file", arguments)

    assert not result.ok
    assert said in result.text


async def test_reading_a_file_whole_or_by_lines(worktree: Path) -> None:
    tools = _tools(worktree)

    assert await _call(tools, "read_file", path="src/app.py") == (True, "one\ntwo\nthree\n")
    assert await _call(tools, "read_file", path="src/app.py", start_line=2) == (True, "two\nthree\n[lines 2 to 3 of 3]")
    assert await _call(tools, "read_file", path="src/app.py", end_line=1) == (True, "one\n[lines 1 to 1 of 3]")
    assert not (await _call(tools, "read_file", path="src/app.py", start_line=9))[0]
    assert await _call(tools, "read_file", path="no.py") == (False, "no.py: No such file or directory")


async def test_a_long_file_is_cut_between_lines_and_can_be_read_on(worktree: Path) -> None:
    (worktree / "long.txt").write_text("".join(f"line {number}\n" for number in range(1, 10_001)))
    tools = _tools(worktree)

    ok, text = await _call(tools, "read_file", path="long.txt")

    assert ok
    assert len(text) <= ANSWER_LIMIT
    last = text.splitlines()[-2].removeprefix("line ")
    assert text.endswith(f"[cut: lines 1 to {last} of 10000; go on with start_line]")


async def test_files_that_are_no_utf_8_can_be_read_and_edited(worktree: Path) -> None:
    (worktree / "latin.txt").write_bytes(b"caf\xe9 one\r\n")
    (worktree / "binary").write_bytes(b"\x00\x01")
    tools = _tools(worktree)

    assert await _call(tools, "read_file", path="latin.txt") == (True, "caf\ufffd one\r\n")
    assert (await _call(tools, "edit_file", path="latin.txt", old="one", new="two"))[0]
    assert (worktree / "latin.txt").read_bytes() == b"caf\xe9 two\r\n"
    assert await _call(tools, "read_file", path="binary") == (False, "binary: a binary file of 2 bytes")


async def test_writing_makes_folders_and_the_artifact_path_is_a_file_like_any_other(worktree: Path) -> None:
    tools = _tools(worktree)

    assert await _call(tools, "write_file", path="a/b/c.txt", content="é") == (True, "wrote 2 bytes to a/b/c.txt")
    assert (await _call(tools, "write_file", path="artifact.json", content="{}"))[0]
    assert (worktree / "a/b/c.txt").read_text() == "é"
    assert (worktree / "artifact.json").read_text() == "{}"


async def test_an_edit_must_match_exactly_once(worktree: Path) -> None:
    (worktree / "twice.txt").write_text("x\nx\n")
    tools = _tools(worktree)

    assert await _call(tools, "edit_file", path="src/app.py", old="two\n", new="2\n") == (
        True,
        "edited src/app.py at line 2",
    )
    assert "2 times" in (await _call(tools, "edit_file", path="twice.txt", old="x", new="y"))[1]
    assert "0 times" in (await _call(tools, "edit_file", path="twice.txt", old="z", new="y"))[1]
    assert (worktree / "src/app.py").read_text() == "one\n2\nthree\n"
    assert (worktree / "twice.txt").read_text() == "x\nx\n"


@pytest.mark.parametrize("path", ["../outside", "/etc/passwd", "link", ".git", ".devflow/runs/1/x.json"])
async def test_paths_outside_and_the_engines_own_are_refused(worktree: Path, path: str) -> None:
    (worktree.parent / "outside").write_text("untouched")
    (worktree / "link").symlink_to(worktree.parent / "outside")
    before = (worktree / ".git").read_text()

    assert not (await _call(_tools(worktree), "write_file", path=path, content="x"))[0]
    assert (worktree.parent / "outside").read_text() == "untouched"
    assert (worktree / ".git").read_text() == before


async def test_a_full_disk_is_for_a_person_to_mend(worktree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(root: Path, path: str, data: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files, "write_bytes", full)

    with pytest.raises(DevflowError) as caught:
        await _tools(worktree).call("write_file", '{"path": "a", "content": "b"}')

    assert caught.value.code == "storage_full"


async def test_listing_files_with_and_without_a_glob(worktree: Path) -> None:
    (worktree / "src" / "sub").mkdir()
    (worktree / "src" / "sub" / "deep.py").write_text("")
    (worktree / "link").symlink_to("/etc")
    tools = _tools(worktree)

    assert await _call(tools, "list_files") == (True, "code.py\nlink (link)\nsrc/app.py\nsrc/sub/deep.py")
    assert await _call(tools, "list_files", path="src/sub") == (True, "src/sub/deep.py")
    assert await _call(tools, "list_files", glob="*.py") == (True, "code.py\nsrc/app.py\nsrc/sub/deep.py")
    assert await _call(tools, "list_files", glob="src/*.py") == (True, "src/app.py")
    assert await _call(tools, "list_files", glob="src/**/*.py") == (True, "src/app.py\nsrc/sub/deep.py")
    assert await _call(tools, "list_files", glob="*.rs") == (True, "no files")
    assert not (await _call(tools, "list_files", glob="*" * 20))[0]
    assert not (await _call(tools, "list_files", path="link"))[0]


def test_a_glob_keeps_other_characters_as_they_are() -> None:
    assert glob_expression("a.b/c+?") == r"a\.b/c\+[^/]"


async def test_searching_answers_path_line_and_text(worktree: Path) -> None:
    (worktree / "src" / "data.bin").write_bytes(b"\x00two")
    (worktree / "notes.md").write_text("two\n")
    tools = _tools(worktree)

    assert await _call(tools, "search_files", pattern="tw.$") == (True, "notes.md:1:two\nsrc/app.py:2:two\n")
    assert await _call(tools, "search_files", pattern="two", path="src") == (True, "src/app.py:2:two\n")
    assert await _call(tools, "search_files", pattern="two", glob="*.md") == (True, "notes.md:1:two\n")
    assert await _call(tools, "search_files", pattern="nowhere") == (True, "no match")
    ok, text = await _call(tools, "search_files", pattern="(")
    assert not ok
    assert "not a regular expression" in text


async def test_a_search_that_never_ends_is_stopped(worktree: Path) -> None:
    (worktree / "evil.txt").write_text("a" * 60 + "\n")
    begin = time.monotonic()

    ok, text = await _call(_tools(worktree, command_timeout_seconds=1.0), "search_files", pattern="(a+)+b")

    assert not ok
    assert "stopped after 1 s" in text
    assert time.monotonic() - begin < 15


async def test_a_search_with_too_many_hits_says_so(worktree: Path) -> None:
    (worktree / "many.txt").write_text("hit\n" * 1000)

    ok, text = await _call(_tools(worktree), "search_files", pattern="hit")

    assert ok
    assert text.count("many.txt:") == 200
    assert text.endswith("[more than 200 hits; narrow the search]")


async def test_a_command_answers_with_its_output_and_exit_code(worktree: Path) -> None:
    tools = _tools(worktree)

    assert await _call(tools, "run_command", command="cat src/app.py | head -1") == (True, "one\n[exit code 0]")
    assert await _call(tools, "run_command", command="echo no >&2; exit 3") == (False, "no\n[exit code 3]")
    assert await _call(tools, "run_command", command="true") == (True, "[exit code 0]")
    assert not (await _call(tools, "run_command", command="echo \0"))[0]


async def test_a_commands_time_and_output_are_bounded(worktree: Path) -> None:
    tools = _tools(worktree, command_timeout_seconds=1.0)

    assert await _call(tools, "run_command", command="sleep 60", timeout_seconds=50) == (False, "[stopped after 1 s]")
    ok, text = await _call(tools, "run_command", command="seq 100000")
    assert ok
    assert len(text) <= ANSWER_LIMIT
    assert text.startswith("1\n2\n")
    assert "bytes cut" in text
    assert text.endswith("100000\n[exit code 0]")


async def test_cancelling_a_call_kills_its_processes(worktree: Path) -> None:
    marker = f"1000.{secrets.randbelow(10**12):012d}"
    call = asyncio.create_task(_call(_tools(worktree), "run_command", command=f"sleep {marker} & sleep {marker}"))
    async with asyncio.timeout(60):
        while len(alive(marker)) < 2:
            await asyncio.sleep(0.01)

    call.cancel()

    with pytest.raises(asyncio.CancelledError):
        await call
    assert alive(marker) == []


async def test_a_sandbox_that_fails_is_not_an_answer_of_the_command(worktree: Path, tmp_path: Path) -> None:
    broken = Sandlock(str(tmp_path), Toolchain.detect(), Limits())
    tools = Toolbox(worktree, broken, allowed=frozenset({"run_command"}), artifact_schema=None, artifact_path=None)

    with pytest.raises(DevflowError) as caught:
        await tools.call("run_command", '{"command": "true"}')

    assert caught.value.code == "sandbox_unavailable"


async def test_submitting_hands_over_the_artifact_unjudged(worktree: Path) -> None:
    tools = _tools(worktree)

    result = await tools.call("submit_artifact", '{"artifact": {"approach": 3}}')

    assert (result.ok, result.submission) == (True, {"approach": 3})
    assert not (await tools.call("submit_artifact", '{"artifact": "text"}')).ok
    assert not (await tools.call("submit_artifact", '{"approach": 3}')).ok
