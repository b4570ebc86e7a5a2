"""A clock that stands still until a test moves it."""

from datetime import UTC, datetime, timedelta


class SteppedClock:
    """Starts at the real time, or where it is told, and goes on by `step` alone."""

    def __init__(self, at: datetime | None = None) -> None:
        self._now = at or datetime.now(UTC)

    def now(self) -> datetime:
        """Return the time, aware and in UTC."""
        return self._now

    def step(self, seconds: float) -> None:
        """Let the time go on."""
        self._now += timedelta(seconds=seconds)
