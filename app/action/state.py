"""The state of one issue between two steps: its runs, and what belongs to the issue rather than to a run, as files.

It lies behind `refs/devflow/state/<issue>` in the repository itself. Nothing in it is taken on its word: here the
files are checked to belong together and to this issue, the engine checks each run, and `trust` asks GitHub about what
people have decided. A `holder` is the step that is at work on the issue; it says so again and again while it is. A step
that comes while another one holds the issue leaves its event there, for the holder to take in.
"""

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from engine.domain.errors import DevflowError
from engine.store.deliveries import NewDelivery

VERSION = "devflow/state@1"
PREFIX = "refs/devflow/state/"
_MANIFEST = "state.json"
_ISSUE_ROWS = "issue.jsonl"
_HANDED = "handed.jsonl"
_RUN_FILE = re.compile(r"run-([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\.jsonl")


class Holder(BaseModel):
    """The step that is at work on an issue: an id of its own, its job's page and try, when it was heard of."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: UUID
    url: Annotated[str, StringConstraints(max_length=500)]
    attempt: int = Field(ge=1)
    heard_at: AwareDatetime


class _Handed(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    delivery_id: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    event: Annotated[str, StringConstraints(min_length=1, max_length=100)]
    body: str


class _Manifest(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    state: Literal["devflow/state@1"]
    repository_id: int
    issue_number: int
    holder: Holder | None
    live: bool
    files: dict[str, Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]] = Field(max_length=1000)


@dataclass(frozen=True)
class IssueState:
    """Everything that is kept of an issue: a snapshot a run, the issue's own rows, who is at work on it.

    `handed` are events that other steps have left for the holder; `live` is whether something may be left to do.
    """

    repository_id: int
    issue_number: int
    runs: Mapping[UUID, bytes] = field(default_factory=dict)
    issue_rows: bytes | None = None
    holder: Holder | None = None
    handed: tuple[NewDelivery, ...] = ()
    live: bool = True

    def content(self) -> dict[str, bytes]:
        """Return the files without the manifest: what tells two states apart, whoever holds them."""
        files = {f"run-{run_id}.jsonl": data for run_id, data in self.runs.items()}
        if self.issue_rows is not None:
            files[_ISSUE_ROWS] = self.issue_rows
        if self.handed:
            files[_HANDED] = b"".join(_handed_line(delivery) for delivery in self.handed)
        return files

    def to_files(self) -> dict[str, bytes]:
        """Return all files by name."""
        files = self.content()
        manifest = _Manifest(
            state=VERSION,
            repository_id=self.repository_id,
            issue_number=self.issue_number,
            holder=self.holder,
            live=self.live,
            files={name: hashlib.sha256(data).hexdigest() for name, data in sorted(files.items())},
        )
        text = json.dumps(manifest.model_dump(mode="json"), indent=2, sort_keys=True)
        return {_MANIFEST: f"{text}\n".encode(), **files}


def state_ref(issue_number: int) -> str:
    """Return the ref that holds an issue's state."""
    return f"{PREFIX}{issue_number}"


def issue_of_ref(ref: str) -> int | None:
    """Return the issue whose state is behind a ref, None where it is none of ours."""
    number = ref.removeprefix(PREFIX)
    return int(number) if ref.startswith(PREFIX) and re.fullmatch(r"[1-9]\d{0,17}", number) else None


def read_state(files: Mapping[str, bytes], repository_id: int, issue_number: int) -> IssueState:
    """Return the state in the files; raises `state_invalid` unless it is whole and this issue's."""
    try:
        manifest = _Manifest.model_validate_json(files.get(_MANIFEST, b""))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise invalid(issue_number, f"{_MANIFEST}{': ' if place else ''}{place}: {first['msg']}") from None
    if (manifest.repository_id, manifest.issue_number) != (repository_id, issue_number):
        other = f"issue {manifest.issue_number} of repository {manifest.repository_id}"
        raise invalid(issue_number, f"it is the state of {other}, not of issue {issue_number} of {repository_id}")
    others = {name: data for name, data in files.items() if name != _MANIFEST}
    if others.keys() != manifest.files.keys():
        odd = ", ".join(sorted(others.keys() ^ manifest.files.keys()))
        raise invalid(issue_number, f"files are missing or too many: {odd[:200]}")
    runs: dict[UUID, bytes] = {}
    handed: tuple[NewDelivery, ...] = ()
    for name, data in others.items():
        if hashlib.sha256(data).hexdigest() != manifest.files[name]:
            raise invalid(issue_number, f"{name} is not what {_MANIFEST} says it is")
        if (match := _RUN_FILE.fullmatch(name)) is not None:
            runs[UUID(match[1])] = data
        elif name == _HANDED:
            handed = tuple(_handed(line, issue_number) for line in data.splitlines())
        elif name != _ISSUE_ROWS:
            raise invalid(issue_number, f"{name[:100]!r} has no place in it")
    return IssueState(
        repository_id, issue_number, runs, others.get(_ISSUE_ROWS), manifest.holder, handed, manifest.live
    )


def _handed_line(delivery: NewDelivery) -> bytes:
    body = base64.b64encode(delivery.body).decode()
    line = _Handed(delivery_id=delivery.delivery_id, event=delivery.event, body=body)
    return f"{line.model_dump_json()}\n".encode()


def _handed(line: bytes, issue_number: int) -> NewDelivery:
    try:
        given = _Handed.model_validate_json(line)
        body = base64.b64decode(given.body, validate=True)
    except (ValidationError, binascii.Error):
        raise invalid(issue_number, f"{_HANDED} has a line that is no event") from None
    return NewDelivery(given.delivery_id, given.event, {}, body)


def is_heard(holder: Holder, now: datetime, dead_after_seconds: float) -> bool:
    """Whether a holder was heard of so lately that it has to be taken for alive; one from the future is not."""
    silent = (now - holder.heard_at).total_seconds()
    return -dead_after_seconds < silent < dead_after_seconds


def invalid(issue_number: int, why: str) -> DevflowError:
    """Return the refusal of a state that cannot be used."""
    ref = state_ref(issue_number)
    return DevflowError(
        "state_invalid",
        f"the state in {ref} cannot be used: {why}",
        recovery_hint=f"delete it with `git push origin :{ref}`, then put the label on the issue again",
    )
