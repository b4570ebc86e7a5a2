"""The second half of a phase: guard what the agent left, run the checks, publish, and come to the gate.

Everything here can be repeated: a crash before the last transaction leaves the phase `validating`, and the commit that
no row knows is dropped when the run is opened again.
"""

import json
from dataclasses import replace
from typing import Any

from sqlalchemy import RowMapping

from engine.domain.artifact import artifact_bytes, digest, stamp, validate_artifact
from engine.domain.artifact_markdown import render_markdown
from engine.domain.config import Check
from engine.domain.errors import DevflowError
from engine.domain.events import ArtifactCommitted, ArtifactValidated, CheckFinished
from engine.domain.states import RunState
from engine.domain.workflow import Expect, PhaseSpec
from engine.gates import send_back_or_fail
from engine.runner.checks import CheckResult, all_met, run_checks
from engine.runner.context import RunContext
from engine.runner.faults import Fault
from engine.runner.gate import pass_gates
from engine.runner.work import repair_or_fail
from engine.store import phases
from engine.store.database import FencedRun
from engine.store.events import append
from engine.store.runs import get_run, update_run
from engine.workspace import publish
from engine.workspace.mirror import Mirror

Json = dict[str, Any]


async def finish(context: RunContext, spec: PhaseSpec, phase: RowMapping) -> bool:
    """Guard, check, publish and gate the phase's work; returns whether the run goes on at once."""
    async with context.database.read() as tx:
        stored = await phases.current_artifact(tx, context.plan.run_id, phase)
    body: bytes | None = stored["body"] if stored is not None else None
    snapshot = await publish.take_snapshot(context.worktree, context.head_sha, exclude=context.unpublished)
    violations = publish.inspect(snapshot, _policy(context, spec))
    if violations:
        if not context.plan.workflow.is_code_phase(spec):
            await context.worktree.reset_to(context.head_sha, context.unpublished)
        await repair_or_fail(context, spec, phase, _forbidden(violations), body)
        return True
    known = {name: Check.model_validate(value) for name, value in context.plan.options["checks"].items()}
    results = await run_checks(spec, known, context.sandbox, context.worktree)
    await _record_checks(context, spec, phase, results)
    if results:
        # what the checks left must not pass for the agent's work when the tree is looked at again
        await context.worktree.reset_to(snapshot.tree, context.unpublished)
    if not all_met(results):
        errors = [
            {"path": item.name, "message": _describe(item)}
            for item in results
            if not item.met or item.expect is Expect.FAIL
        ]
        await repair_or_fail(context, spec, phase, Fault.of("check_failed", errors), body)
        return True
    artifact: Json | None = None
    if spec.expected_artifact is not None and body is not None:
        artifact = _with_evidence(context, spec, json.loads(body), results, known)
        schema = context.plan.schema(spec.expected_artifact.schema_id)
        invalid = validate_artifact(artifact, schema)
        if invalid:
            fault = Fault.of("artifact_invalid", [error.to_json() for error in invalid])
            await repair_or_fail(context, spec, phase, fault, body)
            return True
    files = _files(context, spec, artifact)
    secrets = await publish.inspect_files(files)
    if secrets:
        await repair_or_fail(context, spec, phase, _forbidden(secrets), body)
        return True
    return await _publish(context, spec, phase, snapshot, artifact, files)


async def _publish(
    context: RunContext,
    spec: PhaseSpec,
    phase: RowMapping,
    snapshot: publish.Snapshot,
    artifact: Json | None,
    files: dict[str, bytes],
) -> bool:
    final = None if artifact is None else artifact_bytes(artifact)
    async with context.database.read() as tx:
        pushed = (await get_run(tx, context.plan.run_id))["pushed_sha"]
    mirror = replace(context.mirror, remote=await context.remote())
    try:
        committed = await _commit_and_push(context, mirror, spec, snapshot, files, pushed)
    except DevflowError as error:
        if error.code != "push_conflict":
            raise
        # What a lost worker had on the wire may have landed after the run was opened: dropped, and tried once more.
        # Anybody else's commit raises the conflict again.
        await publish.drop_unrecorded(
            mirror,
            context.plan.branch,
            recorded=context.head_sha,
            pushed=pushed,
            run_id=context.plan.run_id,
            epoch=context.lease.epoch,
        )
        committed = await _commit_and_push(context, mirror, spec, snapshot, files, pushed)
    async with context.database.fenced(context.lease) as tx:
        await update_run(tx, head_sha=committed.sha, pushed_sha=committed.sha)
        await _record(tx, spec, phase, final, committed)
        goes_on = await _next(tx, context, spec, phase, artifact)
    context.head_sha = committed.sha
    return goes_on


async def _commit_and_push(
    context: RunContext,
    mirror: Mirror,
    spec: PhaseSpec,
    snapshot: publish.Snapshot,
    files: dict[str, bytes],
    pushed: str | None,
) -> publish.Committed:
    plan = context.plan
    committed = await publish.commit(
        snapshot,
        plan.branch,
        message=f"{spec.title}\n\n{plan.title}",
        trailers=publish.trailers(plan.run_id, spec.key, context.lease.epoch),
        files=files,
    )
    await publish.push(mirror, plan.branch, committed.sha, expected=pushed)
    return committed


async def _record(
    tx: FencedRun, spec: PhaseSpec, phase: RowMapping, final: bytes | None, committed: publish.Committed
) -> None:
    key, round_, attempt = spec.key, phase["round"], phase["attempts"]
    final_digest = None if final is None else digest(final)
    if final is not None and final_digest is not None and spec.expected_artifact is not None:
        await phases.save_artifact(
            tx,
            phase,
            path=spec.expected_artifact.path,
            schema=spec.expected_artifact.schema_id,
            body=final,
            digest=final_digest,
            errors=[],
        )
        await phases.mark_artifact_committed(tx, phase, committed.sha)
        await append(
            tx,
            ArtifactValidated(
                phase_key=key,
                round=round_,
                attempt=attempt,
                schema_id=spec.expected_artifact.schema_id,
                digest=final_digest,
            ),
        )
    await phases.update_phase(
        tx, key, artifact_digest=final_digest, commit_sha=committed.sha, tree_sha=committed.tree, fault=None
    )
    await append(
        tx,
        ArtifactCommitted(phase_key=key, round=round_, commit=committed.sha, tree=committed.tree, digest=final_digest),
    )


async def _next(tx: FencedRun, context: RunContext, spec: PhaseSpec, phase: RowMapping, artifact: Json | None) -> bool:
    wants_changes = artifact is not None and artifact.get("verdict") == "changes_requested"
    if wants_changes and artifact is not None and spec.on_changes_requested is not None:
        feedback = f"Phase {spec.key} (round {phase['round']}) asks for changes:\n{_findings(artifact)}"
        sent = await send_back_or_fail(tx, context.plan.workflow, spec.key, spec.on_changes_requested, feedback)
        return sent and tx.row["state"] == RunState.EXECUTING
    return await pass_gates(tx, context.plan.workflow, spec)


def _findings(artifact: Json) -> str:
    lines = [str(artifact["summary"])] if artifact.get("summary") else []
    for finding in artifact.get("findings", []):
        place = finding.get("file") or ""
        if place and finding.get("line"):
            place += f":{finding['line']}"
        where = f"{place}: " if place else ""
        lines.append(f"- [{finding.get('severity', 'finding')}] {where}{finding.get('message', '')}")
    return "\n".join(lines) or "(no findings were named)"


def _with_evidence(
    context: RunContext, spec: PhaseSpec, artifact: Json, results: list[CheckResult], known: dict[str, Check]
) -> Json:
    evidence = [result.to_json() for result in results] if spec.checks else None
    stamped = stamp(artifact, run_id=context.plan.run_id, phase_key=spec.key, checks=evidence)
    if spec.checks and not known and isinstance(stamped.get("unresolved"), list):
        stamped["unresolved"] = [*stamped["unresolved"], "no checks"]
    return stamped


async def _record_checks(context: RunContext, spec: PhaseSpec, phase: RowMapping, results: list[CheckResult]) -> None:
    if not results:
        return
    async with context.database.fenced(context.lease) as tx:
        for result in results:
            await phases.save_check(tx, phase, result.to_json())
            await append(
                tx,
                CheckFinished(
                    phase_key=spec.key,
                    round=phase["round"],
                    attempt=phase["attempts"],
                    name=result.name,
                    exit_code=result.exit_code,
                    expected=str(result.expect),
                    met=result.met,
                    milliseconds=round(result.seconds * 1000),
                ),
            )


def _describe(result: CheckResult) -> str:
    code = "did not finish in time" if result.exit_code is None else f"ended with exit code {result.exit_code}"
    return f"`{result.command}` {code}, expected: {result.expect}\n{result.output_tail[-2000:]}"


def _files(context: RunContext, spec: PhaseSpec, artifact: Json | None) -> dict[str, bytes]:
    """Return what the engine puts into the run's folder for a phase."""
    if artifact is None or spec.expected_artifact is None:
        return {}
    path = f".devflow/runs/{context.plan.run_id}/{spec.key}"
    markdown = render_markdown(artifact, context.plan.schema(spec.expected_artifact.schema_id))
    return {f"{path}.json": artifact_bytes(artifact), f"{path}.md": markdown.encode()}


def _forbidden(violations: list[publish.Violation]) -> Fault:
    return Fault.of("protected_path", [{"path": item.path, "message": item.message} for item in violations])


def _policy(context: RunContext, spec: PhaseSpec) -> publish.PublishPolicy:
    return publish.PublishPolicy(
        code_phase=context.plan.workflow.is_code_phase(spec),
        allow_lock_files=spec.allow_lock_files,
    )
