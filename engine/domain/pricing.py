"""What model calls cost: a table of prices, the exact cost of a call, and the most that a call can cost.

`metering` reserves the worst case before a call and settles the cost after it. An unknown price is None, never zero,
so a cap that meets one refuses the call instead of letting it through.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import ROUND_UP, Decimal
from typing import Annotated, Protocol

from pydantic import Field, StringConstraints

from engine.domain.files import ALLOWED, load_model
from engine.domain.persona import Part

_MILLION = Decimal(1_000_000)
_STEP = Decimal("0.0000000001")  # the ledger keeps ten decimals
_DATED = re.compile(r"-(?:\d{4}-\d{2}-\d{2}|\d{8}|latest)$")

PerMillion = Annotated[
    Decimal,
    Field(
        ge=0, le=1_000_000, decimal_places=8, json_schema_extra={ALLOWED: "US dollars per million tokens, 0 or more"}
    ),
]
ModelName = Annotated[
    str,
    StringConstraints(pattern=r"^\S{1,200}$"),
    Field(json_schema_extra={ALLOWED: "a model's name as the server calls it"}),
]


class TokenUsage(Protocol):
    """What the price table needs to know of a call; None is unknown."""

    @property
    def input_tokens(self) -> int | None:
        """Tokens of the request, cached ones included."""

    @property
    def output_tokens(self) -> int | None:
        """Tokens of the answer, reasoning included."""

    @property
    def cached_tokens(self) -> int | None:
        """The part of the input tokens that the server took from its cache."""


class Price(Part):
    """Prices of one model in US dollars per million tokens; without `cached`, cached input costs what input costs.

    With `prefix: true` the entry holds for every model whose name starts with its own; else for the name itself, its
    dated versions (`NAME-2026-01-31`, `NAME-20260131`, `NAME-latest`) and its aliases.
    """

    input: PerMillion
    output: PerMillion
    cached: PerMillion | None = None
    prefix: bool = False
    aliases: tuple[ModelName, ...] = ()


class PriceFile(Part):
    """A price file: when it was checked, and a price for each model."""

    as_of: str = ""
    models: dict[ModelName, Price]


@dataclass(frozen=True)
class PriceTable:
    """Prices by model name."""

    prices: Mapping[str, Price] = field(default_factory=dict)

    def merged(self, overrides: Mapping[str, Price]) -> "PriceTable":
        """Return a table in which `overrides` replace or add entries by name."""
        claimed = {name for key, price in overrides.items() for name in (key, *price.aliases)}
        kept = {
            key: price.model_copy(update={"aliases": tuple(name for name in price.aliases if name not in claimed)})
            for key, price in self.prices.items()
            if key not in overrides
        }
        return PriceTable({**kept, **overrides})

    def find(self, model: str) -> Price | None:
        """Return the model's price: by name, by alias, as a dated version, or by the longest prefix entry."""
        for name in (model, _DATED.sub("", model)):
            if name in self.prices:
                return self.prices[name]
            for price in self.prices.values():
                if name in price.aliases:
                    return price
        prefixes = [key for key, price in self.prices.items() if price.prefix and model.startswith(key)]
        return self.prices[max(prefixes, key=len)] if prefixes else None

    def worst_case(self, model: str, request_bytes: int, max_output_tokens: int) -> Decimal | None:
        """Return the most that a call can cost in US dollars, or None where the price is unknown.

        No tokenizer makes more tokens than the request has bytes, so the bytes bound the input.
        """
        price = self.find(model)
        if price is None or request_bytes < 0 or max_output_tokens < 0:
            return None
        dearest_input = max(price.input, price.cached or price.input)
        return _usd(dearest_input * request_bytes + price.output * max_output_tokens)

    def cost(self, model: str, usage: TokenUsage) -> tuple[Decimal, Decimal] | None:
        """Return the cost of a call's input and output in US dollars, or None where price or usage is unknown."""
        price = self.find(model)
        if price is None or usage.input_tokens is None or usage.output_tokens is None:
            return None
        if usage.input_tokens < 0 or usage.output_tokens < 0:
            return None
        cached = min(max(usage.cached_tokens or 0, 0), usage.input_tokens)
        cached_price = price.input if price.cached is None else price.cached
        fresh = price.input * (usage.input_tokens - cached)
        return _usd(fresh + cached_price * cached), _usd(price.output * usage.output_tokens)


def parse_prices(data: bytes, file: str) -> dict[str, Price]:
    """Return the prices in a price file (YAML: `models: {NAME: {input, output, cached}}`); raises `config_invalid`."""
    prices, _ = load_model(PriceFile, data, file)
    return dict(prices.models)


def parse_usd(text: str) -> Decimal:
    """Return an amount of US dollars as a person writes it (`2`, `+2.00`, `$1.50`); raises ValueError otherwise."""
    if not re.fullmatch(r"\s*\+?\$?[0-9]{1,7}(?:\.[0-9]{1,6})?\s*(?:USD)?\s*", text):
        raise ValueError(f"{text!r} is no amount of US dollars")
    return Decimal(re.sub(r"[^0-9.]", "", text))


def _usd(token_dollars: Decimal) -> Decimal:
    return (token_dollars / _MILLION).quantize(_STEP, rounding=ROUND_UP)
