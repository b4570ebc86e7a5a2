"""Attacks on what is read from GitHub: permissions that say two things, bodies of other events, keys of triggers."""

from datetime import UTC, datetime
from typing import Any

import pytest

from app.github.answers import permission_of
from app.github.events import Unreadable, parse
from app.github.reading import Fields
from app.inbound.triggers import came_after, is_of_label, label_key

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("permission", "role_name", "expected"),
    [
        ("read", "admin", "read"),
        ("read", "write", "read"),
        ("none", "write", "none"),
        ("write", "admin", "write"),
        ("read", "Write", "read"),
        ("write", "Reviewers", "write"),
        ("read", "triage", "triage"),
        ("write", "maintain", "maintain"),
        ("admin", "read", "read"),
        ("admin", "admin", "admin"),
        ("write", "", "write"),
    ],
)
def test_a_role_counts_for_no_more_than_the_permission_beside_it(
    permission: str, role_name: str, expected: str
) -> None:
    found = permission_of(Fields({"permission": permission, "role_name": role_name, "user": {"id": 7}}))

    assert (found.role, found.user_id) == (expected, 7)


@pytest.mark.parametrize("permission", [None, "owner", "", 1])
def test_a_permission_that_nobody_knows_is_none_at_all(permission: Any) -> None:
    with pytest.raises(Unreadable):
        permission_of(Fields({"permission": permission, "role_name": "admin", "user": {"id": 7}}))


@pytest.mark.parametrize(
    "body",
    [
        b'{"action": "deleted", "issue": {}, "comment": {}, "repository": {}}',
        b'{"action": "deleted", "issue": {}, "comment": null, "repository": {}}',
    ],
)
def test_a_comments_body_is_no_issues_body(body: bytes) -> None:
    with pytest.raises(Unreadable, match="comment is not part of the event issues"):
        parse("issues", body)


@pytest.mark.parametrize("part", ["comment", "label", "milestone", "starred_at", "rule", "release", "something_new"])
def test_a_body_with_something_deleted_in_it_is_no_deleted_repository(part: str) -> None:
    with pytest.raises(Unreadable, match=f"{part} is not part of the event repository"):
        parse("repository", b'{"action": "deleted", "%s": null, "repository": {}}' % part.encode())


def test_a_key_is_of_one_label_alone() -> None:
    key = label_key(5, "Devflow:small", AT)

    assert is_of_label(key, 5, "devflow:SMALL")
    assert not is_of_label(key, 5, "devflow")
    assert not is_of_label(key, 5, "devflow:sma")
    assert not is_of_label(key, 55, "devflow:small")
    assert not is_of_label(None, 5, "devflow")
    assert not is_of_label("retry:comment:7:1", 5, "devflow")


def test_a_comment_means_a_run_that_was_asked_for_by_then() -> None:
    key = label_key(5, "devflow", AT)

    assert came_after(key, 9, AT.replace(second=4))
    assert not came_after(key, 9, AT)
    assert came_after("retry:comment:9:1", 9, AT)
    assert came_after("retry:comment:10:2", 9, AT)
    assert not came_after("retry:comment:8:1", 9, AT)
    assert not came_after(None, 9, AT)
