"""Reading a snapshot that anybody may have written: what is whole is read, everything else is refused and named."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.domain.canonical import input_hash, sha256_hex
from engine.domain.errors import DevflowError
from engine.store import snapshot_format, snapshot_reading
from engine.store.migrate import REVISIONS
from engine.store.snapshot_format import HOST_FORMAT, line_of
from engine.store.snapshot_reading import read_host_rows, read_snapshot
from tests.support.snapshots import AT, BODY, REPOSITORY, RUN, SESSION, Rows, chain, made, packed, sealed

WHOLE = packed(made())
LINES = WHOLE.splitlines(keepends=True)
OTHER = UUID(int=7)


def _text(row: dict[str, Any]) -> str:
    return str(sorted(row.items()))


def refusal(data: bytes) -> str:
    """Return why a snapshot is refused."""
    with pytest.raises(DevflowError) as refused:
        read_snapshot(data)
    assert refused.value.code == "snapshot_invalid"
    return refused.value.message


def test_a_whole_snapshot_is_read_as_it_was_written() -> None:
    read = read_snapshot(WHOLE)

    assert (read.repository_id, read.run_id, read.conversations) == (REPOSITORY, RUN, True)
    for name, rows in made().items():
        assert sorted(read.rows(name), key=_text) == sorted(rows, key=_text)
    assert read.run["created_at"] == AT


@pytest.mark.parametrize("count", range(len(LINES)))
def test_a_snapshot_that_was_cut_off_after_any_line_is_refused(count: int) -> None:
    assert "cut off" in refusal(b"".join(LINES[:count]))


@given(st.integers(0, len(WHOLE) - 1), st.integers(1, 255))
def test_a_changed_byte_anywhere_is_refused(place: int, mask: int) -> None:
    changed = bytearray(WHOLE)
    changed[place] ^= mask

    refusal(bytes(changed))


@given(st.binary(max_size=300))
def test_bytes_that_are_no_snapshot_are_refused(data: bytes) -> None:
    refusal(data)


@pytest.mark.parametrize(
    ("header", "why"),
    [
        ({"revision": "9999"}, f"schema '9999'; this version knows {REVISIONS[-1]} at most"),
        ({"revision": "0001"}, "older than the first one"),
        ({"revision": 7}, "schema '7'"),
        ({"snapshot": "devflow/snapshot@2"}, "this version reads"),
        ({"snapshot": HOST_FORMAT}, "this version reads"),
        ({"run_id": str(OTHER)}, "row of another run"),
        ({"run_id": str(RUN).upper()}, "header"),
        ({"run_id": 5}, "header"),
        ({"repository_id": 6}, "row of another repository"),
        ({"repository_id": True}, "header"),
        ({"repository_id": 2**70}, "header"),
        ({"conversations": False}, "says that it has no conversations"),
        ({"conversations": "no"}, "header"),
        ({"more": 1}, "header"),
    ],
)
def test_a_header_that_does_not_fit_is_refused(header: dict[str, Any], why: str) -> None:
    assert why in refusal(packed(made(), **header))


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b'{"table":"workers","row":{}}\n', "table 'workers' that is not known"),
        (b'{"table":["runs"],"row":{}}\n', "that is not known"),
        (b'{"table":"surfaces","row":[]}\n', "the row is no object"),
        (b'{"table":"surfaces","row":{"shell":"sh"}}\n', "no column 'shell'"),
        (b'{"table":"surfaces","row":{}}\n', "column 'repository_id' is missing"),
        (b'{"row":{},"table":"surfaces"}\n', "no row of a table"),
        (b'{"table": "surfaces","row":{}}\n', "not in the one form"),
        (b'{"table":"surfaces","table":"surfaces","row":{}}\n', "not in the one form"),
        (b'{"table":"surfaces","row":NaN}\n', "no JSON"),
        (b'{"table":"surfaces","row":"\\ud800"}\n', "no JSON"),
        (b"\xff\n", "no JSON"),
        (b"[" * 100_000 + b"\n", "no JSON"),
        (b'{"table":"surfaces","row":' + b"9" * 5000 + b"}\n", "no JSON"),
        (b"7\n", "not in the one form"),
        (LINES[1], "not in the order of the tables"),
        (line_of({"end": {"rows": 1, "digest": ""}}), "no row of a table"),
    ],
)
def test_a_line_that_is_no_row_is_refused(line: bytes, why: str) -> None:
    assert why in refusal(sealed([*LINES[:-1], line]))


def test_a_line_that_is_too_long_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot_reading, "MAX_LINE", 2000)

    assert "is longer than 2000 bytes" in refusal(WHOLE)


def test_rows_that_come_twice_or_not_in_their_order_are_refused() -> None:
    first = next(number for number, line in enumerate(LINES) if line.startswith(b'{"table":"events"'))
    twice = [*LINES[: first + 1], *LINES[first:-1]]
    swapped = [*LINES[:first], LINES[first + 1], LINES[first], *LINES[first + 2 : -1]]

    assert "order of their keys" in refusal(sealed(twice))
    assert "order of their keys" in refusal(sealed(swapped))
    assert "another number of rows" in refusal(
        WHOLE.replace(b'"rows":%d' % (len(LINES) - 2), b'"rows":%d' % (len(LINES) - 1))
    )


Change = Callable[[Rows], Any]


def put(table: str, index: int = 0, **values: Any) -> Change:
    """Return the change of some columns of one row."""
    return lambda rows: rows[table][index].update(values)


def tell(number: int, **values: Any) -> Change:
    """Return the change of an event's payload; the chain is made anew afterwards."""
    return lambda rows: rows["events"][number]["payload"].update(values)


def drop(table: str, number: int = 0) -> Change:
    """Return the loss of a row."""
    return lambda rows: rows[table].pop(number)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (tell(0, base_sha="cd" * 20), "not the one that its first event tells of"),
        (tell(3, digest="0" * 64), "not the one that was validated"),
        (tell(5, digest="0" * 64), "a request is not the one"),
        (tell(5, commit="cd" * 20), "a request is not the one"),
        (tell(5, required_approvals=2), "a request is not the one"),
        (tell(6, action="reject"), "not in the states"),
        (tell(6, more=1), "event 7 is none"),
        (put("events", 6, type="approval.granted"), "event 7 is none"),
        (put("events", 6, key="another"), "event 7 is none"),
        (drop("events", 6), "not in the states"),
        (drop("events", 5), "no event tells of"),
        (drop("events", 0), "does not begin with the run"),
        (put("runs", state="completed", held=False), "its events tell of"),
        (put("runs", state="paused", held=False), "contradicts itself"),
        (put("runs", paused_from_state="executing"), "contradicts itself"),
        (put("runs", state="waiting"), "not one of those that are known"),
        (put("runs", state="created"), "said to hold a run"),
        (put("runs", run_id=OTHER), "another run"),
        (put("runs", branch="main"), "branch is none"),
        (put("runs", branch="devflow/1-do-it-00000000"), "branch is none"),
        (put("runs", base_branch="--upload-pack=sh"), "base branch"),
        (put("runs", base_branch="main:refs/heads/x"), "base branch"),
        (put("runs", base_branch=""), "base branch"),
        (put("runs", head_sha="--all"), "names no commit"),
        (put("runs", queue="handle_delivery"), "queue"),
        (put("runs", spent_usd=made()["ledger"][0]["reserved_usd"]), "what the run has spent"),
        (put("runs", number=2**31), "out of range"),
        (put("runs", number=True), "out of range"),
        (put("runs", title="a\x00b"), "NUL"),
        (put("runs", options={"a": ["\x00"]}), "NUL"),
        (put("runs", title=None), "may not be empty"),
        (put("repositories", location="ext::sh -c id"), "at no place"),
        (put("repositories", location="--upload-pack=id"), "at no place"),
        (put("repositories", location="https://example.org/x"), "at no place"),
        (put("ledger", epoch=3, status="reserved"), "lease that the run has not had"),
        (put("templates", body="{}"), "not what its hash says"),
        (put("templates", name="other"), "another name"),
        (put("templates", body="{}", hash=sha256_hex(b"{}")), "none that this version knows"),
        (drop("templates"), "0 rows of table templates"),
        (put("personas", version=99), "another name"),
        (drop("personas"), "personas are not"),
        (drop("bindings"), "roles are not"),
        (put("run_inputs", requirements_md="Do another thing."), "input is not what its hash says"),
        (
            put("run_inputs", requirements_md="Else.", input_hash=input_hash("Else.", "Do it", {"by": "ada"}, {})),
            "not the one that its first event tells of",
        ),
        (drop("run_inputs"), "0 rows of table run_inputs"),
        (drop("phases"), "phases are not"),
        (put("phases", position=9), "phases are not"),
        (put("phases", artifact_digest="0" * 64), "is missing"),
        (put("artifacts", body=BODY + b" "), "not what its digest says"),
        (put("artifacts", body=b"{}", digest=sha256_hex(b"{}")), "is missing"),
        (put("artifacts", phase_key="elsewhere"), "phase that the run does not have"),
        (put("artifacts", run_id=OTHER), "row of another run"),
        (put("checks", run_id=OTHER), "row of another run"),
        (put("checks", expected="maybe"), "not one of those that are known"),
        (put("approval_requests", required_approvals=0), "a request is not the one"),
        (put("approval_requests", state="pending"), "not in the states"),
        (put("approval_requests", bound_tree="HEAD"), "names no commit"),
        (drop("decisions"), "has not the decisions"),
        (put("decisions", action="reject"), "has not the decisions"),
        (put("decisions", request_id=OTHER), "row of another run"),
        (put("decisions", repository_id=8), "row of another repository"),
        (put("session_messages", session_id=OTHER), "row of another run"),
        (put("commands", run_id=OTHER), "row of another run"),
    ],
)
def test_rows_that_contradict_each_other_are_refused_though_every_digest_was_made_anew(
    change: Change, why: str
) -> None:
    rows = made()
    change(rows)
    chain(rows)

    assert why in refusal(packed(rows))


def test_a_chain_that_breaks_says_where() -> None:
    rows = made()
    rows["events"][4]["hash"] = "0" * 64

    with pytest.raises(DevflowError, match="breaks at number 5") as refused:
        read_snapshot(packed(rows))

    assert refused.value.details == {"broken_at": 5}


@pytest.mark.parametrize("values", [{"event_seq": 7}, {"event_hash": "0" * 64}])
def test_a_chain_that_ends_elsewhere_than_the_run_says_is_refused(values: dict[str, Any]) -> None:
    rows = made()
    rows["runs"][0] |= values

    assert "does not end where the run says" in refusal(packed(rows))


def test_what_a_person_edited_at_a_gate_takes_the_place_of_what_was_validated() -> None:
    rows = made()
    edited = b'{"summary": "by hand"}'
    new = sha256_hex(edited)
    rows["artifacts"][0] |= {"body": edited, "digest": new}
    rows["phases"][0]["artifact_digest"] = new
    old, events = rows["approval_requests"][0], rows["events"]
    rows["approval_requests"].append(old | {"request_id": OTHER, "key": "again", "round": 2, "bound_digest": new})
    rows["decisions"][0]["request_id"] = OTHER
    old["state"] = "superseded"
    again = {"request_id": str(OTHER), "round": 2, "digest": new}
    asked = events[5] | {"payload": events[5]["payload"] | again, "key": f"approval.requested:{OTHER}"}
    answered = events[6] | {"payload": events[6]["payload"] | {"request_id": str(OTHER)}}
    answered["key"] = f"approval.resolved:{OTHER}"
    events[6]["payload"]["action"] = "superseded"
    events[7:7] = [asked, answered]
    chain(rows)

    assert read_snapshot(packed(rows)).run_id == RUN


def test_without_conversations_ended_sessions_and_bare_tool_calls_are_left() -> None:
    rows = made()
    rows["session_messages"].clear()
    rows["runs"][0]["last_ai_message"] = None
    rows["agent_sessions"][0]["state"] = "CLOSED"
    rows["tool_calls"][0] |= {"arguments": "", "result_excerpt": None}

    assert not read_snapshot(packed(rows, conversations=False)).conversations
    rows["tool_calls"][0]["result_excerpt"] = "def"
    assert "has some" in refusal(packed(rows, conversations=False))
    rows["tool_calls"][0]["result_excerpt"] = None
    rows["agent_sessions"][0]["state"] = "READY"
    assert "has some" in refusal(packed(rows, conversations=False))


def test_columns_that_a_later_schema_added_may_be_missing_from_an_older_snapshot(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(snapshot_reading, "REVISIONS", (*REVISIONS, "0099"))
    lines = [
        line.replace(b'"trigger_key":null,', b"").replace(b'"discard_branch":true,', b"")
        if line.startswith(b'{"table":"runs"')
        else line
        for line in LINES[:-1]
    ]

    old = read_snapshot(sealed(lines))

    assert old.run.keys() == read_snapshot(WHOLE).run.keys() - {"trigger_key", "discard_branch"}
    lines = [line.replace(b'"number":1,', b"") for line in lines]
    assert "'number' is missing" in refusal(sealed(lines))


def test_rows_of_a_host_are_held_to_their_tables_as_well() -> None:
    head = line_of({"snapshot": HOST_FORMAT, "revision": REVISIONS[-1], "repository_id": 7})
    layout = snapshot_format.HOST_TABLES[1]
    surface = dict.fromkeys(layout.columns) | {
        "repository_id": 7,
        "surface_key": "reply/1",
        "kind": "comment",
        "target": {},
        "facts": {},
    }

    assert list(read_host_rows(sealed([head, layout.encode(surface)]), 7).rows("surfaces")) == [surface]
    for changed in ({"run_id": SESSION}, {"repository_id": 0}):
        with pytest.raises(DevflowError, match=r"of a run|of another repository"):
            read_host_rows(sealed([head, layout.encode(surface | changed)]), 7)
