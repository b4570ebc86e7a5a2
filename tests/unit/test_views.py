"""The small conversions under every JSON answer: money, time, cost and the error that stopped a run."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, cast

import pytest
from sqlalchemy import RowMapping

from engine import views


def row(**values: Any) -> RowMapping:
    return cast(RowMapping, values)


@pytest.mark.parametrize(
    ("amount", "shown"),
    [(None, None), (Decimal(0), 0.0), (Decimal("0.0000004"), 0.0), (Decimal("1.2345678"), 1.234568)],
)
def test_money_is_a_number_and_unknown_stays_unknown(amount: Decimal | None, shown: float | None) -> None:
    assert views.usd(amount) == shown


def test_times_are_utc_with_a_z() -> None:
    assert views.iso(datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)) == "2026-01-02T03:04:05Z"
    assert views.iso(None) is None


def test_one_call_without_a_price_makes_the_cost_unknown() -> None:
    assert views.run_cost(row(unpriced_calls=0, spent_usd=Decimal("0.5"))) == 0.5
    assert views.run_cost(row(unpriced_calls=1, spent_usd=Decimal("0.5"))) is None


def test_the_error_of_a_run_is_the_pinned_object_and_a_persons_pause_is_none() -> None:
    failed = views.run_error(row(error_code="check_failed", error_message="the tests fail"))

    assert failed is not None
    assert set(failed) == {"code", "kind", "message", "recovery_hint"}
    assert views.run_error(row(error_code=None, error_message=None)) is None
    assert views.run_error(row(error_code="paused_by_person", error_message="lunch")) is None
