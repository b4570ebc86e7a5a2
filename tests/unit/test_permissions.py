"""Who may start, steer and decide: by permission or list, by id, never a bot."""

import pytest

from app.github.shapes import Permission, Person, Role
from app.inbound.permissions import Rules, Standing, check_decision, may_steer
from engine.domain.errors import DevflowError
from engine.domain.states import Action

ADA = Person(1, "ada")


def standing(role: Role, *, person: Person = ADA, user_id: int | None = 1) -> Standing:
    """A person with a role, as GitHub says it for an account."""
    return Standing(person, Permission(role, user_id))


@pytest.mark.parametrize(
    ("role", "may"),
    [("none", False), ("read", False), ("triage", False), ("write", True), ("maintain", True), ("admin", True)],
)
def test_write_permission_is_what_it_takes(role: Role, may: bool) -> None:
    assert may_steer(standing(role), ()) is may


def test_a_place_on_the_list_is_enough_whatever_the_case() -> None:
    assert may_steer(standing("read"), ("Ada",))
    assert not may_steer(standing("read"), ("adamant",))


def test_a_login_that_is_another_account_now_counts_for_nothing() -> None:
    taken = standing("admin", user_id=99)

    assert not may_steer(taken, ("ada",))
    assert not taken.may_triage
    assert not may_steer(standing("none", user_id=None), ("ada",))


def test_a_bot_never_counts() -> None:
    bot = Person(1, "helper[bot]", is_bot=True)

    assert not may_steer(standing("admin", person=bot), ("helper[bot]",))


def test_who_asked_may_approve_unless_the_rules_say_otherwise() -> None:
    own = Rules(requested_by_id=1)
    strict = Rules(requested_by_id=1, requester_may_approve=False)

    check_decision(standing("write"), Action.APPROVE, own)
    for action in (Action.REJECT, Action.REVISE, Action.ABORT):
        check_decision(standing("write"), action, strict)
    check_decision(standing("write", person=Person(2, "grace"), user_id=2), Action.APPROVE, strict)
    with pytest.raises(DevflowError) as caught:
        check_decision(standing("write"), Action.APPROVE, strict)
    assert caught.value.code == "permission_denied"


def test_a_decision_of_somebody_without_the_right_is_denied_with_who_may() -> None:
    with pytest.raises(DevflowError) as caught:
        check_decision(standing("triage"), Action.ABORT, Rules(approvers=("grace",)))

    assert caught.value.code == "permission_denied"
    assert caught.value.details["approvers"] == ["grace"]


def test_the_rules_of_a_run_are_those_of_its_start() -> None:
    rules = Rules.of_run({"approvers": ["grace"], "requester_may_approve": False}, {"requested_by_id": 7})

    assert rules == Rules(("grace",), False, 7)
    assert Rules.of_run({}, {}) == Rules((), True, None)
