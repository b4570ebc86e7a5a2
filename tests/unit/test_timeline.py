"""The timeline that people read: a line for what matters, nothing for noise, and every event type is known to it."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from app.local.timeline import line
from engine.domain.events import EVENT_TYPES
from tests.unit.test_events import sample

START = datetime(2026, 1, 1, tzinfo=UTC)


def event(kind: str, seconds: float = 0.0, **payload: Any) -> dict[str, Any]:
    whole = sample(EVENT_TYPES[kind]).payload | payload  # type: ignore[attr-defined]
    at = (START + timedelta(seconds=seconds)).isoformat()
    return {"type": kind, "at": at, "phase_key": whole.get("phase_key"), "payload": whole}


@pytest.mark.parametrize("kind", EVENT_TYPES)
def test_every_type_has_words_of_its_own_or_is_left_out(kind: str) -> None:
    shown = line(event(kind), START)

    assert shown is None or not shown.endswith(f" {kind}")
    assert shown is None or "None" not in shown


def test_a_line_has_the_time_since_the_start_and_the_phase() -> None:
    shown = line(event("phase.failed", 83.4, phase_key="plan", code="check_failed", message="no"), START)

    assert shown is not None
    assert shown.split()[:2] == ["1:23.4", "plan"]


def test_what_a_person_has_to_know_of_a_failure_is_there() -> None:
    faults = [{"path": "/a", "message": "is missing"}]
    invalid = line(event("artifact.invalid", code="artifact_invalid", attempt=1, errors=faults), START)
    check = line(event("check.finished", name="unit", exit_code=1, met=False, expected="pass"), START)

    assert invalid is not None
    assert "/a: is missing" in invalid
    assert check is not None
    assert "check unit: exit 1, expected to pass" in check
