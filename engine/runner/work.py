"""One attempt of an agent: tell it what is wanted, let it work, and collect what it left."""

import asyncio
import contextlib
from typing import Any

from sqlalchemy import RowMapping

from engine import models
from engine.agents.base import ChatModel, Limits, Message, Outcome
from engine.agents.conversation import Conversation, Desk, find_or_open
from engine.agents.loop import run_attempt
from engine.agents.replay_agent import Cassette, parse_cassette
from engine.agents.tools import Toolbox
from engine.agents.turn import RetryPolicy
from engine.domain.artifact import (
    ArtifactError,
    artifact_bytes,
    check_object,
    digest,
    parse_artifact,
    stamp,
    validate_artifact,
)
from engine.domain.config import Check, checks_of
from engine.domain.envelope import (
    ApprovedArtifact,
    Envelope,
    RepairReason,
    build_prompt,
    repair_prompt,
)
from engine.domain.errors import DevflowError
from engine.domain.events import ArtifactExpected, ArtifactInvalid, ArtifactTimeout, PhaseStarted
from engine.domain.ids import uuid7
from engine.domain.states import PhaseState
from engine.domain.workflow import PhaseSpec
from engine.metering import Meter
from engine.runner.context import RunContext
from engine.runner.faults import MAX_ATTEMPTS, Fault
from engine.runner.plan import Role
from engine.store import phases, sessions
from engine.store.database import FencedRun
from engine.store.events import append
from engine.store.ledger import CallContext
from engine.workspace import files

_REASONS = {
    "artifact_missing": RepairReason.MISSING,
    "artifact_timeout": RepairReason.MISSING,
    "artifact_invalid": RepairReason.INVALID,
    "protected_path": RepairReason.PROTECTED,
    "check_failed": RepairReason.CHECKS,
    "model_reply_invalid": RepairReason.UNREADABLE,
}

_MAX_SESSIONS_A_ROUND = 3
_MAX_PATCH = 60_000
_SHOWN_FEEDBACK = 400

Json = dict[str, Any]


async def begin_phase(context: RunContext, spec: PhaseSpec) -> None:
    """Move a pending phase to its first attempt."""
    role = context.plan.role_of(spec)
    # whatever earlier phases left unpublished is not this one's work
    await context.worktree.reset_to(context.head_sha, context.unpublished)
    async with context.database.fenced(context.lease) as tx:
        phase = await phases.get_phase(tx, tx.run_id, spec.key)
        await phases.set_phase_state(tx, spec.key, PhaseState.RUNNING, attempts=1, fault=None)
        await append(
            tx,
            PhaseStarted(
                phase_key=spec.key,
                round=phase["round"],
                role=role.id,
                persona=role.persona.name,
                feedback=phase["feedback"] and phase["feedback"][:_SHOWN_FEEDBACK],
            ),
        )
        await _expect(tx, spec, phase["round"], 1)


async def work(context: RunContext, spec: PhaseSpec, phase: RowMapping) -> None:
    """Let the phase's agent work on its current attempt; then the phase is `validating`, or has a fault to repair."""
    collected = await _attempt(context, spec, phase)
    if isinstance(collected, Fault):
        await repair_or_fail(context, spec, phase, collected)
        return
    async with context.database.fenced(context.lease) as tx:
        if spec.expected_artifact is not None and collected is not None:
            await _save(tx, spec, phase, collected, [])
        await phases.set_phase_state(tx, spec.key, PhaseState.VALIDATING)


async def repair_or_fail(
    context: RunContext, spec: PhaseSpec, phase: RowMapping, fault: Fault, body: bytes | None = None
) -> None:
    """Write down what is wrong with the attempt; raise its final error where the repair is used up."""
    attempt = phase["attempts"]
    # what the failed attempt left must not count as the work of the next one, also where a crash comes in between
    _remove_stale(context, spec)
    async with context.database.fenced(context.lease) as tx:
        if spec.expected_artifact is not None:
            await _save(tx, spec, phase, body or b"", list(fault.errors))
        if fault.code == "artifact_timeout":
            await append(
                tx,
                ArtifactTimeout(
                    phase_key=spec.key, round=phase["round"], attempt=attempt, timeout_seconds=spec.timeout_seconds
                ),
            )
        await append(
            tx,
            ArtifactInvalid(
                phase_key=spec.key, round=phase["round"], attempt=attempt, code=fault.code, errors=list(fault.errors)
            ),
        )
        if attempt < MAX_ATTEMPTS:
            values = {"attempts": attempt + 1, "fault": fault.to_json()}
            await phases.set_phase_state(tx, spec.key, PhaseState.RUNNING, **values)
            await _expect(tx, spec, phase["round"], attempt + 1)
    if attempt >= MAX_ATTEMPTS:
        raise fault.final_error(spec.key)


async def _attempt(
    context: RunContext, spec: PhaseSpec, phase: RowMapping, reason: str = "phase started"
) -> bytes | Fault | None:
    """Return the artifact's bytes (None where the phase has none), or what is wrong."""
    role = context.plan.role_of(spec)
    conversation = await _open(context, spec, phase, role, reason)
    await _prompt(context, spec, phase, role, conversation)
    attempt = (spec.key, phase["round"], phase["attempts"])
    model = models.make_model(context.settings, role, _cassette(context), attempt)
    toolbox = Toolbox(
        context.worktree.path,
        context.sandbox,
        allowed=frozenset(role.persona.tools),
        artifact_schema=_schema(context, spec),
        artifact_path=spec.expected_artifact.path if spec.expected_artifact else None,
        network=spec.network,
        command_timeout_seconds=role.persona.limits.command_timeout_seconds,
    )
    try:
        async with asyncio.timeout(spec.timeout_seconds) as deadline:
            outcome = await run_attempt(
                model,
                toolbox,
                conversation,
                _meter(context, spec, role, conversation),
                Limits(role.persona.limits.max_turns, role.persona.limits.max_output_tokens),
                RetryPolicy(context.settings.retry_max_attempts, context.settings.retry_initial_delay),
                context.safe_point.check,
            )
    except DevflowError as error:
        if error.code == "model_reply_invalid":
            return Fault.of(error.code, [{"path": "/", "message": error.message}])
        if error.code != "context_overflow" or not await _may_start_anew(context, spec, phase):
            raise
        await conversation.close()
        return await _attempt(context, spec, phase, reason="the conversation no longer fits the model")
    except TimeoutError:
        if not deadline.expired():
            raise
        return Fault.of("artifact_timeout", [{"path": "/", "message": f"no artifact within {spec.timeout_seconds} s"}])
    finally:
        await _close(model)
    return _collect(context, spec, outcome)


def _collect(context: RunContext, spec: PhaseSpec, outcome: Outcome) -> bytes | Fault | None:
    if spec.expected_artifact is None:
        return None
    path = spec.expected_artifact.path
    if outcome.submission is not None:
        artifact, errors = check_object(outcome.submission)
    else:
        try:
            content = files.read_bytes(context.worktree.path, path)
        except FileNotFoundError:
            why = {"max_turns": "the agent used up its turns", "cut_off": "the agent's replies were cut off"}
            message = f"nothing was submitted and {path} was not written"
            if outcome.reason in why:
                message += f": {why[outcome.reason]}"
            return Fault.of("artifact_missing", [{"path": "/", "message": message}])
        except (files.UnsafePath, OSError) as error:
            return Fault.of("artifact_missing", [{"path": path, "message": str(error)}])
        artifact, errors = parse_artifact(content)
    if artifact is not None:
        artifact = stamp(artifact, run_id=context.plan.run_id, phase_key=spec.key)
        errors = validate_artifact(artifact, context.plan.schema(spec.expected_artifact.schema_id))
    if errors or artifact is None:
        return Fault.of("artifact_invalid", [error.to_json() for error in errors])
    return artifact_bytes(artifact)


async def _may_start_anew(context: RunContext, spec: PhaseSpec, phase: RowMapping) -> bool:
    async with context.database.read() as tx:
        used = await sessions.count_sessions(tx, context.plan.run_id, spec.key, phase["round"])
    return used < _MAX_SESSIONS_A_ROUND


async def _open(context: RunContext, spec: PhaseSpec, phase: RowMapping, role: Role, reason: str) -> Conversation:
    desk = Desk(
        phase_key=spec.key,
        round=phase["round"],
        role=role.id,
        persona_name=role.persona.name,
        persona_hash=role.persona_hash,
        model=role.model,
        worktree_token=context.worktree.token,
    )
    return await find_or_open(context.database, context.lease, desk, reason=reason)


async def _prompt(
    context: RunContext, spec: PhaseSpec, phase: RowMapping, role: Role, conversation: Conversation
) -> None:
    """Send the envelope once a session, and where the attempt is a repair, what was wrong."""
    attempt = phase["attempts"]
    envelope = await _envelope(context, spec, phase, role)
    if not conversation.messages:
        # a file left over from elsewhere must not count as this attempt's work
        _remove_stale(context, spec)
    await conversation.prompt(build_prompt(envelope), f"{spec.key}:{phase['round']}:envelope", attempt)
    if attempt > 1:
        repair = _repair(phase, envelope)
        await conversation.prompt([repair], envelope.dedup_key, attempt, repair_code=phase["fault"]["code"])


def _repair(phase: RowMapping, envelope: Envelope) -> Message:
    fault = phase["fault"]
    errors = [ArtifactError(item["path"], item["message"]) for item in fault["errors"]]
    return repair_prompt(_REASONS[fault["code"]], errors, envelope)


def _remove_stale(context: RunContext, spec: PhaseSpec) -> None:
    if spec.expected_artifact is not None:
        # what cannot be removed like a file will not be read as one either
        with contextlib.suppress(OSError, files.UnsafePath):
            files.remove(context.worktree.path, spec.expected_artifact.path)


async def _envelope(context: RunContext, spec: PhaseSpec, phase: RowMapping, role: Role) -> Envelope:
    plan = context.plan
    async with context.database.read() as tx:
        approved = await phases.approved_artifacts(tx, plan.run_id)
        previous = await phases.previous_artifact(tx, plan.run_id, phase)
    feedback = phase["feedback"] or ""
    if feedback and previous is not None:
        feedback += f"\n\nYour artifact of round {previous['round']}, for reference:\n{previous['body'].decode()}"
    known = {name: Check.model_validate(value) for name, value in plan.options["checks"].items()}
    expected = spec.expected_artifact
    dedup_key = f"{spec.key}:{phase['round']}:{phase['attempts']}"
    change = ""
    if not plan.workflow.is_code_phase(spec) and context.head_sha != plan.base_sha:
        change = await context.mirror.diff(plan.base_sha, context.head_sha, _MAX_PATCH)
    return Envelope(
        uuid=str(uuid7()),
        run_id=str(plan.run_id),
        role=role.id,
        persona_prompt=role.persona.prompt,
        phase_key=spec.key,
        phase_title=spec.title,
        instructions=spec.instructions,
        round=phase["round"],
        attempt=phase["attempts"],
        dedup_key=dedup_key,
        trigger=plan.trigger,
        artifact_path=expected.path if expected else None,
        schema_id=expected.schema_id if expected else None,
        schema=_schema(context, spec),
        extra=plan.inputs["extra"],
        approved=tuple(
            ApprovedArtifact(row["phase_key"], row["schema"], row["path"], row["digest"], row["body"].decode())
            for row in approved
        ),
        change=change,
        feedback=feedback,
        checks=tuple((name, check.run, str(expect)) for name, check, expect in checks_of(spec, known)),
        may_change_code=plan.workflow.is_code_phase(spec),
        network=spec.network,
        allow_lock_files=spec.allow_lock_files,
        timeout_seconds=spec.timeout_seconds,
    )


def _schema(context: RunContext, spec: PhaseSpec) -> Json | None:
    return context.plan.schema(spec.expected_artifact.schema_id) if spec.expected_artifact else None


def _meter(context: RunContext, spec: PhaseSpec, role: Role, conversation: Conversation) -> Meter:
    call = CallContext(
        phase_key=spec.key,
        session_id=conversation.session_id,
        persona_name=role.persona.name,
        persona_version=role.persona.version,
        backend=role.backend,
        model=role.model,
        role=role.id,
    )
    return Meter(context.database, context.lease, call, context.prices)


def _cassette(context: RunContext) -> Cassette | None:
    stored = context.plan.inputs["metadata"].get("cassette")
    return None if stored is None else parse_cassette(stored["body"].encode(), stored["name"])


async def _close(model: ChatModel) -> None:
    close = getattr(model, "close", None)
    if close is not None:
        await close()


async def _expect(tx: FencedRun, spec: PhaseSpec, round_: int, attempt: int) -> None:
    if spec.expected_artifact is not None:
        await append(
            tx,
            ArtifactExpected(
                phase_key=spec.key,
                round=round_,
                attempt=attempt,
                path=spec.expected_artifact.path,
                schema_id=spec.expected_artifact.schema_id,
            ),
        )


async def _save(tx: FencedRun, spec: PhaseSpec, phase: RowMapping, body: bytes, errors: list[dict[str, str]]) -> None:
    assert spec.expected_artifact is not None  # noqa: S101 - the callers ask
    await phases.save_artifact(
        tx,
        phase,
        path=spec.expected_artifact.path,
        schema=spec.expected_artifact.schema_id,
        body=body,
        digest=digest(body),
        errors=errors,
    )
