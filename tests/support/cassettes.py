"""Cassettes: what a recorded agent does, built from Python."""

import json
from pathlib import Path
from typing import Any

Json = dict[str, Any]
Turn = list[Json]

SPEC: Json = {
    "requirements": ["The answer is 42."],
    "acceptance_criteria": ["answer() returns 42."],
    "approach": "Change the constant.",
    "risks": [],
}
PLAN: Json = {
    "summary": "One step.",
    "steps": [
        {"id": "S1", "title": "Change it", "details": "Write 42.", "files": ["answer.py"], "verification": "Run it."}
    ],
    "test_strategy": "The check.",
}
CHANGE: Json = {
    "summary": "It is 42 now.",
    "changes": [{"path": "answer.py", "kind": "modified", "reason": "The issue says so."}],
}
APPROVED: Json = {"verdict": "approved", "findings": []}
CHANGES_REQUESTED: Json = {
    "verdict": "changes_requested",
    "findings": [{"severity": "major", "file": "answer.py", "line": 1, "message": "It is not 42."}],
}
VERIFIED: Json = {
    "verdict": "passed",
    "criteria": [{"text": "answer() returns 42.", "result": "met", "evidence": "The check ran."}],
    "unresolved": [],
}


def call(tool: str, **arguments: Any) -> Json:
    """Return one tool call."""
    return {"tool": tool, "arguments": arguments}


def submit(artifact: Json) -> Turn:
    """Return a turn that submits an artifact."""
    return [call("submit_artifact", artifact=artifact)]


def cassette(turns: dict[str, list[Turn]]) -> bytes:
    """Return the bytes of a cassette; keys are PHASE/ROUND/ATTEMPT."""
    return json.dumps({"version": 1, "turns": turns}).encode()  # JSON is YAML


def write_cassette(path: Path, turns: dict[str, list[Turn]]) -> Path:
    """Write a cassette and return its path."""
    path.write_bytes(cassette(turns))
    return path
