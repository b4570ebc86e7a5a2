"""Reads fields out of GitHub's JSON strictly, so that whatever it sent becomes typed values or one kind of error.

Webhook bodies (`events`) and answers of the API (`client`) are read by the same rules: ids are whole numbers that
Postgres can hold, texts are valid Unicode without NUL, times are aware and in UTC.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

_LARGEST_ID = 2**63 - 1
_NOT_STORABLE = dict.fromkeys([0, *range(0xD800, 0xE000)], "\N{REPLACEMENT CHARACTER}")


class Unreadable(Exception):  # noqa: N818 - it says what became of the bytes
    """What GitHub sent is not what its documentation says; the message names the field and never repeats its value."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


@dataclass(frozen=True)
class Fields:
    """One JSON object and where it stands in the document, such as `comment.user`."""

    data: dict[str, Any]
    path: str = ""

    def has(self, name: str) -> bool:
        """Tell whether the field is there and not null."""
        return self.data.get(name) is not None

    def number(self, name: str) -> int:
        """Return a whole number of 0 to 2^63 - 1, such as an id."""
        value = self.data.get(name)
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _LARGEST_ID:
            raise self._wrong(name, "a whole number")
        return value

    def maybe_number(self, name: str) -> int | None:
        """Return a whole number, or None where there is none."""
        return self.number(name) if self.has(name) else None

    def text(self, name: str) -> str:
        """Return a text, with what no database can store replaced by U+FFFD."""
        value = self.data.get(name)
        if not isinstance(value, str):
            raise self._wrong(name, "a text")
        return value.translate(_NOT_STORABLE)

    def maybe_text(self, name: str) -> str:
        """Return a text, empty where there is none."""
        return self.text(name) if self.has(name) else ""

    def flag(self, name: str) -> bool:
        """Return a truth value; a missing one is false."""
        value = self.data.get(name)
        if value is not None and not isinstance(value, bool):
            raise self._wrong(name, "true or false")
        return bool(value)

    def time(self, name: str) -> datetime:
        """Return a time in UTC."""
        try:
            value = datetime.fromisoformat(self.text(name))
            if value.tzinfo is None:
                raise self._wrong(name, "a time with its zone")
            return value.astimezone(UTC)
        except (ValueError, OverflowError):
            raise self._wrong(name, "a time") from None

    def maybe_time(self, name: str) -> datetime | None:
        """Return a time in UTC, or None where there is none."""
        return self.time(name) if self.has(name) else None

    def child(self, name: str) -> "Fields":
        """Return the object in a field."""
        return as_object(self.data.get(name), self._place(name))

    def maybe_child(self, name: str) -> "Fields | None":
        """Return the object in a field, or None where there is none."""
        return self.child(name) if self.has(name) else None

    def children(self, name: str) -> Iterator["Fields"]:
        """Yield the objects of a list; a missing list is an empty one."""
        return as_list(self.data.get(name, []), self._place(name))

    def _place(self, name: str) -> str:
        return f"{self.path}.{name}" if self.path else name

    def _wrong(self, name: str, expected: str) -> Unreadable:
        return Unreadable(f"{self._place(name)} is not {expected}")


def as_object(value: Any, place: str = "") -> Fields:
    """Return the fields of a JSON object; raises `Unreadable` for anything else."""
    if not isinstance(value, dict):
        raise Unreadable(f"{place or 'the document'} is not an object")
    return Fields(value, place)


def as_list(value: Any, place: str = "") -> Iterator[Fields]:
    """Yield the objects of a JSON list; raises `Unreadable` for anything else."""
    if not isinstance(value, list):
        raise Unreadable(f"{place or 'the document'} is not a list")
    return (as_object(item, f"{place}[{number}]") for number, item in enumerate(value))


def load_object(body: bytes) -> Fields:
    """Return the fields of a JSON document in UTF-8; raises `Unreadable`."""
    try:
        return as_object(json.loads(body.decode()))
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"the body is not JSON in UTF-8 ({type(error).__name__})") from None
