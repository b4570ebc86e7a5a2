"""Reading a snapshot, which is taken from anybody and so believed in nothing: its frame, its lines and its rows.

`read_snapshot` looks at every byte before a row of it is written anywhere. What rows say of each other is looked at in
`snapshot_checks`; whether they are true is for whoever knows the repository and its people.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from engine.domain.errors import DevflowError
from engine.store.migrate import REVISIONS
from engine.store.snapshot_checks import check_run
from engine.store.snapshot_format import (
    HOST_FORMAT,
    HOST_TABLES,
    MAX_LINE,
    RUN_FORMAT,
    RUN_TABLES,
    Layout,
    Row,
    invalid,
    parse_line,
)

FIRST_REVISION = "0003"  # no earlier version wrote snapshots

Span = tuple[int, int]


@dataclass(frozen=True)
class Frame:
    """A snapshot whose header, end and digest are right; its rows have not been looked at.

    Rows are read from the bytes each time that they are asked for, so that a long one is not in memory twice.
    """

    data: bytes = field(repr=False)
    header: Row
    layouts: tuple[Layout, ...] = field(repr=False)
    spans: dict[str, list[Span]] = field(repr=False)

    @property
    def revision(self) -> str:
        """The schema of the database that it was written from."""
        return str(self.header["revision"])

    def rows(self, table: str) -> Iterator[Row]:
        """Yield the rows of a table, as its columns hold them; raises `snapshot_invalid` at one that they cannot."""
        layout = next(layout for layout in self.layouts if layout.name == table)
        partial = self.revision != REVISIONS[-1]
        for start, end in self.spans.get(table, []):
            try:
                yield layout.decode(json.loads(self.data[start:end])["row"], partial=partial)
            except ValueError as error:
                raise invalid(f"table {table}: {error}") from None

    def check_rows(self) -> None:
        """Raise `snapshot_invalid` unless every row fits its table, in the order of keys, and none comes twice."""
        for layout in self.layouts:
            last: Any = None
            seen: dict[tuple[str, ...], set[Any]] = {columns: set() for columns in layout.unique}
            columns: set[str] | None = None
            for row in self.rows(layout.name):
                key = tuple(_sortable(row[name]) for name in layout.key)
                if last is not None and key <= last:
                    raise invalid(f"table {layout.name}: the rows are not in the order of their keys")
                if columns is not None and row.keys() != columns:
                    raise invalid(f"table {layout.name}: the rows have different columns")
                last, columns = key, set(row)
                for names, values in seen.items():
                    value = tuple(row[name] for name in names)
                    if value in values:
                        raise invalid(f"table {layout.name}: two rows have the same {names[-1]}")
                    values.add(value)
                if row["repository_id"] not in self._repositories(layout):
                    raise invalid(f"table {layout.name}: there is a row of another repository")

    def _repositories(self, layout: Layout) -> tuple[int, ...]:
        # a delivery that nobody has read yet belongs to repository 0
        mine: int = self.header["repository_id"]
        return (mine, 0) if layout.name == "deliveries" else (mine,)


@dataclass(frozen=True)
class Snapshot(Frame):
    """One run with all its rows, whole and consistent; made by `read_snapshot`."""

    @property
    def repository_id(self) -> int:
        """The repository of the run."""
        return int(self.header["repository_id"])

    @property
    def run_id(self) -> UUID:
        """The run."""
        return UUID(self.header["run_id"])

    @property
    def conversations(self) -> bool:
        """Whether what models and tools said is in it."""
        return bool(self.header["conversations"])

    @property
    def run(self) -> Row:
        """The run's row; `held` says whether a worker was at work on it."""
        return next(self.rows("runs"))


@dataclass(frozen=True)
class HostRows(Frame):
    """What a host keeps of an issue and no run owns: events and replies; made by `read_host_rows`."""

    @property
    def repository_id(self) -> int:
        """The repository of the issue."""
        return int(self.header["repository_id"])


def read_snapshot(data: bytes) -> Snapshot:
    """Return the run that a snapshot holds, after every check that needs nothing but the snapshot.

    Raises `snapshot_invalid`: cut off or changed, of a version or schema that is not known here, rows that are not this
    run's, an event chain that breaks, content that is not what its hash says, rows that contradict each other.
    """
    frame = read_frame(data, RUN_FORMAT, RUN_TABLES, ("repository_id", "run_id", "conversations"))
    header = frame.header
    try:
        run_id = UUID(header["run_id"])
    except (ValueError, AttributeError, TypeError):
        raise invalid("the header names no run") from None
    if str(run_id) != header["run_id"] or not isinstance(header["conversations"], bool):
        raise invalid("the header is not in the one form that it has")
    snapshot = Snapshot(frame.data, header, frame.layouts, frame.spans)
    snapshot.check_rows()
    check_run(snapshot.rows, run_id, conversations=snapshot.conversations)
    return snapshot


def read_host_rows(data: bytes, repository_id: int) -> HostRows:
    """Return the rows that a host keeps beside its runs; raises `snapshot_invalid`, also for another repository's."""
    frame = read_frame(data, HOST_FORMAT, HOST_TABLES, ("repository_id",))
    if frame.header["repository_id"] != repository_id:
        raise invalid("it is of another repository")
    rows = HostRows(frame.data, frame.header, frame.layouts, frame.spans)
    rows.check_rows()
    if any(row["run_id"] is not None for row in rows.rows("surfaces")):
        raise invalid("table surfaces: there is a row of a run")
    return rows


def read_frame(data: bytes, kind: str, layouts: tuple[Layout, ...], names: Sequence[str]) -> Frame:
    """Return a snapshot whose header, end and digest are right; raises `snapshot_invalid`.

    `names` are the header's keys besides format and revision.
    """
    lines = _lines(data)
    if len(lines) < 2:
        raise invalid("it is empty, or cut off")
    header = parse_line(data[slice(*lines[0])], 1)
    if "snapshot" not in header:
        raise invalid("this is no snapshot")
    if header["snapshot"] != kind:
        raise invalid(f"it is {str(header['snapshot'])[:60]!r}, and this version reads {kind!r} here")
    if list(header) != ["snapshot", "revision", *names]:
        raise invalid("the header is not in the one form that it has")
    _check_revision(header["revision"])
    number = header["repository_id"]
    if isinstance(number, bool) or not isinstance(number, int) or not -(2**63) <= number < 2**63:
        raise invalid("the header names no repository")
    _check_end(data, lines)
    return Frame(data, header, layouts, _by_table(data, lines[1:-1], layouts))


def _lines(data: bytes) -> list[Span]:
    lines: list[Span] = []
    start = 0
    while start < len(data):
        end = data.find(b"\n", start) + 1
        if end == 0:
            raise invalid("it is cut off in the middle of a line")
        if end - start > MAX_LINE:
            raise invalid(f"line {len(lines) + 1} is longer than {MAX_LINE} bytes")
        lines.append((start, end))
        start = end
    return lines


def _check_revision(revision: Any) -> None:
    if revision in REVISIONS[REVISIONS.index(FIRST_REVISION) :]:
        return
    if revision in REVISIONS:
        raise invalid(f"its schema {revision} is older than the first one that has snapshots, {FIRST_REVISION}")
    raise DevflowError(
        "snapshot_invalid",
        f"the snapshot was written with schema {str(revision)[:40]!r}; this version knows {REVISIONS[-1]} at most",
        recovery_hint="use the version of Devflow that wrote it, or a later one",
    )


def _check_end(data: bytes, lines: Sequence[Span]) -> None:
    start = lines[-1][0]
    end = parse_line(data[start:], len(lines))
    if list(end) != ["end"]:
        raise invalid("it is cut off: its last line is missing")
    said = end["end"]
    if not isinstance(said, dict) or said.keys() != {"rows", "digest"}:
        raise invalid("its last line is not in the one form that it has")
    if said["digest"] != hashlib.sha256(memoryview(data)[:start]).hexdigest():
        raise invalid("it was changed: its content has another digest than its last line says")
    if said["rows"] != len(lines) - 2 or isinstance(said["rows"], bool):
        raise invalid("it has another number of rows than its last line says")


def _by_table(data: bytes, lines: Sequence[Span], layouts: Sequence[Layout]) -> dict[str, list[Span]]:
    names = [layout.name for layout in layouts]
    spans: dict[str, list[Span]] = {}
    reached = 0
    for number, (start, end) in enumerate(lines, start=2):
        content = parse_line(data[start:end], number)
        if list(content) != ["table", "row"]:
            raise invalid(f"line {number} is no row of a table")
        if content["table"] not in names:
            raise invalid(f"line {number} is of a table {str(content['table'])[:60]!r} that is not known")
        place = names.index(content["table"])
        if place < reached:
            raise invalid(f"line {number} is not in the order of the tables")
        reached = place
        spans.setdefault(content["table"], []).append((start, end))
    return spans


def _sortable(value: Any) -> Any:
    return value.int if isinstance(value, UUID) else value
