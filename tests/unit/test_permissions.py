"""Who may start, steer and decide: by permission or list, by id, never a bot."""

import pytest

from app.github.shapes import Permission, Person, Role
from app.inbound.permissions import Approvers, Rules, Standing, check_decision, may_steer
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
    assert may_steer(standing(role), Approvers()) is may


def test_a_place_on_the_list_is_enough_whatever_the_case() -> None:
    assert may_steer(standing("read"), Approvers(("Ada",)))
    assert not may_steer(standing("read"), Approvers(("adamant",)))


def test_in_a_run_a_place_on_the_list_is_the_accounts_that_had_it_at_the_start() -> None:
    frozen = Approvers(("Ada",), {"ada": 1})
    renamed = standing("read", person=Person(1, "lovelace"))
    usurper = standing("read", person=Person(2, "ada"), user_id=2)

    assert may_steer(standing("read"), frozen)
    assert may_steer(renamed, frozen)
    assert not may_steer(usurper, frozen)
    assert not may_steer(standing("read"), Approvers(("ada",), {}))


def test_ids_that_are_not_proven_count_with_the_login_alone() -> None:
    unproven = Approvers(("ada",), {"ada": 1}, only_by_name=True)

    assert may_steer(standing("read"), unproven)
    assert not may_steer(standing("read", person=Person(1, "lovelace")), unproven)
    assert not may_steer(standing("read"), Approvers(("ada", "grace"), {"ada": 2, "grace": 1}, only_by_name=True))


def test_a_login_that_is_another_account_now_counts_for_nothing() -> None:
    taken = standing("admin", user_id=99)

    assert not may_steer(taken, Approvers(("ada",)))
    assert not taken.may_triage
    assert not may_steer(standing("none", user_id=None), Approvers(("ada",)))


def test_a_bot_never_counts() -> None:
    bot = Person(1, "helper[bot]", is_bot=True)

    assert not may_steer(standing("admin", person=bot), Approvers(("helper[bot]",)))


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
        check_decision(standing("triage"), Action.ABORT, Rules(Approvers(("grace",))))

    assert caught.value.code == "permission_denied"
    assert caught.value.details["approvers"] == ["grace"]


def test_the_rules_of_a_run_are_those_of_its_start() -> None:
    options = {"approvers": ["Grace", "nobody-yet"], "requester_may_approve": False}
    metadata = {"requested_by_id": 7, "approver_ids": {"grace": 2, "mallory": 3}}

    assert Rules.of_run(options, metadata, only_by_name=False) == Rules(Approvers(("Grace",), {"grace": 2}), False, 7)
    assert Rules.of_run({}, {}, only_by_name=True) == Rules(Approvers((), {}, only_by_name=True), True, None)


@pytest.mark.parametrize("ids", [None, [], "carol", {"carol": "3"}, {"carol": True}, {"carol": None}])
def test_a_list_without_ids_is_nobodys(ids: object) -> None:
    rules = Rules.of_run({"approvers": ["carol"]}, {"approver_ids": ids}, only_by_name=False)

    assert rules.approvers == Approvers((), {})
