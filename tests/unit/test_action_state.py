"""What is kept of an issue between two steps: written whole, read with mistrust."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.action.state import Holder, IssueState, is_heard, issue_of_ref, read_state, state_ref
from engine.domain.errors import DevflowError
from engine.store.deliveries import NewDelivery

RUN = UUID("019a0000-0000-7000-8000-000000000001")
NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
HOLDER = Holder(id=uuid4(), url="https://github.example/octo/answers/actions/runs/1", attempt=1, heard_at=NOW)
STATE = IssueState(
    4711,
    7,
    {RUN: b"a snapshot\n"},
    b"rows\n",
    HOLDER,
    (NewDelivery("comment:1", "issue_comment", {}, b'{"action": "created"}'),),
)


def refusal(files: dict[str, bytes], repository_id: int = 4711, issue_number: int = 7) -> str:
    with pytest.raises(DevflowError) as refused:
        read_state(files, repository_id, issue_number)
    assert refused.value.code == "state_invalid"
    assert "refs/devflow/state/" in refused.value.message
    assert "git push origin :refs/devflow/state/" in refused.value.recovery_hint
    return refused.value.message


def test_a_state_is_read_as_it_was_written() -> None:
    assert read_state(STATE.to_files(), 4711, 7) == STATE
    bare = IssueState(4711, 7, live=False)
    assert read_state(bare.to_files(), 4711, 7) == bare


def test_a_state_of_another_repository_or_issue_is_refused() -> None:
    assert "issue 7 of repository 4711, not of issue 7 of 4712" in refusal(STATE.to_files(), repository_id=4712)
    assert "not of issue 8" in refusal(STATE.to_files(), issue_number=8)


def _without(name: str) -> Callable[[dict[str, bytes]], dict[str, bytes]]:
    return lambda files: {key: data for key, data in files.items() if key != name}


def _manifest(**changes: Any) -> Callable[[dict[str, bytes]], dict[str, bytes]]:
    def change(files: dict[str, bytes]) -> dict[str, bytes]:
        return files | {"state.json": json.dumps(json.loads(files["state.json"]) | changes).encode()}

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_without("state.json"), "state.json"),
        (_without(f"run-{RUN}.jsonl"), "missing"),
        (_without("issue.jsonl"), "missing"),
        (lambda files: files | {"more.jsonl": b""}, "too many"),
        (lambda files: files | {f"run-{RUN}.jsonl": b"a snapshot"}, "is not what"),
        (lambda files: files | {"state.json": files["state.json"][:-20]}, "state.json"),
        (_manifest(state="devflow/state@2"), "state.json: state"),
        (_manifest(holder={"id": "x"}), "holder"),
        (_manifest(more=1), "more"),
        (_manifest(repository_id="x"), "repository_id"),
    ],
)
def test_what_is_not_whole_is_refused(change: Callable[[dict[str, bytes]], dict[str, bytes]], said: str) -> None:
    assert said in refusal(change(STATE.to_files()))


def test_a_file_that_has_no_place_is_refused_though_it_is_listed() -> None:
    odd = IssueState(4711, 7, {RUN: b"x"}).to_files()
    data = odd.pop(f"run-{RUN}.jsonl")
    manifest = json.loads(odd["state.json"])
    manifest["files"] = {"run-../x.jsonl": manifest["files"][f"run-{RUN}.jsonl"]}
    files = {"state.json": json.dumps(manifest).encode(), "run-../x.jsonl": data}
    assert "has no place" in refusal(files)


@given(st.binary(max_size=200))
def test_any_bytes_for_a_manifest_are_refused_and_nothing_else(data: bytes) -> None:
    refusal({"state.json": data})


@given(st.integers(min_value=0), st.data())
def test_any_line_of_an_event_that_was_changed_is_refused(place: int, data: st.DataObject) -> None:
    files = STATE.to_files()
    handed = bytearray(files["handed.jsonl"])
    handed[place % len(handed)] ^= data.draw(st.integers(1, 255))
    refusal(files | {"handed.jsonl": bytes(handed)})


@pytest.mark.parametrize(
    ("ref", "issue"),
    [
        ("refs/devflow/state/7", 7),
        ("refs/devflow/state/07", None),
        ("refs/devflow/state/", None),
        ("refs/devflow/state/7/x", None),
        ("refs/heads/devflow/state/7", None),
        ("refs/devflow/state/-7", None),
        ("refs/devflow/state/9999999999999999999", None),
    ],
)
def test_only_refs_of_issues_are_ours(ref: str, issue: int | None) -> None:
    assert issue_of_ref(ref) == issue
    assert issue is None or state_ref(issue) == ref


@pytest.mark.parametrize(
    ("seconds", "heard"), [(0, True), (89, True), (90, False), (3600, False), (-89, True), (-90, False)]
)
def test_a_holder_counts_for_as_long_as_it_was_heard_of(seconds: int, heard: bool) -> None:
    assert is_heard(HOLDER, NOW + timedelta(seconds=seconds), 90) is heard
