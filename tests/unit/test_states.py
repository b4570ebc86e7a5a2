"""The one table of transitions: what it allows, what raises, and that nothing leaves a terminal state."""

from enum import StrEnum

import pytest

from engine.domain.errors import DevflowError
from engine.domain.states import TRANSITIONS, PhaseState, RequestState, RunState, SessionState, check_transition

TERMINAL: list[StrEnum] = [
    RunState.COMPLETED,
    RunState.FAILED,
    RunState.ABORTED,
    PhaseState.FAILED,
    PhaseState.SKIPPED,
    *[state for state in RequestState if state is not RequestState.PENDING],
    SessionState.CLOSED,
    SessionState.FAILED_NEEDS_HUMAN,
]


def test_states_are_spelled_as_everywhere() -> None:
    assert " ".join(RunState) == "created executing awaiting_approval paused completed failed aborted"
    assert " ".join(PhaseState) == "pending running validating awaiting_approval completed failed skipped"
    assert " ".join(RequestState) == "pending approved rejected revised aborted superseded expired"
    assert " ".join(SessionState) == "CREATED READY BUSY CLOSED FAILED_NEEDS_HUMAN"


@pytest.mark.parametrize("kind", [RunState, PhaseState, RequestState, SessionState])
def test_every_state_has_a_row_and_every_other_state_can_be_reached(kind: type[StrEnum]) -> None:
    table = TRANSITIONS[kind]
    first = next(iter(kind))

    assert set(table) == set(kind)
    assert set(kind) - {first} <= set().union(*table.values())


@pytest.mark.parametrize("state", TERMINAL)
def test_nothing_leaves_a_final_state(state: StrEnum) -> None:
    assert TRANSITIONS[type(state)][state] == frozenset()


def test_every_live_run_can_fail_and_be_aborted_and_only_an_executing_one_completes() -> None:
    live = [state for state in RunState if not state.terminal]

    assert all({RunState.FAILED, RunState.ABORTED} <= TRANSITIONS[RunState][state] for state in live)
    assert [state for state in live if RunState.COMPLETED in TRANSITIONS[RunState][state]] == [RunState.EXECUTING]


def test_whatever_can_be_paused_can_go_on_where_it_was() -> None:
    table = TRANSITIONS[RunState]
    pausable = {state for state in RunState if RunState.PAUSED in table[state]}

    assert pausable == {RunState.CREATED, RunState.EXECUTING, RunState.AWAITING_APPROVAL}
    assert pausable <= table[RunState.PAUSED]


def test_states_of_one_spelling_keep_their_own_row() -> None:
    check_transition(PhaseState.COMPLETED, PhaseState.PENDING)
    with pytest.raises(DevflowError) as caught:
        check_transition(RunState.COMPLETED, RunState.EXECUTING)

    assert caught.value.code == "illegal_transition"
    assert "a run cannot go from completed to executing" in caught.value.message


@pytest.mark.parametrize("kind", [RunState, PhaseState, RequestState, SessionState])
def test_what_the_table_does_not_allow_raises(kind: type[StrEnum]) -> None:
    for old in kind:
        for new in kind:
            if new in TRANSITIONS[kind][old]:
                check_transition(old, new)
            else:
                with pytest.raises(DevflowError):
                    check_transition(old, new)
