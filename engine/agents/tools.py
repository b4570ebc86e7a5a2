"""The tools that one persona may use in one phase, on one worktree.

A mistake of the model is an answer that says what is wrong and what would be right; only what a person must mend (a
full disk, a sandbox that no longer starts) is raised. Answers are bounded.
"""

import asyncio
import errno
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

from engine.agents import search, tool_specs
from engine.agents.base import ToolResult, ToolSpec
from engine.domain.errors import DevflowError
from engine.workspace import files
from engine.workspace.sandbox import Command, Sandbox

ANSWER_LIMIT = 32 * 1024
FILE_LIMIT = 4 << 20
COMMAND_SECONDS = 120.0
SEARCH_SECONDS = 20.0
_FULL = (errno.ENOSPC, errno.EDQUOT)


class Toolbox:
    """Implements `engine.agents.base.Tools`.

    `allowed` are tool names; `submit_artifact` is there whenever the phase has an `artifact_schema`. Commands run at
    most `command_timeout_seconds`, however long the model asks for.
    """

    def __init__(
        self,
        worktree: Path,
        sandbox: Sandbox,
        *,
        allowed: frozenset[str],
        artifact_schema: dict[str, Any] | None,
        artifact_path: str | None,
        network: bool = False,
        command_timeout_seconds: float = COMMAND_SECONDS,
    ) -> None:
        self._worktree = worktree
        self._sandbox = sandbox
        self._network = network
        self._command_seconds = command_timeout_seconds
        self._names = [name for name in tool_specs.NAMES if name in allowed]
        self._specs = [tool_specs.spec(name) for name in self._names]
        self._parameters = {name: tool_specs.parameters(name) for name in self._names}
        if artifact_schema is not None:
            self._specs.append(tool_specs.submit_spec(artifact_schema, artifact_path))
            # the artifact itself is validated by the phase, whose errors lead to a repair
            self._parameters[tool_specs.SUBMIT] = tool_specs.submit_parameters({"type": "object"})

    @property
    def specs(self) -> list[ToolSpec]:
        """The tools as the Chat Completions API wants them, always in the same order."""
        return self._specs

    async def call(self, name: str, arguments: str) -> ToolResult:
        """Run one tool; cancelling it kills what it runs. Raises `storage_full` and `sandbox_unavailable` only."""
        schema = self._parameters.get(name)
        if schema is None:
            return _mistake(f"there is no tool {name!r} here; there are: {', '.join(self._parameters)}")
        try:
            parsed = _parse(arguments)
        except (ValueError, RecursionError) as error:
            return _mistake(f"the arguments of {name} are not valid JSON: {error}")
        errors = sorted(Draft202012Validator(schema).iter_errors(parsed), key=lambda error: list(error.path))
        if errors:
            said = "; ".join(f"{error.json_path}: {error.message[:300]}" for error in errors[:5])
            return _mistake(f"the arguments of {name} are wrong: {said}")
        if name == tool_specs.SUBMIT:
            return ToolResult("submitted", submission=parsed["artifact"])
        return _bounded(await self._guarded(name, parsed))

    async def _guarded(self, name: str, arguments: dict[str, Any]) -> ToolResult:
        tools: dict[str, Callable[..., Awaitable[ToolResult]]] = {
            "read_file": self._read_file,
            "write_file": self._write_file,
            "edit_file": self._edit_file,
            "list_files": self._list_files,
            "search_files": self._search_files,
            "run_command": self._run_command,
        }
        try:
            return await tools[name](**arguments)
        except ValueError as error:  # UnsafePath is one
            return _mistake(str(error))
        except OSError as error:
            if error.errno in _FULL:
                raise DevflowError("storage_full", "no space left in the worktree") from error
            return _mistake(f"{arguments.get('path', '.')}: {error.strerror or error}")

    async def _read_file(self, path: str, start_line: int | None = None, end_line: int | None = None) -> ToolResult:
        data = await asyncio.to_thread(files.read_bytes, self._worktree, path, limit=FILE_LIMIT)
        if b"\0" in data[:8192]:
            return _mistake(f"{path}: a binary file of {len(data)} bytes")
        lines = data.decode(errors="replace").split("\n")
        if lines[-1] == "":
            lines.pop()
        first, last = start_line or 1, min(end_line or len(lines), len(lines))
        if first > last and lines:
            return _mistake(f"{path} has {len(lines)} lines; lines {first} to {end_line or 'the end'} are none of them")
        fitting = _fitting(lines[first - 1 : last])
        text = "".join(f"{line}\n" for line in lines[first - 1 : first - 1 + fitting])
        if fitting < last - first + 1:
            text += f"[cut: lines {first} to {first - 1 + fitting} of {len(lines)}; go on with start_line]"
        elif start_line or end_line:
            text += f"[lines {first} to {last} of {len(lines)}]"
        return ToolResult(text or "[an empty file]")

    async def _write_file(self, path: str, content: str) -> ToolResult:
        data = content.encode()
        await asyncio.to_thread(files.write_bytes, self._worktree, path, data)
        return ToolResult(f"wrote {len(data)} bytes to {path}")

    async def _edit_file(self, path: str, old: str, new: str) -> ToolResult:
        before = await asyncio.to_thread(files.read_bytes, self._worktree, path, limit=FILE_LIMIT)
        # in bytes, so that whatever else is in the file stays as it is, whatever its encoding
        wanted = old.encode()
        times = before.count(wanted)
        if times != 1:
            return _mistake(
                f"`old` is in {path} {times} times; it must be there exactly once"
                + ("; add lines around it" if times else "; read the file and copy the piece as it is")
            )
        await asyncio.to_thread(files.write_bytes, self._worktree, path, before.replace(wanted, new.encode()))
        line = before.count(b"\n", 0, before.index(wanted)) + 1
        return ToolResult(f"edited {path} at line {line}")

    async def _list_files(self, path: str = ".", glob: str | None = None) -> ToolResult:
        return await asyncio.to_thread(search.list_files, self._worktree, path, glob)

    async def _search_files(self, pattern: str, path: str = ".", glob: str | None = None) -> ToolResult:
        seconds = min(SEARCH_SECONDS, self._command_seconds)
        return await search.search_files(self._sandbox, self._worktree, pattern, path, glob, seconds)

    async def _run_command(self, command: str, timeout_seconds: float | None = None) -> ToolResult:
        seconds = min(timeout_seconds or self._command_seconds, self._command_seconds)
        request = Command(command, timeout_seconds=seconds, network=self._network, output_limit=ANSWER_LIMIT - 1024)
        result = await self._sandbox.run(self._worktree, request)
        if result.timed_out:
            end = f"[stopped after {seconds:g} s]"
        elif result.killed:
            end = (
                f"[stopped: too much {result.killed}]" if result.killed == "memory" else "[stopped: too many processes]"
            )
        else:
            end = f"[exit code {result.exit_code}]"
        separator = "" if not result.output or result.output.endswith("\n") else "\n"
        return ToolResult(f"{result.output}{separator}{end}", ok=result.exit_code == 0)


def _parse(arguments: str) -> Any:
    """Return the arguments; raises `ValueError`, also for a lone surrogate, which no file and no command can hold."""

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not JSON")

    parsed = json.loads(arguments or "{}", parse_constant=refuse)
    json.dumps(parsed, ensure_ascii=False).encode()
    return parsed


def _mistake(text: str) -> ToolResult:
    return ToolResult(text, ok=False)


def _fitting(lines: list[str]) -> int:
    """Return how many of the lines fit into an answer, at least one."""
    room = ANSWER_LIMIT - 200
    for number, line in enumerate(lines):
        room -= len(line) + 1
        if room < 0:
            return max(1, number)
    return len(lines)


def _bounded(result: ToolResult) -> ToolResult:
    """Cut an answer to the limit, at the end of a line, and say how much is missing."""
    text = result.text
    if len(text) <= ANSWER_LIMIT:
        return result
    kept = text[:ANSWER_LIMIT]
    kept = kept[: kept.rfind("\n") + 1] or kept
    note = f"[cut: {len(text) - len(kept)} of {len(text)} characters are missing here]"
    return ToolResult(kept + note, ok=result.ok)
