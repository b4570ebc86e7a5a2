"""Faults of an attempt: how many are told, how they are stored, and which error the last one becomes."""

import pytest

from engine.domain.errors import ERRORS, Effect
from engine.runner.faults import Fault


@pytest.mark.parametrize(
    ("code", "final"),
    [
        ("artifact_missing", "artifact_invalid_after_repair"),
        ("artifact_invalid", "artifact_invalid_after_repair"),
        ("artifact_timeout", "artifact_timeout_exhausted"),
        ("protected_path", "protected_path"),
        ("check_failed", "check_failed"),
        ("model_reply_invalid", "model_reply_invalid"),
    ],
)
def test_each_fault_ends_in_an_error_that_fails_the_run_and_names_the_phase(code: str, final: str) -> None:
    error = Fault.of(code, [{"path": "/a", "message": "is wrong"}]).final_error("plan")

    assert error.code == final
    assert ERRORS[final].effect is Effect.FAILED
    assert error.message == "phase plan, after one repair: /a: is wrong"


def test_the_first_five_errors_are_kept() -> None:
    errors = [{"path": f"/{number}", "message": "x"} for number in range(9)]

    stored = Fault.of("artifact_invalid", errors).to_json()

    assert stored == {"code": "artifact_invalid", "errors": errors[:5]}
