"""Event types, payloads and the keys that make each of them happen once."""

import json

import pytest
from pydantic import ValidationError

from engine.domain.events import (
    EVENT_TYPES,
    ArtifactInvalid,
    PhaseCompleted,
    PhaseSkipped,
    PromptRepaired,
    RunFailed,
    SessionResumed,
)

DESIGN = [
    "run.created",
    "run.started",
    "run.resumed",
    "run.paused",
    "run.completed",
    "run.failed",
    "run.aborted",
    "phase.started",
    "phase.skipped",
    "phase.completed",
    "phase.failed",
    "prompt.sent",
    "prompt.repaired",
    "artifact.expected",
    "artifact.timeout",
    "artifact.invalid",
    "artifact.validated",
    "artifact.committed",
    "approval.requested",
    "approval.resolved",
    "session.started",
    "session.resumed",
    "session.failed",
    "check.finished",
    "report.written",
]

SAMPLES = {
    str: "x",
    int: 1,
    bool: True,
    list[str]: ["x"],
    list[dict[str, str]]: [{"path": "/", "message": "x"}],
}


def sample(kind: type) -> object:
    """Return an event of a type with something in each required field."""
    values = {}
    for name, field in EVENT_TYPES[kind.type].model_fields.items():
        values[name] = next((value for known, value in SAMPLES.items() if field.annotation == known), "x")
        if str(field.annotation).startswith("int |"):
            values[name] = 0
    return kind(**values)


def test_the_types_are_those_of_the_design() -> None:
    assert sorted(EVENT_TYPES) == sorted(DESIGN)


@pytest.mark.parametrize("name", DESIGN)
def test_every_payload_is_typed_and_survives_json_without_floats(name: str) -> None:
    event = sample(EVENT_TYPES[name])

    payload = event.payload  # type: ignore[attr-defined]

    assert json.loads(json.dumps(payload)) == payload
    assert not any(isinstance(value, float) for value in payload.values())
    with pytest.raises(ValidationError):
        EVENT_TYPES[name](**payload, surprise=1)


@pytest.mark.parametrize("name", [name for name in DESIGN if "phase_key" in EVENT_TYPES[name].model_fields])
def test_events_of_two_phases_never_share_a_key(name: str) -> None:
    kind = EVENT_TYPES[name]
    one = sample(kind).payload  # type: ignore[attr-defined]
    ours = {"phase_key", "session_id", "request_id"} & set(kind.model_fields)

    other = one | dict.fromkeys(ours, "y")

    assert kind(**one).key != kind(**other).key


def test_a_key_contains_whatever_tells_the_event_from_its_like() -> None:
    repaired = {"phase_key": "plan", "session_id": "s", "prompt_id": "p", "code": "c"}

    assert PhaseCompleted(phase_key="plan", round=2, attempts=1).key == "phase.completed:plan:2"
    assert PromptRepaired(**repaired, round=1, attempt=2).key == "prompt.repaired:plan:1:2"
    assert PhaseSkipped(phase_key="plan", reason="r", number=7).key == "phase.skipped:plan:7"
    assert SessionResumed(phase_key="plan", session_id="s", messages=3, number=4).key == "session.resumed:s:4"
    assert RunFailed(code="c", message="m").key == "run.failed"


def test_the_faults_of_an_artifact_have_path_and_message() -> None:
    faults = [{"path": "/a", "message": "is missing"}]

    event = ArtifactInvalid(phase_key="plan", round=1, attempt=1, code="artifact_invalid", errors=faults)

    assert event.payload["errors"] == faults
