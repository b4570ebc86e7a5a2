"""Identifiers: time-ordered UUIDs and the short form that people type."""

import os
import time
from uuid import UUID


def uuid7() -> UUID:
    """Return a new UUID version 7: 48 bits of Unix milliseconds, then random bits (RFC 9562, section 5.7)."""
    millis = time.time_ns() // 1_000_000
    random = int.from_bytes(os.urandom(10), "big")
    value = (millis & (1 << 48) - 1) << 80 | 0x7 << 76 | (random >> 68) << 64 | 0b10 << 62 | random & (1 << 62) - 1
    return UUID(int=value)


def short_id(run_id: UUID) -> str:
    """Return the last 8 hex digits of a run id; the first digits of a UUIDv7 are time and would not tell runs apart."""
    return run_id.hex[-8:]
