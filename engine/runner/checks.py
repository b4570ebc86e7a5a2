"""Checks are evidence: the engine runs them itself in the sandbox, and only what it saw goes into the artifact."""

from dataclasses import dataclass
from typing import Any

from engine.domain.config import Check, checks_of, expectations_met
from engine.domain.workflow import Expect, PhaseSpec
from engine.workspace.sandbox import Command, Sandbox
from engine.workspace.secrets import redact
from engine.workspace.worktree import Worktree

OUTPUT_TAIL = 4000


@dataclass(frozen=True)
class CheckResult:
    """What one check did; `exit_code` is None where it ran out of time."""

    name: str
    command: str
    exit_code: int | None
    expect: Expect
    seconds: float
    output_tail: str

    @property
    def met(self) -> bool:
        """Whether this check alone ended as the workflow expects."""
        return expectations_met([(self.expect, self.exit_code)])

    def to_json(self) -> dict[str, Any]:
        """Return the entry of the artifact's `checks`, which is also the row of the `checks` table."""
        return {
            "name": self.name,
            "command": self.command,
            "exit_code": self.exit_code,
            "expected": str(self.expect),
            "met": self.met,
            "seconds": round(self.seconds, 3),
            "output_tail": self.output_tail,
        }


async def run_checks(
    phase: PhaseSpec, known: dict[str, Check], sandbox: Sandbox, worktree: Worktree
) -> list[CheckResult]:
    """Run the phase's checks in the sandbox, one after the other."""
    results = []
    for name, check, expect in checks_of(phase, known):
        command = Command(check.run, timeout_seconds=check.timeout_seconds, network=phase.network)
        outcome = await sandbox.run(worktree.path, command)
        # what a check prints is published, and must not take a credential along
        tail = redact(outcome.output[-OUTPUT_TAIL:].replace("\x00", "\ufffd"))
        if outcome.timed_out:
            tail += f"\n(stopped after {check.timeout_seconds} s)"
        results.append(
            CheckResult(
                name=name,
                command=check.run,
                exit_code=None if outcome.timed_out else outcome.exit_code,
                expect=expect,
                seconds=outcome.seconds,
                output_tail=tail,
            )
        )
    return results


def all_met(results: list[CheckResult]) -> bool:
    """Whether the results together are what the phase needs."""
    return expectations_met([(result.expect, result.exit_code) for result in results])
