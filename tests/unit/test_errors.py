"""The table of errors: pinned codes and kinds, exit codes by effect, and hints that name the next thing to do."""

import errno
import re
from pathlib import Path

import pytest

from engine.domain.errors import ERRORS, DevflowError, Effect, Fenced, Kind, error_of

REFUSED = [
    "repository_not_found",
    "repository_bare",
    "repository_empty",
    "base_not_found",
    "nested_repository",
    "issue_invalid",
    "workflow_not_found",
    "persona_not_found",
    "schema_not_found",
    "config_invalid",
    "binding_unsatisfied",
    "consent_required",
    "price_unknown",
    "database_unavailable",
    "database_schema_newer",
    "sandbox_unavailable",
    "run_not_found",
    "run_id_ambiguous",
    "run_already_terminal",
    "run_metadata_missing",
    "template_load_failed",
    "worker_already_running",
    "illegal_transition",
    "approval_superseded",
    "already_decided",
]
PAUSED = [
    "budget_exceeded",
    "backend_unavailable",
    "storage_full",
    "session_recovery_required",
    "push_conflict",
    "push_rejected",
]
FAILED = [
    "artifact_timeout_exhausted",
    "artifact_invalid_after_repair",
    "check_failed",
    "setup_failed",
    "protected_path",
    "revisions_exhausted",
    "approval_rejected",
    "agent_failed",
]
ENGINE = Path(__file__).parents[2] / "engine"


@pytest.mark.parametrize(
    ("codes", "effect", "exit_code"),
    [(REFUSED, Effect.REFUSED, 2), (PAUSED, Effect.PAUSED, 4), (FAILED, Effect.FAILED, 1)],
)
def test_each_pinned_code_has_its_effect_and_exit_code(codes: list[str], effect: Effect, exit_code: int) -> None:
    assert {code: (ERRORS[code].effect, ERRORS[code].exit_code) for code in codes} == dict.fromkeys(
        codes, (effect, exit_code)
    )


def test_kinds_are_those_of_the_design() -> None:
    human = ["run_not_found", "run_already_terminal", "run_metadata_missing"]
    human += [code for code in ERRORS if code.startswith("artifact_")]

    assert {ERRORS[code].kind for code in human} == {Kind.HUMAN_REQUIRED}
    assert ERRORS["template_load_failed"].kind is Kind.FATAL


def test_the_status_of_http_fits_what_happened() -> None:
    assert ERRORS["run_not_found"].http_status == 404
    assert {ERRORS[code].http_status for code in ("run_already_terminal", "illegal_transition")} == {409}
    assert ERRORS["workflow_not_found"].http_status == 400
    assert ERRORS["database_unavailable"].http_status == 503


@pytest.mark.parametrize("code", ERRORS)
def test_every_code_is_snake_case_and_has_a_hint(code: str) -> None:
    assert re.fullmatch(r"[a-z]+(_[a-z]+)*", code)
    assert len(ERRORS[code].hint) > 10
    assert not ERRORS[code].hint.endswith(".")


def test_an_error_is_shown_with_code_kind_message_and_hint() -> None:
    plain = DevflowError("run_not_found", "there is no run 1")
    better = DevflowError("run_not_found", "there is no run 1", recovery_hint="look elsewhere")

    assert plain.to_json() == {
        "code": "run_not_found",
        "kind": "human_required",
        "message": "there is no run 1",
        "recovery_hint": "list the runs with `devflow runs`",
    }
    assert better.to_json()["recovery_hint"] == "look elsewhere"
    assert str(plain) == "run_not_found: there is no run 1"


def test_a_code_that_is_not_in_the_table_cannot_be_raised() -> None:
    with pytest.raises(KeyError):
        DevflowError("made_up", "whatever")


def test_a_lost_lease_is_told_apart() -> None:
    assert Fenced("lost").code == "fenced"


def test_every_code_that_is_raised_by_name_is_in_the_table() -> None:
    text = "\n".join(path.read_text() for path in ENGINE.rglob("*.py"))

    assert set(re.findall(r'(?:DevflowError|ModelFault)\(\s*"([a-z_]+)"', text)) <= set(ERRORS)


def test_an_exception_of_any_kind_has_a_code() -> None:
    own = DevflowError("usage", "so not")

    assert error_of(own) is own
    assert error_of(OSError(errno.ENOSPC, "full")).code == "storage_full"
    assert error_of(OSError(errno.EACCES, "closed")).code == "internal_error"
    assert error_of(ValueError("x" * 9000)).message.startswith("ValueError: xxx")
    assert len(error_of(ValueError("x" * 9000)).message) == 500
