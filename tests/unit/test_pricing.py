"""Prices: exact costs, worst cases that are never too low, and unknown that stays unknown."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.agents.base import Usage
from engine.catalog import Catalog
from engine.domain.errors import DevflowError
from engine.domain.pricing import Price, PriceTable, parse_prices, parse_usd

TABLE = PriceTable(
    {
        "gpt": Price(input=Decimal(2), output=Decimal(10), cached=Decimal("0.5"), aliases=("vendor/gpt",)),
        "plain": Price(input=Decimal(1), output=Decimal(1)),
        "local-": Price(input=Decimal(0), output=Decimal(0), prefix=True),
    }
)


def test_a_call_costs_its_fresh_cached_and_written_tokens() -> None:
    usage = Usage(input_tokens=1_000_000, cached_tokens=400_000, output_tokens=100_000)

    assert TABLE.cost("gpt", usage) == (Decimal("1.4"), Decimal("1.0"))


def test_cached_tokens_cost_what_others_cost_where_no_price_is_given() -> None:
    assert TABLE.cost("plain", Usage(1_000_000, 0, 900_000)) == (Decimal(1), Decimal(0))


@pytest.mark.parametrize(
    ("model", "known"),
    [
        ("gpt", True),
        ("vendor/gpt", True),
        ("gpt-2026-01-31", True),
        ("gpt-20260131", True),
        ("gpt-latest", True),
        ("local-anything", True),
        ("gpt-pro", False),
        ("gp", False),
        ("other/gpt", False),
    ],
)
def test_a_model_is_found_by_name_alias_date_or_declared_prefix_and_never_by_likeness(model: str, known: bool) -> None:
    assert (TABLE.find(model) is not None) is known
    assert (TABLE.worst_case(model, 1, 1) is not None) is known


def test_an_unknown_price_or_usage_is_unknown_and_never_zero() -> None:
    assert TABLE.worst_case("nobody", 10, 10) is None
    assert TABLE.cost("nobody", Usage(1, 1)) is None
    assert TABLE.cost("gpt", Usage(None, 5)) is None
    assert TABLE.cost("gpt", Usage(5, None)) is None
    assert TABLE.cost("gpt", Usage(-5, 5)) is None


@given(
    st.integers(0, 10**7), st.integers(0, 10**6), st.integers(0, 10**7), st.integers(0, 10**6), st.integers(0, 10**7)
)
def test_no_call_costs_more_than_was_reserved_for_it(
    request_bytes: int, max_output: int, tokens: int, output: int, cached: int
) -> None:
    usage = Usage(min(tokens, request_bytes), min(output, max_output), cached)

    reserved = TABLE.worst_case("gpt", request_bytes, max_output)
    cost = TABLE.cost("gpt", usage)

    assert reserved is not None
    assert cost is not None
    assert sum(cost) <= reserved + Decimal("0.0000000001")


def test_a_users_file_replaces_entries_by_name_and_adds_others() -> None:
    merged = TABLE.merged(
        parse_prices(b"models:\n  gpt: {input: 3, output: 4}\n  mine: {input: 0.1, output: 0.2}\n", "p")
    )

    assert merged.cost("gpt", Usage(1_000_000, 0)) == (Decimal(3), Decimal(0))
    assert merged.cost("mine", Usage(1_000_000, 1_000_000)) == (Decimal("0.1"), Decimal("0.2"))
    assert merged.cost("plain", Usage(1_000_000, 0)) == (Decimal(1), Decimal(0))


def test_a_users_entry_under_an_alias_wins_over_the_alias() -> None:
    merged = TABLE.merged({"vendor/gpt": Price(input=Decimal(9), output=Decimal(9))})

    assert merged.cost("vendor/gpt", Usage(1_000_000, 0)) == (Decimal(9), Decimal(0))
    assert merged.cost("gpt", Usage(1_000_000, 0)) == (Decimal(2), Decimal(0))


@pytest.mark.parametrize(
    "data",
    [
        b"models: {gpt: {input: -1, output: 2}}",
        b"models: {gpt: {input: cheap, output: 2}}",
        b"models: {gpt: {input: 1}}",
        b"modls: {}",
        b"models: [",
        b"\xff",
        b"",
    ],
)
def test_a_broken_price_file_is_an_error_and_never_a_table_without_prices(data: bytes) -> None:
    with pytest.raises(DevflowError) as caught:
        Catalog().prices(data, "prices.yaml")

    assert caught.value.code == "config_invalid"
    assert "prices.yaml:1" in caught.value.message


def test_every_built_in_model_persona_has_a_price() -> None:
    catalog = Catalog()
    prices = catalog.prices()

    for persona in catalog.personas():
        if persona.backend == "openai":
            assert prices.worst_case(persona.model, 1000, 1000), persona.model


@pytest.mark.parametrize(("text", "amount"), [("2", "2"), ("+2.00", "2.00"), (" $1.5 ", "1.5"), ("3 USD", "3")])
def test_an_amount_reads_as_people_write_it(text: str, amount: str) -> None:
    assert parse_usd(text) == Decimal(amount)


@pytest.mark.parametrize("text", ["", "-1", "two", "1e9", "nan", "1,5", "\u0663", "12345678"])
def test_what_is_no_amount_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no amount"):
        parse_usd(text)
