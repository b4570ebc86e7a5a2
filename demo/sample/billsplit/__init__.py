"""Split a bill between people, in cents."""

from billsplit.split import split

__all__ = ["split"]
