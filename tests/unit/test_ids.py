"""Identifiers that sort by time and that people can type."""

import time
from uuid import UUID

from engine.domain.ids import short_id, uuid7


def test_an_id_is_a_uuid_of_version_7_with_the_time_in_front() -> None:
    before = time.time_ns() // 1_000_000

    made = uuid7()

    assert (made.version, made.variant) == (7, UUID(int=2 << 62).variant)
    assert before <= made.int >> 80 <= time.time_ns() // 1_000_000


def test_ids_of_later_milliseconds_sort_behind() -> None:
    first = uuid7()
    while time.time_ns() // 1_000_000 == first.int >> 80:
        pass

    assert uuid7() > first


def test_no_two_ids_are_equal_and_short_ids_are_the_random_end() -> None:
    ids = [uuid7() for _ in range(2000)]

    assert len(set(ids)) == 2000
    assert short_id(ids[0]) == str(ids[0])[-8:]
    assert len({short_id(made) for made in ids}) > 1990
