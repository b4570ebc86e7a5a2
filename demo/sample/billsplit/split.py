"""How an amount is shared."""


def split(cents: int, people: int) -> list[int]:
    """Return the share of each person in cents."""
    share = cents // people
    return [share] * people
