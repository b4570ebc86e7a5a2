"""What the rows of one run say of each other: a snapshot whose rows contradict its history is not believed.

The chain of events is computed anew, contents are held against their hashes, and what events tell against the rows that
they are about. Somebody who writes a whole consistent history gets past this; whether it is true only the repository
and its people can say.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator
from decimal import Decimal
from typing import Any, TypeVar
from uuid import UUID

from pydantic import BaseModel, ValidationError

from engine.domain.canonical import input_hash, sha256_hex
from engine.domain.events import EVENT_TYPES
from engine.domain.ids import short_id
from engine.domain.persona import Persona
from engine.domain.states import RunState
from engine.domain.workflow import Workflow
from engine.store import jobs
from engine.store.approvals import OUTSIDE_PHASE
from engine.store.events import chain_hash
from engine.store.sessions import ENDED
from engine.store.snapshot_format import HELD, Row, invalid
from engine.store.tables import GENESIS_HASH

Rows = Callable[[str], Iterator[Row]]
_Model = TypeVar("_Model", bound=BaseModel)

# What git takes as the name of a branch, and nothing that it could take for anything else.
_NO_BRANCH = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|^[-/.]|[/.]$|\.lock$")
_NO_LOCATION = re.compile(r"[\x00-\x1f\x7f]|::|^-")
_MOST_RUNS = 2**31 - 1  # the database keeps the number that comes next
_OF_A_PHASE = ("artifacts", "checks", "approval_requests", "agent_sessions", "ledger")
_RESOLVED = {"approve": "approved", "reject": "rejected", "revise": "revised", "abort": "aborted"}
_BY_DECISION = {"approved": "approve", "rejected": "reject", "revised": "revise"}


def check_run(rows: Rows, run_id: UUID, *, conversations: bool) -> None:
    """Raise `snapshot_invalid` unless the rows are one whole run and agree with each other."""
    run = _one(rows, "runs")
    _check_owners(rows, run_id)
    _check_place(run, _one(rows, "repositories"))
    workflow = _check_catalog(rows, run)
    _check_phases(rows, workflow)
    _check_events(rows, run)
    _check_history(rows, run)
    _check_money(rows, run)
    if not conversations:
        _check_silence(rows, run)


def _one(rows: Rows, table: str) -> Row:
    found = list(rows(table))
    if len(found) != 1:
        raise invalid(f"it has {len(found)} rows of table {table}, and one is needed")
    return found[0]


def _check_owners(rows: Rows, run_id: UUID) -> None:
    for table in (
        *("runs", "run_inputs", "bindings", "phases", "events", "artifacts", "checks", "approval_requests"),
        *("agent_sessions", "prompts", "ledger", "tool_calls", "commands", "projections", "surfaces"),
    ):
        if any(row["run_id"] != run_id for row in rows(table)):
            raise invalid(f"table {table}: there is a row of another run")
    for child, parent, name in (
        ("decisions", "approval_requests", "request_id"),
        ("session_messages", "agent_sessions", "session_id"),
    ):
        known = {row[name] for row in rows(parent)}
        if any(row[name] not in known for row in rows(child)):
            raise invalid(f"table {child}: there is a row of another run")


def _check_place(run: Row, repository: Row) -> None:
    """Hold what git is given to the form that the engine itself gives it."""
    end = f"-{short_id(run['run_id'])}"
    if not re.fullmatch(r"devflow/[0-9]{1,19}-[a-z0-9-]{1,80}", run["branch"]) or not run["branch"].endswith(end):
        raise invalid("the run's branch is none that a run has")
    if _NO_BRANCH.search(run["base_branch"]) or not run["base_branch"]:
        raise invalid("the base branch has no name of a branch")
    location: str = repository["location"]
    if _NO_LOCATION.search(location) or (run["repository_id"] < 0 and not location.startswith("/")):
        raise invalid("the repository is at no place where one can be")
    if not 0 < run["number"] < _MOST_RUNS or run["retry_of"] == run["run_id"]:
        raise invalid("the run has a place among others that none can have")
    if run["queue"] not in (jobs.ADVANCE_RUN, jobs.private_queue(run["run_id"])):
        raise invalid("the run's queue is none that a run has")
    if run[HELD] and run["state"] != RunState.EXECUTING:
        raise invalid("a worker is said to hold a run that is not being worked on")
    if (run["state"] == RunState.PAUSED) != (run["paused_from_state"] is not None):
        raise invalid("the run's state contradicts itself")
    if run["paused_from_state"] not in (None, *(str(state) for state in RunState if not state.terminal)):
        raise invalid("the run was paused in a state that is none")


def _check_catalog(rows: Rows, run: Row) -> Workflow:
    workflow = _content(_one(rows, "templates"), Workflow, "template")
    template = _one(rows, "templates")
    if template["hash"] != run["template_hash"] or run["workflow"] != f"{workflow.name}@{workflow.version}":
        raise invalid("the template is not the run's")
    personas = {row["hash"]: _content(row, Persona, "persona") for row in rows("personas")}
    bound = list(rows("bindings"))
    if {row["persona_hash"] for row in bound} != set(personas):
        raise invalid("the personas are not those of the run")
    if {row["role"] for row in bound} != {role.id for role in workflow.roles}:
        raise invalid("the roles are not those of the run's template")
    inputs = _one(rows, "run_inputs")
    content = (inputs["requirements_md"], inputs["objective"], inputs["metadata"], inputs["extra"])
    if not isinstance(inputs["metadata"], dict) or inputs["input_hash"] != input_hash(*content):
        raise invalid("the run's input is not what its hash says")
    return workflow


def _content(row: Row, model: type[_Model], what: str) -> _Model:
    if sha256_hex(row["body"].encode()) != row["hash"]:
        raise invalid(f"the {what} {row['hash'][:12]} is not what its hash says")
    try:
        content = model.model_validate_json(row["body"])
    except ValidationError:
        raise invalid(f"the {what} {row['hash'][:12]} is none that this version knows") from None
    if (row["name"], row["version"]) != (getattr(content, "name", None), getattr(content, "version", None)):
        raise invalid(f"the {what} {row['hash'][:12]} is under another name")
    return content


def _check_phases(rows: Rows, workflow: Workflow) -> None:
    keys = [phase.key for phase in workflow.phases]
    found = sorted(rows("phases"), key=lambda row: int(row["position"]))
    if [row["phase_key"] for row in found] != keys or [row["position"] for row in found] != list(range(len(keys))):
        raise invalid("the phases are not those of the run's template")
    for table in _OF_A_PHASE:
        known: Collection[str] = {*keys, OUTSIDE_PHASE} if table == "approval_requests" else set(keys)
        if any(row["phase_key"] not in known for row in rows(table)):
            raise invalid(f"table {table}: there is a row of a phase that the run does not have")
    valid = set()
    for row in rows("artifacts"):
        if sha256_hex(row["body"]) != row["digest"]:
            raise invalid(f"the artifact of phase {row['phase_key']} is not what its digest says")
        if row["valid"]:
            valid.add((row["phase_key"], row["round"], row["digest"]))
    for row in found:
        if row["artifact_digest"] is not None and (row["phase_key"], row["round"], row["artifact_digest"]) not in valid:
            raise invalid(f"the artifact of phase {row['phase_key']} is missing")


def _check_events(rows: Rows, run: Row) -> None:
    previous, count = GENESIS_HASH, 0
    for row in rows("events"):
        count += 1
        if row["seq"] != count or row["prev_hash"] != previous or row["hash"] != _chain_hash(row):
            raise invalid(f"the chain of events breaks at number {count}", broken_at=count)
        previous = row["hash"]
        kind = EVENT_TYPES.get(row["type"])
        try:
            event = None if kind is None else kind.model_validate(row["payload"])
        except ValidationError:
            event = None
        if event is None or (event.key, event.payload) != (row["key"], row["payload"]):
            raise invalid(f"event {count} is none that this version knows")
        if (row["phase_key"], row["attempt"]) != (row["payload"].get("phase_key"), row["payload"].get("attempt")):
            raise invalid(f"event {count} contradicts itself")
    if (count, previous) != (run["event_seq"], run["event_hash"]):
        raise invalid("the chain of events does not end where the run says", broken_at=count + 1)


def _chain_hash(row: Row) -> str:
    try:
        return chain_hash(row)
    except (ValueError, OverflowError, RecursionError):
        return ""


def _check_history(rows: Rows, run: Row) -> None:
    """Hold what the events tell against the rows that they are about."""
    requests = {str(row["request_id"]): row for row in rows("approval_requests")}
    artifacts = {(row["phase_key"], row["round"], row["attempt"]): row["digest"] for row in rows("artifacts")}
    asked, resolved, ended, overtaken = set(), {}, set(), set()
    validated: dict[tuple[str, int, int], str] = {}
    edited: set[tuple[str, str]] = set()
    for row in rows("events"):
        told: dict[str, Any] = row["payload"]
        match row["type"]:
            case "run.created":
                _check_created(told, rows, run, row["seq"])
            case "run.completed" | "run.failed" | "run.aborted":
                ended.add(row["type"].removeprefix("run."))
            case "artifact.validated":
                validated[told["phase_key"], told["round"], told["attempt"]] = told["digest"]
            case "approval.requested":
                _check_asked(told, requests.get(told["request_id"]))
                asked.add(told["request_id"])
                if told["phase_key"] in overtaken:
                    edited.add((told["phase_key"], told["digest"]))
            case "approval.resolved":
                resolved[told["request_id"]] = _RESOLVED.get(told["action"], told["action"])
                if told["action"] == "superseded":
                    overtaken.add(told["phase_key"])
            case _:
                pass
    if next((row["type"] for row in rows("events")), None) != "run.created":
        raise invalid("the run's history does not begin with the run")
    if asked != set(requests):
        raise invalid("there is a request that no event tells of")
    if resolved != {key: row["state"] for key, row in requests.items() if row["state"] != "pending"}:
        raise invalid("the requests are not in the states that the events tell of")
    _check_decisions(rows, requests)
    if ended != ({run["state"]} if RunState(run["state"]).terminal else set()):
        raise invalid("the run is not in the state that its events tell of")
    for place, digest in validated.items():
        # what a person edited on the branch took the artifact's place: the request was overtaken, and posted anew
        if artifacts.get(place) != digest and (place[0], artifacts.get(place)) not in edited:
            raise invalid(f"the artifact of phase {place[0]} is not the one that was validated")


def _check_decisions(rows: Rows, requests: dict[str, Row]) -> None:
    people: dict[tuple[str, str], set[Any]] = defaultdict(set)
    for row in rows("decisions"):
        people[str(row["request_id"]), row["action"]].add(row["by"] if row["by_id"] is None else row["by_id"])
    for key, request in requests.items():
        action = _BY_DECISION.get(request["state"])
        needed = request["required_approvals"] if action == "approve" else 1
        if action is not None and len(people[key, action]) < needed:
            raise invalid(f"a request is {request['state']} and has not the decisions for that")


def _check_created(told: dict[str, Any], rows: Rows, run: Row, number: int) -> None:
    expected = {
        "workflow": run["workflow"],
        "template_hash": run["template_hash"],
        "input_hash": _one(rows, "run_inputs")["input_hash"],
        "base_sha": run["base_sha"],
    }
    if number != 1 or any(told[name] != value for name, value in expected.items()):
        raise invalid("the run is not the one that its first event tells of")


def _check_asked(told: dict[str, Any], request: Row | None) -> None:
    names = {
        "phase_key": "phase_key",
        "gate_key": "gate_key",
        "round": "round",
        "required_approvals": "required_approvals",
        "digest": "bound_digest",
        "commit": "commit_sha",
    }
    if request is None or any(told[name] != request[column] for name, column in names.items()):
        raise invalid("a request is not the one that its event tells of")


def _check_money(rows: Rows, run: Row) -> None:
    """Hold the run's sums against the ledger: a cap counts what was spent."""
    reserved, spent, count = Decimal(0), Decimal(0), Counter[str]()
    for row in rows("ledger"):
        count[row["status"]] += 1
        if row["status"] == "reserved":
            reserved += row["reserved_usd"] or 0
            if row["epoch"] > run["epoch"]:
                raise invalid("a call was made under a lease that the run has not had yet")
        elif row["status"] != "failed":
            spent += row["cost_usd"] or 0
            count["unpriced"] += row["cost_usd"] is None
    found = (reserved, spent, count["settled"] + count["unknown"], count["unpriced"])
    if found != (run["reserved_usd"], run["spent_usd"], run["llm_call_count"], run["unpriced_calls"]):
        raise invalid("what the run has spent is not what its calls say")


def _check_silence(rows: Rows, run: Row) -> None:
    spoken = next(rows("session_messages"), None) is not None or run["last_ai_message"] is not None
    spoken |= any(row["arguments"] or row["result_excerpt"] is not None for row in rows("tool_calls"))
    spoken |= any(row["state"] not in ENDED for row in rows("agent_sessions"))
    if spoken:
        raise invalid("it says that it has no conversations, and has some")
