"""Figures as people say them: money, time spans, numbers with their noun."""

from decimal import Decimal

from app.surface.view import Money


def money(amount: Decimal) -> str:
    """Return an amount of US dollars; without `$`, which GitHub takes for the beginning of a formula."""
    if 0 < amount < Decimal("0.0001"):
        return "under 0.0001 USD"
    return f"{amount:.2f} USD" if amount >= 1 or not amount else f"{amount:.4f} USD"


def cost(spent: Money) -> str:
    """Return what calls have cost, as far as that is known."""
    if not spent.calls:
        return "none"
    if spent.recorded == spent.calls:
        return "none (recorded)"
    if spent.unpriced:
        known = f", {money(spent.usd)} of it known" if spent.usd else ""
        return f"unknown{known}"
    return money(spent.usd)


def duration(seconds: float) -> str:
    """Return a time span as people say it."""
    whole = round(seconds)
    if whole < 1:
        return "under 1 s"
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def count(number: int, what: str) -> str:
    """Return a number with its noun."""
    return f"{number:,} {what}" + ("" if number == 1 else "s")
