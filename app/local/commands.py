"""What the commands do that change something: start, drive, answer, pause, resume, retry, consent."""

import asyncio
import sys
import time
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from app.local import console
from app.local.drive import Approve, Driver, default_approve
from app.local.identity import actor
from app.local.remotes import LocalRemotes
from engine.domain.errors import EXIT_OK, DevflowError
from engine.domain.ids import short_id
from engine.domain.states import Action, RunState
from engine.facade import Engine
from engine.gates import Answer
from engine.settings import Settings
from engine.start import StartRequest, consent_target

MAX_ISSUE_BYTES = 1_000_000


class SandboxMode(StrEnum):
    """How commands are confined."""

    AUTO = "auto"
    BWRAP = "bwrap"
    SANDLOCK = "sandlock"
    NONE = "none"


@dataclass(frozen=True)
class RunOptions:
    """The options of `devflow run`."""

    repo: Path
    issue: str
    workflow: str | None
    base: str | None
    personas: list[str]
    model: str | None
    budget_usd: Decimal | None
    checks: list[str]
    sandbox: SandboxMode | None
    cassette: Path | None


async def run(
    settings: Settings, options: RunOptions, approve: Approve | None, as_name: str | None, as_json: bool
) -> int:
    """Start a run and drive it."""
    issue = read_issue(options.issue)
    by = await actor(as_name, options.repo)
    request = StartRequest(
        repository=options.repo,
        issue_text=issue,
        by=by,
        workflow=options.workflow,
        base=options.base,
        personas=_overrides(options.personas),
        model=options.model,
        budget_usd=options.budget_usd,
        checks=options.checks,
        sandbox=str(options.sandbox) if options.sandbox else None,
        cassette=_read_cassette(options.cassette),
        private_queue=True,
    )
    async with Engine.open(settings, LocalRemotes()) as engine:
        run_id = await engine.start(request)
        return await _drive(engine, run_id, approve, by, as_json)


async def resume(
    settings: Settings, reference: str, approve: Approve | None, as_name: str | None, as_json: bool
) -> int:
    """Continue a run in this process."""
    by = await actor(as_name, Path())
    async with Engine.open(settings, LocalRemotes()) as engine:
        run_id = await engine.find(reference)
        seen = (await engine.row(run_id))["event_seq"]
        await _resume_when_free(engine, run_id)
        return await _drive(engine, run_id, approve, by, as_json, after=seen, alone=True)


async def retry(settings: Settings, reference: str, approve: Approve | None, as_name: str | None, as_json: bool) -> int:
    """Start over from the completed phases of a failed or aborted run."""
    by = await actor(as_name, Path())
    async with Engine.open(settings, LocalRemotes()) as engine:
        run_id = await engine.retry(await engine.find(reference), by)
        return await _drive(engine, run_id, approve, by, as_json)


async def answer(
    settings: Settings,
    reference: str,
    action: Action,
    note: str | None,
    sha: str | None,
    as_name: str | None,
    as_json: bool,
) -> int:
    """Record a decision and say what continues the run."""
    by = await actor(as_name, Path())
    async with Engine.open(settings, LocalRemotes()) as engine:
        run_id = await engine.find(reference)
        decided = await engine.answer(run_id, Answer(action, by=by, token=str(uuid4()), note=note, sha=sha))
        row = await engine.row(run_id)
        if decided.state.terminal and row["lease_worker"] is None:
            await engine.settle(run_id)
        if as_json:
            console.emit_json(await engine.summary(run_id))
            return EXIT_OK
        if decided.missing_approvals:
            console.tell(f"Recorded. {decided.missing_approvals} more approval(s) needed, by other people.")
        elif decided.state.terminal:
            report = (await engine.row(run_id))["final_report_path"]
            console.tell(f"Recorded. The run is {decided.state}; its report: {report}")
        elif action is Action.ABORT:
            console.tell("Recorded. The worker that holds the run stops it within seconds.")
        else:
            console.tell("Recorded. A waiting `devflow run` or a worker goes on with it; else:")
            console.tell(f"  devflow resume {short_id(run_id)}")
        return EXIT_OK


async def pause(settings: Settings, reference: str, note: str | None, as_name: str | None, as_json: bool) -> int:
    """Ask a run to stop at its next safe point."""
    by = await actor(as_name, Path())
    async with Engine.open(settings, LocalRemotes()) as engine:
        run_id = await engine.find(reference)
        state = await engine.pause(run_id, by, note)
        if as_json:
            console.emit_json(await engine.summary(run_id))
        elif state is RunState.PAUSED:
            console.tell(f"Paused. Continue with: devflow resume {short_id(run_id)}")
        else:
            console.tell("Recorded. The run pauses at its next safe point.")
        return EXIT_OK


async def consent_grant(settings: Settings, repo: Path, name: str, as_name: str | None, as_json: bool) -> int:
    """Store a person's consent to a persona as it is now."""
    by = await actor(as_name, repo)
    target = await consent_target(settings, repo, name, LocalRemotes())
    async with Engine.open(settings, LocalRemotes()) as engine:
        await engine.consents.grant(target.repository_id, target.persona_hash, name, by)
    if as_json:
        console.emit_json({"persona": name, "persona_hash": target.persona_hash, "by": by})
    else:
        console.tell(f"{by} consents to {name} ({target.persona_hash[:12]}) for this repository: {target.reasons}")
    return EXIT_OK


async def consent_revoke(settings: Settings, repo: Path, name: str, as_json: bool) -> int:
    """Take back every consent to a persona."""
    target = await consent_target(settings, repo, name, LocalRemotes())
    async with Engine.open(settings, LocalRemotes()) as engine:
        count = await engine.consents.revoke(target.repository_id, name)
    if as_json:
        console.emit_json({"persona": name, "revoked": count})
    else:
        console.tell(f"Revoked {count} consent(s) to {name}; runs that have started are not affected.")
    return EXIT_OK


def read_issue(source: str) -> str:
    """Return the issue's text from a file or standard input; raises `issue_invalid`."""
    try:
        data = sys.stdin.buffer.read(MAX_ISSUE_BYTES + 1) if source == "-" else _read(Path(source), MAX_ISSUE_BYTES)
    except OSError as error:
        raise DevflowError("issue_invalid", f"cannot read the issue from {source}: {error.strerror}") from None
    if len(data) > MAX_ISSUE_BYTES:
        raise DevflowError("issue_invalid", f"the issue has more than {MAX_ISSUE_BYTES} bytes")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DevflowError("issue_invalid", f"the issue is not UTF-8: byte {error.start} is wrong") from None
    if not text.strip() or "\x00" in text:
        raise DevflowError(
            "issue_invalid", "the issue is empty" if not text.strip() else "the issue has a NUL character"
        )
    return text


async def _drive(
    engine: Engine,
    run_id: UUID,
    approve: Approve | None,
    by: str,
    as_json: bool,
    *,
    after: int = 0,
    alone: bool = False,
) -> int:
    driver = Driver(engine, run_id, approve=approve or default_approve(), by=by, quiet=as_json)
    if not as_json:
        row = await engine.row(run_id)
        console.say(f"Run {row['number']} ({short_id(run_id)}): {row['title']}")
    code = await driver.drive(after=after, alone=alone)
    summary = await engine.summary(run_id)
    if as_json:
        console.emit_json(summary)
    else:
        _tell_summary(run_id, summary)
    return code


def _tell_summary(run_id: UUID, summary: dict[str, Any]) -> None:
    short = short_id(run_id)
    cost = "unknown" if summary["cost_usd"] is None else f"{summary['cost_usd']:.4f} USD"
    console.tell(f"state:   {summary['state']}")
    published = summary["head_sha"] != summary["base_sha"]
    at = f"at {str(summary['head_sha'])[:12]}" if published else "(nothing published yet)"
    console.tell(f"branch:  {summary['branch']} {at}")
    calls = console.count(summary["llm_call_count"], "call")
    console.tell(f"cost:    {cost}, {summary['total_tokens']} tokens in {calls}")
    if summary["report_path"]:
        console.tell(f"report:  {summary['report_path']}")
    error = summary["error"]
    if isinstance(error, dict):
        console.tell(f"error:   {error['code']}: {error['message']}")
        console.tell(f"next:    {error['recovery_hint'].replace('RUN', short)}")
    elif isinstance(request := summary["pending_request"], dict):
        console.tell(f"waits:   gate {request['gate_key']} of phase {request['phase_key']}")
        console.tell(f"next:    devflow approve {short}, then devflow resume {short}")
    elif summary["state"] == RunState.PAUSED:
        console.tell(f"next:    devflow resume {short}")


async def _resume_when_free(engine: Engine, run_id: UUID) -> None:
    """Resume the run; where its worker does not answer, wait until its lease is free, and say so.

    Raises `worker_already_running` as soon as that worker is heard of again.
    """
    heard = await engine.last_heartbeat(run_id)
    limit = engine.settings.worker_dead_after_seconds + engine.settings.heartbeat_seconds
    deadline = time.monotonic() + limit
    said = False
    while True:
        try:
            await engine.resume(run_id)
        except DevflowError as error:
            if error.code != "worker_already_running" or time.monotonic() > deadline:
                raise
            if not said:
                console.say(f"{error.message}; waiting up to {limit:.0f} s to see whether it still lives")
                said = True
            await asyncio.sleep(1)
            if await engine.last_heartbeat(run_id) != heard:
                raise
        else:
            return


def _overrides(pairs: list[str]) -> dict[str, str]:
    overrides = {}
    for pair in pairs:
        role, separator, name = pair.partition("=")
        if not (role and separator and name):
            raise DevflowError("usage", f"--persona {pair!r} is not of the form ROLE=NAME")
        overrides[role] = name
    return overrides


def _read_cassette(path: Path | None) -> tuple[str, bytes] | None:
    if path is None:
        return None
    try:
        return path.name, _read(path, 10_000_000)
    except OSError as error:
        raise DevflowError("config_invalid", f"cannot read the cassette {path}: {error.strerror}") from None


def _read(path: Path, limit: int) -> bytes:
    with path.open("rb") as file:
        return file.read(limit + 1)
