"""Is what was frozen with a run what its base commit says, and did every phase pass its gates?

For hosts that read a run from where others can write. A snapshot's rows agree with each other, or it is not read at
all; here they are held against the repository: the definitions of the base commit, the branch, the files on it.
"""

import json
from collections.abc import Sequence
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import RowMapping

from engine.consents import Consents
from engine.domain.artifact import digest
from engine.domain.binding import bind
from engine.domain.errors import DevflowError
from engine.domain.persona import Backend
from engine.domain.pricing import parse_usd
from engine.domain.states import Action, PhaseState, RequestState, RunState
from engine.domain.workflow import Workflow
from engine.hosted import frozen_rules
from engine.prepare import Definitions, frozen_cassette, read_definitions
from engine.runner.plan import Plan, load_plan
from engine.services import Services
from engine.store import approvals, phases, runs
from engine.workspace.mirror import Mirror
from engine.workspace.publish import branch_name

Cassette = tuple[str, bytes] | None
_DAMAGED = ("run_metadata_missing", "template_load_failed")


async def check_frozen(services: Services, run_id: UUID, default_branch: str, cassette: Cassette) -> None:
    """Raise `state_untrusted` with the first thing about a run that the repository does not bear out.

    `cassette` is the recorded agent that new runs are started with here. Other errors mean that it could not be
    checked: `github_unavailable`, `repository_not_found`, `permission_missing`.
    """
    async with services.database.read() as tx:
        run = await runs.get_run(tx, run_id)
    try:
        plan = await load_plan(services.database, run_id)
    except DevflowError as error:
        if error.code not in _DAMAGED:
            raise
        raise untrusted(run, error.message) from error
    async with services.database.read() as tx:
        bound = await runs.get_bindings(tx, run_id)
        location = await runs.get_location(tx, plan.repository_id)
        rows = await phases.list_phases(tx, run_id)
        line = await _line(services, run)
    remote = await services.remotes.remote(plan.repository_id, location)
    mirror = await Mirror.open(services.settings.mirrors, plan.repository_id, remote)
    head = await mirror.fetch(default_branch)
    if not await mirror.has(plan.base_sha) or not await mirror.git.is_ancestor(plan.base_sha, head):
        raise untrusted(run, f"its base commit {plan.base_sha[:12]} is not on the branch {default_branch}")
    check = _Check(services, plan, run)
    check.branch()
    found = await check.definitions(mirror)
    check.options(found)
    await check.bindings(found, bound, cassette)
    check.budget(found, line)
    check.gates(rows, line)
    await check.commits(mirror, rows)


def untrusted(run: RowMapping, why: str) -> DevflowError:
    """Return the refusal to go on with a run."""
    return DevflowError("state_untrusted", f"run {run['number']} cannot be trusted: {why}")


_Line = list[tuple[RowMapping, list[RowMapping]]]


async def _line(services: Services, run: RowMapping) -> _Line:
    """Return every request, with its decisions, of a run and of those that it goes on from."""
    found: _Line = []
    seen: set[UUID] = set()
    async with services.database.read() as tx:
        while run["run_id"] not in seen:
            seen.add(run["run_id"])
            for request in await approvals.list_requests(tx, run["run_id"]):
                found.append((request, await approvals.list_decisions(tx, request["request_id"])))
            if run["retry_of"] is None:
                break
            run = await runs.get_run(tx, run["retry_of"])
    return found


class _Check:
    """One run's frozen part, held against what it should be."""

    def __init__(self, services: Services, plan: Plan, run: RowMapping) -> None:
        self.services = services
        self.plan = plan
        self.run = run

    def branch(self) -> None:
        """Raise where the branch is none that the run was given."""
        if self.plan.branch != branch_name(self.plan.issue_number, self.plan.title, self.plan.run_id):
            raise untrusted(self.run, "its branch is not the one that it was given")

    async def definitions(self, mirror: Mirror) -> Definitions:
        """Return what the base commit says; raises where it has no such workflow, or another one."""
        name = str(self.run["workflow"]).rpartition("@")[0]
        path = self.services.settings.config_path
        try:
            found = await read_definitions(mirror, self.plan.base_sha, name, [], path)
        except DevflowError as error:
            raise untrusted(self.run, f"its base commit has no valid workflow {name}: {error.message}") from error
        if found.template_hash != self.plan.template_hash:
            raise self._differs("workflow")
        return found

    def options(self, found: Definitions) -> None:
        """Raise where checks, schemas, setup, prices or the rules on who may decide are others."""
        expected: dict[str, Any] = json.loads(json.dumps(found.options | frozen_rules(found.config)))
        frozen = self.plan.options
        for name in sorted(expected.keys() | frozen.keys() - {"sandbox"}):
            if name not in frozen or name not in expected or frozen[name] != expected[name]:
                raise self._differs(name)
        if frozen.get("sandbox") == "none" and self.services.settings.sandbox != "none":
            raise untrusted(self.run, "it was to run without a sandbox, which is not the choice here")

    async def bindings(self, found: Definitions, rows: Sequence[RowMapping], cassette: Cassette) -> None:
        """Raise where the personas are not the base commit's, or may not fill their roles, or are recorded ones."""
        inputs = self.plan.inputs
        recorded = inputs["metadata"].get("cassette")
        if recorded is not None and recorded != frozen_cassette(cassette):
            raise untrusted(self.run, "its agent is a recording that is not the one given here")
        names = {row["role"]: row["persona_name"] for row in rows}
        for role, name in ({} if recorded else found.config.personas).items():
            if names.get(role, name) != name:
                raise self._differs(f"persona of the role {role}")
        try:
            expected = bind(
                found.workflow,
                found.personas,
                available={Backend.OPENAI: recorded is None, Backend.REPLAY: recorded is not None},
                overrides=names,
                model=inputs["model_override"],
                consents=await Consents(self.services.database).granted(self.plan.repository_id),
            )
        except DevflowError as error:
            raise untrusted(self.run, f"its personas are not those of its base commit: {error.message}") from error
        stored = {row["role"]: row["binding_hash"] for row in rows}
        fields = {row["role"]: {name: row[name] for name in vars(expected[0])} for row in rows} if expected else {}
        for binding in expected:
            if stored.get(binding.role) != binding.binding_hash or fields[binding.role] != vars(binding):
                raise self._differs(f"persona of the role {binding.role}")

    def budget(self, found: Definitions, line: _Line) -> None:
        """Raise where the cap is higher than what the files or the settings set, and people raised it by."""
        cap = found.budget_usd or self.services.settings.budget_usd
        if cap is None:
            return
        for request, decisions in line:
            if request["gate_key"] == "budget_exceeded":
                cap += sum((_amount(row["note"]) for row in decisions if row["action"] == Action.APPROVE), Decimal(0))
        if self.run["budget_usd"] is None or self.run["budget_usd"] > cap:
            raise untrusted(self.run, "its cap on the cost is higher than anybody has set it")

    def gates(self, rows: Sequence[RowMapping], line: _Line) -> None:
        """Raise where a phase counts as done that has not passed its gates, with what it is now."""
        state = RunState(self.run["state"])
        for row in rows:
            key = row["phase_key"]
            if row["state"] == PhaseState.SKIPPED and (not state.terminal or state is RunState.COMPLETED):
                raise untrusted(self.run, f"phase {key} is said to be left out")
            if state is RunState.COMPLETED and row["state"] != PhaseState.COMPLETED:
                raise untrusted(self.run, f"it is said to be completed, and phase {key} is not")
            if row["state"] == PhaseState.COMPLETED:
                if row["commit_sha"] is None or row["artifact_digest"] is None:
                    raise untrusted(self.run, f"phase {key} is said to be done, and nothing came of it")
                for gate in self.plan.workflow.gates_of(self.plan.workflow.phase(key)):
                    least = max(gate.required_approvals, int(self.plan.options["required_approvals"]))
                    if not any(_passed(self.plan.workflow, row, gate.key, least, *asked) for asked in line):
                        raise untrusted(self.run, f"phase {key} has not passed its gate {gate.key}")
        for request, decisions in line:
            if request["state"] == RequestState.APPROVED and _approvals(decisions) < request["required_approvals"]:
                raise untrusted(self.run, f"gate {request['gate_key']} is said to be approved without enough approvals")

    async def commits(self, mirror: Mirror, rows: Sequence[RowMapping]) -> None:
        """Raise where a phase's commit is not on the run's branch, or holds another artifact than the run has.

        Where the branch is not there (yet, or any more), there is nothing to hold it against.
        """
        head = None
        if not RunState(self.run["state"]).terminal:  # what people make of the branch afterwards is theirs
            head = await mirror.head_of_remote(self.plan.branch)
        if head is None:
            return
        await mirror.fetch(self.plan.branch, head)
        await self._trigger(mirror, head)
        for row in rows:
            commit = row["commit_sha"]
            if commit is None:
                continue
            if not await mirror.has(commit) or not await mirror.git.is_ancestor(commit, head):
                raise untrusted(
                    self.run,
                    f"the commit {commit[:12]} of phase {row['phase_key']} is not on the branch {self.plan.branch}",
                )
            await self._artifact(mirror, row)

    async def _trigger(self, mirror: Mirror, head: str) -> None:
        """Raise where the branch shows that the run was started with other words than it has now."""
        path = f".devflow/runs/{self.plan.run_id}/trigger.json"
        data = (await mirror.read_files(head, [path])).get(path)
        try:
            shown = None if data is None else json.loads(data)
        except ValueError:
            shown = None  # whoever wrote over it has made it tell nothing
        if isinstance(shown, dict) and shown.get("input_hash") != self.plan.inputs["input_hash"]:
            raise untrusted(self.run, "what it was started with is not what its branch shows")

    async def _artifact(self, mirror: Mirror, row: RowMapping) -> None:
        if row["artifact_digest"] is None:
            return
        async with self.services.database.read() as tx:
            stored = await phases.current_artifact(tx, self.plan.run_id, row)
        if stored is None or digest(stored["body"]) != row["artifact_digest"]:
            raise untrusted(self.run, f"the artifact of phase {row['phase_key']} is not the one that was accepted")
        origin = json.loads(stored["body"]).get("run_id", str(self.plan.run_id))
        path = f".devflow/runs/{origin}/{row['phase_key']}.json"
        there = (await mirror.read_files(row["commit_sha"], [path])).get(path)
        # at a gate people may take it away again, and approve that; else it is where the phase has left it
        left = row["state"] == PhaseState.COMPLETED and not self.plan.workflow.gates_of(
            self.plan.workflow.phase(row["phase_key"])
        )
        if (there is None and left) or (there is not None and digest(there) != row["artifact_digest"]):
            raise untrusted(self.run, f"the artifact of phase {row['phase_key']} is not the one on its branch")

    def _differs(self, what: str) -> DevflowError:
        base = self.plan.base_sha[:12]
        return untrusted(self.run, f"its {what} is not what its base commit {base} says with this version of Devflow")


def _passed(
    workflow: Workflow, phase: RowMapping, gate_key: str, least: int, request: RowMapping, decisions: list[RowMapping]
) -> bool:
    key = phase["phase_key"]
    if request["state"] != RequestState.APPROVED or (request["phase_key"], request["gate_key"]) != (key, gate_key):
        return False
    if request["bound_digest"] is None or workflow.is_code_phase(workflow.phase(key)):
        same = phase["tree_sha"] is not None and request["bound_tree"] == phase["tree_sha"]
    else:
        same = request["bound_digest"] == phase["artifact_digest"]
    return same and _approvals(decisions) >= least


def _approvals(decisions: Sequence[RowMapping]) -> int:
    """Count the different people who approved; whoever has no id at the host is nobody."""
    return len({row["by_id"] for row in decisions if row["action"] == Action.APPROVE and row["by_id"] is not None})


def _amount(note: str | None) -> Decimal:
    try:
        return parse_usd((note or "").strip())
    except ValueError:
        return Decimal(0)
