"""What time it is, for everything that the app puts off until later; a test steps it by hand.

The engine's own times are the database's. What the app decides by a clock are moments that GitHub named, and its own
back-offs; they are stored and compared with this clock's `now`.
"""

from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Knows the time."""

    def now(self) -> datetime:
        """Return the time, aware and in UTC."""


class SystemClock:
    """The clock of this machine."""

    def now(self) -> datetime:
        """Return the time, aware and in UTC."""
        return datetime.now(UTC)
