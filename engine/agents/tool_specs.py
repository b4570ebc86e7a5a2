"""The tools as a model sees them: names, descriptions and argument schemas, as Chat Completions function tools."""

from typing import Any

from engine.agents.base import ToolSpec

SUBMIT = "submit_artifact"

_PATH = {"type": "string", "minLength": 1, "description": "relative to the root of the repository"}
_LINE = {"type": "integer", "minimum": 1}

_TOOLS: dict[str, tuple[str, dict[str, Any], list[str]]] = {
    "read_file": (
        "Read a text file, or some of its lines (counted from 1, both ends included).",
        {"path": _PATH, "start_line": _LINE, "end_line": _LINE},
        ["path"],
    ),
    "write_file": (
        "Write a whole file; folders are made as needed and an existing file is replaced.",
        {"path": _PATH, "content": {"type": "string"}},
        ["path", "content"],
    ),
    "edit_file": (
        "Replace a piece of a text file. `old` must be in the file exactly once, character for character.",
        {"path": _PATH, "old": {"type": "string", "minLength": 1}, "new": {"type": "string"}},
        ["path", "old", "new"],
    ),
    "list_files": (
        "List the files below a folder, optionally only those whose path matches a glob (`*`, `?`, `**`).",
        {"path": _PATH, "glob": {"type": "string", "minLength": 1, "maxLength": 200}},
        [],
    ),
    "search_files": (
        "Search files for a regular expression (Python syntax), line by line; answers path:line:text.",
        {
            "pattern": {"type": "string", "minLength": 1},
            "path": _PATH,
            "glob": {"type": "string", "minLength": 1, "maxLength": 200},
        },
        ["pattern"],
    ),
    "run_command": (
        "Run a shell command at the root of the repository, in a sandbox. Nothing that it starts outlives it.",
        {"command": {"type": "string", "minLength": 1}, "timeout_seconds": {"type": "number", "exclusiveMinimum": 0}},
        ["command"],
    ),
}

NAMES = tuple(_TOOLS)


def parameters(name: str) -> dict[str, Any]:
    """Return the JSON schema of the tool's arguments."""
    _, properties, required = _TOOLS[name]
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def submit_parameters(artifact_schema: dict[str, Any]) -> dict[str, Any]:
    """Return the JSON schema of `submit_artifact`'s arguments, with the artifact's own inlined."""
    return {
        "type": "object",
        "properties": {"artifact": artifact_schema},
        "required": ["artifact"],
        "additionalProperties": False,
    }


def spec(name: str) -> ToolSpec:
    """Return one tool as the API wants it."""
    return _function(name, _TOOLS[name][0], parameters(name))


def submit_spec(artifact_schema: dict[str, Any], artifact_path: str | None) -> ToolSpec:
    """Return `submit_artifact` for one phase."""
    also = f" Writing it as JSON to {artifact_path} counts as well." if artifact_path else ""
    text = f"Hand in the artifact that this phase must produce. Call it once, when the work is done.{also}"
    return _function(SUBMIT, text, submit_parameters(artifact_schema))


def _function(name: str, description: str, schema: dict[str, Any]) -> ToolSpec:
    return {"type": "function", "function": {"name": name, "description": description, "parameters": schema}}
