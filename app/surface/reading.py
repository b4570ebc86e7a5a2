"""Reading a run's view from the store: first step of the projector, one read transaction, nothing of GitHub."""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import RowMapping

from app.surface.view import (
    OUTSIDE_PHASE,
    ChangeView,
    DecisionView,
    ErrorView,
    GateView,
    Money,
    PhaseView,
    RunView,
    StopView,
)
from engine.domain.artifact import STAMPED
from engine.domain.artifact_markdown import render_markdown
from engine.domain.errors import DevflowError
from engine.domain.events import RunAborted, RunPaused, RunResumed
from engine.domain.states import Action, PhaseState, RequestState, RunState
from engine.domain.workflow import Workflow
from engine.hosted import frozen_approvers
from engine.lifecycle import GATES_OUTSIDE_A_PHASE
from engine.runner.plan import load_workflow, stored_schema
from engine.runner.report import build_report, report_markdown
from engine.store import approvals, events, ledger, phases, runs
from engine.store.database import Database, Transaction

Json = dict[str, Any]
# A pause that somebody asked for is no news, and the two with a gate are told by its comment.
_TOLD_OTHERWISE = ("paused_by_person", *GATES_OUTSIDE_A_PHASE)


async def read_view(database: Database, run_id: UUID) -> RunView:
    """Return the run as its surfaces need it; raises `run_not_found` or `run_metadata_missing`."""
    async with database.read() as tx:
        run = await runs.get_run(tx, run_id)
        reader = _Reader(tx, run, await _workflow(tx, run), await phases.list_artifacts(tx, run_id))
        return await reader.view()


async def _workflow(tx: Transaction, run: RowMapping) -> Workflow | None:
    try:
        return await load_workflow(tx, run)
    except DevflowError as error:
        if error.code != "template_load_failed":
            raise
        return None  # the run itself fails of that, and people must see that it did


class _Reader:
    def __init__(
        self, tx: Transaction, run: RowMapping, workflow: Workflow | None, artifacts: Sequence[RowMapping]
    ) -> None:
        self.tx = tx
        self.run = run
        self.run_id: UUID = run["run_id"]
        self.workflow = workflow
        self.artifacts = artifacts

    async def view(self) -> RunView:
        run, tx = self.run, self.tx
        metadata = (await runs.get_inputs(tx, self.run_id))["metadata"]
        state = RunState(run["state"])
        requests = await approvals.list_requests(tx, self.run_id)
        history = await events.of_types(tx, self.run_id, RunPaused.type, RunResumed.type, RunAborted.type)
        spent = await ledger.by_phase(tx, run["repository_id"], self.run_id)
        money = {key: _money(row) for key, row in spent.items()}
        bound = {row["role"]: row["persona_name"] for row in await runs.get_bindings(tx, self.run_id)}
        rows = await phases.list_phases(tx, self.run_id)
        ahead = await runs.waits_for(tx, run) if state is RunState.CREATED else None
        aborted: Json = next((row["payload"] for row in history if row["type"] == RunAborted.type), {})
        related = await runs.of_issue(tx, run["repository_id"], run["issue_number"])
        closed = state.terminal and run["final_report_path"] is not None
        report = await build_report(tx, self.run_id) if closed else None
        options = run["options"]
        on_list, ids = options.get("approvers", ()), frozen_approvers(options, metadata)
        return RunView(
            run_id=self.run_id,
            repository_id=run["repository_id"],
            number=run["number"],
            issue_number=run["issue_number"],
            title=run["title"],
            workflow=run["workflow"],
            state=state,
            branch=run["branch"],
            base_branch=run["base_branch"],
            base_sha=run["base_sha"],
            requested_by=str(metadata.get("requested_by") or ""),
            head_sha=run["pushed_sha"],
            started_at=run["started_at"],
            ended_at=run["ended_at"],
            waits_for=None if ahead is None else ahead["number"],
            requested_action=None if state.terminal else run["requested_action"],
            ended_by=aborted.get("by"),
            end_note=aborted.get("note"),
            approvers=tuple(login for login in on_list if login.casefold() in ids),
            unknown_approvers=tuple(login for login in on_list if login.casefold() not in ids),
            requester_may_approve=options.get("requester_may_approve", True),
            prefixed=options.get("commands") == "prefixed",
            money=_sum(money.values()),
            budget_usd=run["budget_usd"],
            total_tokens=run["total_tokens"],
            sandbox=run["sandbox"],
            error=ErrorView(run["error_code"], run["error_message"] or "") if run["error_code"] else None,
            phases=tuple(self._phase(row, requests, money, bound) for row in rows),
            gates=tuple([await self._gate(row) for row in requests]),
            stops=tuple(_stops(history, state)),
            changes=tuple(self._changes(rows)) if closed else (),
            retry_of=_number(related, run["retry_of"]),
            retry_of_id=run["retry_of"],
            continued_by=next((row["number"] for row in related if row["retry_of"] == self.run_id), None),
            discarded=run["discard_branch"],
            report=report,
            report_markdown=report_markdown(report).decode() if report else "",
        )

    def _phase(
        self, row: RowMapping, requests: Sequence[RowMapping], money: dict[str, Money], bound: dict[str, str]
    ) -> PhaseView:
        key, state = row["phase_key"], PhaseState(row["state"])
        spec = self.workflow.phase(key) if self.workflow else None
        asked = [item for item in requests if item["phase_key"] == key and _since(item, row["started_at"])]
        ended = row["ended_at"]
        if state is PhaseState.AWAITING_APPROVAL and asked:
            ended = asked[-1]["created_at"]  # its work is done; what it takes from now on is people's time
        stored = self._stored(key, row["artifact_digest"])
        return PhaseView(
            key=key,
            title=spec.title if spec else key,
            state=state,
            attempts=row["attempts"],
            round=row["round"],
            started_at=row["started_at"],
            ended_at=ended,
            waited_seconds=sum(
                (item["resolved_at"] - item["created_at"]).total_seconds() for item in asked if item["resolved_at"]
            ),
            persona=bound.get(spec.role, "") if spec else "",
            artifact=None if stored is None else self._path(stored),
            commit=row["commit_sha"],
            money=money.get(key, Money()),
            error_code=row["error_code"],
        )

    async def _gate(self, row: RowMapping) -> GateView:
        key = row["phase_key"]
        outside = key == OUTSIDE_PHASE
        spec = None if outside or self.workflow is None else self.workflow.phase(key)
        stored = None if outside else self._stored(key, row["bound_digest"])
        decided = await approvals.list_decisions(self.tx, row["request_id"])
        return GateView(
            request_id=row["request_id"],
            gate_key=row["gate_key"],
            phase_key=key,
            phase_title=spec.title if spec else row["gate_key"].replace("_", " ") if outside else key,
            round=row["round"],
            state=RequestState(row["state"]),
            required=row["required_approvals"],
            document=None if stored is None else self._rendered(stored),
            artifact=None if stored is None else self._path(stored),
            digest=row["bound_digest"],
            commit=row["commit_sha"],
            code=bool(spec and self.workflow and self.workflow.is_code_phase(spec)),
            decisions=tuple(DecisionView(item["by"], Action(item["action"]), item["note"]) for item in decided),
        )

    def _changes(self, rows: Sequence[RowMapping]) -> list[ChangeView]:
        found = []
        for row in rows:
            stored = self._stored(row["phase_key"], row["artifact_digest"])
            body = {} if stored is None else json.loads(stored["body"])
            if not isinstance(body.get("changes"), list) or row["state"] != PhaseState.COMPLETED:
                continue
            spec = self.workflow.phase(row["phase_key"]) if self.workflow else None
            files = [item for item in body["changes"] if isinstance(item, dict)]
            found.append(
                ChangeView(
                    spec.title if spec else row["phase_key"],
                    str(body.get("summary") or ""),
                    tuple((str(i.get("path", "")), str(i.get("kind", "")), str(i.get("reason", ""))) for i in files),
                )
            )
        return found

    def _stored(self, key: str, digest: str | None) -> RowMapping | None:
        fitting = [
            row for row in self.artifacts if row["phase_key"] == key and row["digest"] == digest and row["valid"]
        ]
        return fitting[-1] if fitting else None

    def _path(self, stored: RowMapping) -> str:
        # a phase that was adopted from an earlier run lies in that run's folder, and its file says which one that was
        origin = json.loads(stored["body"]).get("run_id", str(self.run_id))
        return f".devflow/runs/{origin}/{stored['phase_key']}.json"

    def _rendered(self, stored: RowMapping) -> str:
        body = {name: value for name, value in json.loads(stored["body"]).items() if name not in STAMPED}
        return render_markdown(body, stored_schema(self.run["options"], stored["schema"]))


def _since(request: RowMapping, started: datetime | None) -> bool:
    return started is not None and request["created_at"] >= started


def _money(row: RowMapping) -> Money:
    return Money(row["cost_usd"], row["calls"], row["unpriced"], row["recorded"])


def _sum(parts: Any) -> Money:
    total = Money()
    for part in parts:
        total = Money(
            total.usd + part.usd,
            total.calls + part.calls,
            total.unpriced + part.unpriced,
            total.recorded + part.recorded,
        )
    return total


def _stops(history: Sequence[RowMapping], state: RunState) -> list[StopView]:
    found = []
    for position, row in enumerate(history):
        if row["type"] != RunPaused.type or row["payload"]["code"] in _TOLD_OTHERWISE:
            continue
        later = any(item["type"] == RunResumed.type for item in history[position:])
        data = row["payload"]
        found.append(StopView(data["number"], data["code"], data["message"], later or state is not RunState.PAUSED))
    return found


def _number(related: Sequence[RowMapping], run_id: UUID | None) -> int | None:
    return next((row["number"] for row in related if row["run_id"] == run_id), None)
