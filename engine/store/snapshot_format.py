"""The form of a snapshot: which rows of a run it has, in which columns, and how a line and a value are written.

JSON Lines: a header, one line a row in the order of `RUN_TABLES` and of primary keys, and an end with the number of
rows and the SHA-256 of all bytes before it. Each line is canonical, so equal rows are equal bytes in any database.
Writing is in `snapshot`, reading in `snapshot_reading`.
"""

import base64
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from functools import cached_property
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Integer,
    LargeBinary,
    Numeric,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
)
from sqlalchemy.dialects.postgresql import JSONB

from engine.domain.canonical import canonical_json
from engine.domain.errors import DevflowError
from engine.store import agent_tables, host_tables, tables

RUN_FORMAT = "devflow/snapshot@1"
HOST_FORMAT = "devflow/issue-state@1"
MAX_LINE = 64 * 2**20
# Whether a worker held the run: all that a snapshot says of the lease, because workers are those of one database.
HELD = "held"

Row = dict[str, Any]

_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}\+00:00")
_SHA = re.compile(r"[0-9a-f]{40}")
_HASH = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Layout:
    """One table in a snapshot; `left_out` are columns that belong to the database and not to the run."""

    table: Table
    left_out: frozenset[str] = frozenset()
    more: tuple[Column[Any], ...] = field(default=())

    @property
    def name(self) -> str:
        """The table's name."""
        return self.table.name

    @cached_property
    def columns(self) -> dict[str, Column[Any]]:
        """The columns by name."""
        own = {column.name: column for column in self.table.columns if column.name not in self.left_out}
        return own | {column.name: column for column in self.more}

    @cached_property
    def key(self) -> tuple[str, ...]:
        """The names of the primary key's columns, in which order the rows are."""
        return tuple(column.name for column in self.table.primary_key.columns)

    @cached_property
    def unique(self) -> tuple[tuple[str, ...], ...]:
        """The names of columns that together are different in each row."""
        found = [item for item in self.table.constraints if isinstance(item, UniqueConstraint)]
        return tuple(tuple(column.name for column in item.columns) for item in found)

    @cached_property
    def choices(self) -> dict[str, frozenset[str]]:
        """What the columns with a fixed set of values may hold."""
        marked = [item for item in self.table.constraints if isinstance(item, CheckConstraint) and item.info]
        return {item.info["column"]: item.info["values"] for item in marked}

    @property
    def order(self) -> list[Any]:
        """What to order by: texts by their code points, which no database's own language changes."""
        columns = [self.table.c[name] for name in self.key]
        return [column.collate("C") if isinstance(column.type, Text) else column for column in columns]

    def encode(self, row: Mapping[str, Any]) -> bytes:
        """Return the line of a row."""
        values = {name: encode_value(column, row[name]) for name, column in self.columns.items()}
        return line_of({"table": self.name, "row": values})

    def decode(self, values: Any, *, partial: bool = False) -> Row:
        """Return the row of a line's values; with `partial`, columns that the database can fill may be missing.

        Raises ValueError with what is wrong.
        """
        if not isinstance(values, dict):
            raise ValueError("the row is no object")  # noqa: TRY004 - a wrong value of a file, as all others
        unknown = sorted(values.keys() - self.columns.keys())
        if unknown:
            raise ValueError(f"there is no column {unknown[0][:60]!r}")
        missing = [
            column.name
            for column in self.columns.values()
            if column.name not in values and not (partial and (column.nullable or column.server_default is not None))
        ]
        if missing:
            raise ValueError(f"the column {missing[0]!r} is missing")
        row = {}
        for name, value in values.items():
            try:
                row[name] = decode_value(self.columns[name], value)
                if name in self.choices and row[name] is not None and row[name] not in self.choices[name]:
                    raise ValueError("this value is not one of those that are known")
            except (ValueError, ArithmeticError, RecursionError) as error:
                raise ValueError(f"column {name!r}: {error}") from None
        return row


_LOCAL = frozenset({"created_at"})  # of a row that runs share, and of which each database has its own

RUN_TABLES: tuple[Layout, ...] = (
    Layout(tables.repositories, _LOCAL | {"next_run_number"}),
    Layout(host_tables.hosted_repositories, frozenset({"updated_at", "gone_at"})),
    Layout(tables.templates, _LOCAL),
    Layout(tables.personas, _LOCAL),
    Layout(tables.runs, frozenset({"lease_worker"}), (Column(HELD, Boolean, nullable=False),)),
    Layout(tables.run_inputs),
    Layout(tables.bindings),
    Layout(tables.phases),
    Layout(tables.events),
    Layout(tables.artifacts),
    Layout(tables.checks),
    Layout(tables.approval_requests),
    Layout(tables.decisions),
    Layout(agent_tables.agent_sessions),
    Layout(agent_tables.session_messages),
    Layout(agent_tables.prompts),
    Layout(agent_tables.ledger),
    Layout(agent_tables.tool_calls),
    Layout(host_tables.commands),
    Layout(host_tables.projections, frozenset({"claimed_by"})),
    Layout(host_tables.surfaces),
)
HOST_TABLES: tuple[Layout, ...] = (
    Layout(host_tables.deliveries, frozenset({"claimed_by"})),
    Layout(host_tables.surfaces),
)
SHARED = frozenset({"repositories", "hosted_repositories"})  # what a database knows of these, it knows better


def invalid(what: str, **details: Any) -> DevflowError:
    """Return the error for a snapshot that is not what it should be."""
    return DevflowError("snapshot_invalid", f"the snapshot cannot be used: {what}", details=details)


def line_of(content: Mapping[str, Any]) -> bytes:
    """Return a line with its end: its own keys in the order given, everything below them in canonical form."""
    parts = (f"{json.dumps(name)}:{canonical_json(value)}" for name, value in content.items())
    return ("{" + ",".join(parts) + "}\n").encode()


def parse_line(line: bytes, number: int) -> Row:
    """Return the object of a line that is exactly as `line_of` writes it; raises `snapshot_invalid`."""
    try:
        content = json.loads(line, parse_constant=_no_constant)
        canonical = isinstance(content, dict) and line_of(content) == line
    except (ValueError, RecursionError):
        raise invalid(f"line {number} is no JSON in UTF-8") from None
    if not canonical:
        raise invalid(f"line {number} is not in the one form that a line has")
    row: Row = content
    return row


def encode_value(column: Column[Any], value: Any) -> Any:
    """Return a column's value as plain JSON: money as text, times in UTC with microseconds, bytes in base64."""
    if value is None or isinstance(column.type, JSONB):
        return value
    if isinstance(column.type, LargeBinary):
        return base64.b64encode(value).decode()
    if isinstance(column.type, DateTime):
        return value.astimezone(UTC).isoformat(timespec="microseconds")
    if isinstance(column.type, Numeric):
        return format(value, "f")
    return str(value) if isinstance(column.type, Uuid) else value


def decode_value(column: Column[Any], value: Any) -> Any:
    """Return the value that `encode_value` wrote; raises ValueError for one that the column cannot hold."""
    if value is None:
        if not column.nullable:
            raise ValueError("it may not be empty")
        return None
    kind = column.type
    if isinstance(kind, JSONB):
        _check_json(value)
        return value
    if isinstance(kind, Boolean):
        return _of(value, bool)
    if isinstance(kind, Integer):
        bits = 63 if isinstance(kind, BigInteger) else 31
        if isinstance(value, bool) or not -(2**bits) <= _of(value, int) < 2**bits:
            raise ValueError("the number is out of range")
        return value
    text: str = _of(value, str)
    decoded = _decode_text(column, text)
    if encode_value(column, decoded) != text:
        raise ValueError("the value is not in the one form that it has")
    return decoded


def _decode_text(column: Column[Any], text: str) -> Any:
    kind = column.type
    if isinstance(kind, LargeBinary):
        return base64.b64decode(text, validate=True)
    if isinstance(kind, DateTime):
        if not _TIME.fullmatch(text):
            raise ValueError("this is no time in UTC")
        return datetime.fromisoformat(text)
    if isinstance(kind, Numeric):
        scale = kind.scale or 0
        if not re.fullmatch(rf"[0-9]{{1,{(kind.precision or 0) - scale}}}\.[0-9]{{{scale}}}", text):
            raise ValueError("this is no such number")
        return Decimal(text)
    if isinstance(kind, Uuid):
        return UUID(text)
    _check_json(text)
    if (column.name.endswith("_sha") or column.name == "bound_tree") and not _SHA.fullmatch(text):
        raise ValueError("this names no commit or tree")
    if column.name.endswith(("hash", "digest")) and column.name != "content_hash" and not _HASH.fullmatch(text):
        raise ValueError("this is no SHA-256")
    return text


def _check_json(value: Any) -> None:
    """Raise ValueError where a text has what Postgres cannot keep."""
    pending: list[Any] = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, str):
            if "\x00" in item:
                raise ValueError("it has a NUL character")
            item.encode()  # a lone surrogate raises UnicodeEncodeError, which is a ValueError
        elif isinstance(item, dict):
            pending += item.keys()
            pending += item.values()
        elif isinstance(item, list):
            pending += item


def _of(value: Any, kind: type) -> Any:
    if not isinstance(value, kind):
        raise ValueError(f"this is no {kind.__name__}")  # noqa: TRY004 - a wrong value of a file, as all others
    return value


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def chunks(rows: Iterator[Row], count: int) -> Iterator[Sequence[Row]]:
    """Return the rows in lists of at most `count`."""
    part: list[Row] = []
    for row in rows:
        part.append(row)
        if len(part) == count:
            yield part
            part = []
    if part:
        yield part
