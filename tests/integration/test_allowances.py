"""Allowances: no span of time sees more creations than the host allows, whoever asks and however many at once."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from engine.store import allowances
from engine.store.database import Database

NOW = datetime(2030, 1, 1, tzinfo=UTC)
SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)


async def spend(database: Database, now: datetime, installation_id: int = 1, **limits: int) -> datetime | None:
    async with database.transaction() as tx:
        return await allowances.spend(tx, installation_id, now, tuple(limits.items()) or allowances.LIMITS)


async def test_eighty_may_be_created_in_a_minute_and_the_next_one_when_the_first_is_a_minute_old(
    database: Database,
) -> None:
    for n in range(80):
        assert await spend(database, NOW + n * timedelta(milliseconds=100)) is None

    refused = await spend(database, NOW + 10 * SECOND)

    assert refused == NOW + MINUTE
    assert await spend(database, NOW + MINUTE - timedelta(microseconds=1)) == NOW + MINUTE
    assert await spend(database, NOW + MINUTE) is None
    assert await spend(database, NOW + MINUTE) == NOW + MINUTE + timedelta(milliseconds=100)


async def test_both_spans_hold_and_the_later_time_is_told(database: Database) -> None:
    for n in range(4):
        assert await spend(database, NOW + n * MINUTE, minute=2, hour=5) is None
    last = NOW + 4 * MINUTE
    assert await spend(database, last, minute=2, hour=5) is None

    assert await spend(database, last, minute=2, hour=5) == NOW + HOUR
    assert await spend(database, NOW + HOUR, minute=2, hour=5) is None
    assert await spend(database, NOW + HOUR, minute=2, hour=5) == NOW + HOUR + MINUTE


async def test_a_refusal_spends_nothing(database: Database) -> None:
    assert await spend(database, NOW, minute=1) is None

    for n in range(1, 60):
        assert await spend(database, NOW + n * SECOND, minute=1) == NOW + MINUTE

    assert await spend(database, NOW + MINUTE, minute=1) is None


async def test_of_many_who_spend_at_once_exactly_as_many_may_as_are_allowed(database: Database) -> None:
    answers = await asyncio.gather(*(spend(database, NOW, minute=7, hour=500) for _ in range(20)))

    assert answers.count(None) == 7
    assert set(answers) == {None, NOW + MINUTE}


async def test_no_minute_and_no_hour_sees_more_than_its_limit_however_impatient_the_callers(
    database: Database,
) -> None:
    granted: list[datetime] = []
    now = NOW
    while len(granted) < 40:
        again = await spend(database, now, minute=4, hour=20)
        if again is None:
            granted.append(now)
            now += timedelta(milliseconds=700)
        else:
            assert again > now
            now = again

    for span, most in ((MINUTE, 4), (HOUR, 20)):
        assert max(len([at for at in granted if start <= at < start + span]) for start in granted) == most


async def test_installations_do_not_share(database: Database) -> None:
    big = 2**40
    assert await spend(database, NOW, minute=1) is None
    assert await spend(database, NOW, big, minute=1) is None

    assert await spend(database, NOW, big, minute=1) == NOW + MINUTE


async def test_a_transaction_that_fails_has_spent_nothing(database: Database) -> None:
    with pytest.raises(ZeroDivisionError):
        async with database.transaction() as tx:
            await allowances.spend(tx, 1, NOW, (("minute", 1),))
            raise ZeroDivisionError

    assert await spend(database, NOW, minute=1) is None


async def test_what_is_older_than_every_span_is_not_kept(database: Database) -> None:
    await spend(database, NOW)
    await spend(database, NOW + HOUR)

    async with database.read() as tx:
        left = (await tx.connection.exec_driver_sql("SELECT spent_at FROM content_allowances")).scalars().all()
    assert left == [NOW + HOUR]
