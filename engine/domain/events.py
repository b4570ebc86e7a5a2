"""What can happen to a run: one class an event type, with its payload and the key that makes it happen once.

The key of an event names everything that tells it from its like (phase, round, attempt, session ...), so that writing
the same step twice stores it once. Payloads are strings, integers, booleans, lists and objects: no floats, because the
hash of an event must survive the way through the database.
"""

from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict


class Event(BaseModel):
    """Base of all events; `key_fields` name the payload fields that make the idempotency key."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: ClassVar[str]
    key_fields: ClassVar[tuple[str, ...]] = ()

    @property
    def key(self) -> str:
        """Return the idempotency key, unique within the run."""
        return ":".join([self.type, *(str(getattr(self, name)) for name in self.key_fields)])

    @property
    def payload(self) -> dict[str, Any]:
        """Return the payload as plain JSON values."""
        return self.model_dump(mode="json")


class RunCreated(Event):
    """A run exists: what it was asked for, by hash."""

    type = "run.created"
    workflow: str
    template_hash: str
    input_hash: str
    base_sha: str
    by: str


class RunStarted(Event):
    """A worker took the run for the first time."""

    type = "run.started"
    sandbox: str


class RunResumed(Event):
    """The run goes on after a pause or after its worker was lost."""

    type = "run.resumed"
    key_fields = ("number",)
    number: int
    reason: str
    dropped_commits: list[str] = []


class RunPaused(Event):
    """The run stopped and waits for a person."""

    type = "run.paused"
    key_fields = ("number",)
    number: int
    code: str
    message: str
    by: str | None = None


class RunCompleted(Event):
    """All phases are done."""

    type = "run.completed"


class RunFailed(Event):
    """The run ended without its result."""

    type = "run.failed"
    code: str
    message: str


class RunAborted(Event):
    """A person ended the run."""

    type = "run.aborted"
    by: str
    note: str | None = None


class PhaseStarted(Event):
    """A phase begins a round."""

    type = "phase.started"
    key_fields = ("phase_key", "round")
    phase_key: str
    round: int
    role: str
    persona: str
    feedback: str | None = None


class PhaseSkipped(Event):
    """A phase will not run (again) and why."""

    type = "phase.skipped"
    key_fields = ("phase_key", "number")
    phase_key: str
    reason: str
    number: int


class PhaseCompleted(Event):
    """A phase is done and its gates are passed."""

    type = "phase.completed"
    key_fields = ("phase_key", "round")
    phase_key: str
    round: int
    attempts: int


class PhaseFailed(Event):
    """A phase ended without its artifact."""

    type = "phase.failed"
    key_fields = ("phase_key", "round")
    phase_key: str
    round: int
    attempt: int
    code: str
    message: str


class PromptSent(Event):
    """The envelope went to the agent."""

    type = "prompt.sent"
    key_fields = ("phase_key", "round", "attempt", "session_id")
    phase_key: str
    round: int
    attempt: int
    session_id: str
    prompt_id: str


class PromptRepaired(Event):
    """The agent was told what was wrong with its work."""

    type = "prompt.repaired"
    key_fields = ("phase_key", "round", "attempt")
    phase_key: str
    round: int
    attempt: int
    session_id: str
    prompt_id: str
    code: str


class ArtifactExpected(Event):
    """An attempt began that must leave an artifact."""

    type = "artifact.expected"
    key_fields = ("phase_key", "round", "attempt")
    phase_key: str
    round: int
    attempt: int
    path: str
    schema_id: str


class ArtifactTimeout(Event):
    """An attempt used up its time."""

    type = "artifact.timeout"
    key_fields = ("phase_key", "round", "attempt")
    phase_key: str
    round: int
    attempt: int
    timeout_seconds: int


class ArtifactInvalid(Event):
    """An attempt left no artifact, or one with faults: at most five, each with its path."""

    type = "artifact.invalid"
    key_fields = ("phase_key", "round", "attempt")
    phase_key: str
    round: int
    attempt: int
    code: str
    errors: list[dict[str, str]]


class ArtifactValidated(Event):
    """An artifact satisfies its schema, the guards and the checks."""

    type = "artifact.validated"
    key_fields = ("phase_key", "round", "attempt")
    phase_key: str
    round: int
    attempt: int
    schema_id: str
    digest: str


class ArtifactCommitted(Event):
    """A phase's work is on the run's branch; `digest` is null for a phase without artifact."""

    type = "artifact.committed"
    key_fields = ("phase_key", "round", "commit")
    phase_key: str
    round: int
    commit: str
    tree: str
    digest: str | None


class ApprovalRequested(Event):
    """A gate asks for a person."""

    type = "approval.requested"
    key_fields = ("request_id",)
    phase_key: str
    gate_key: str
    request_id: str
    round: int
    required_approvals: int
    digest: str | None
    commit: str | None


class ApprovalResolved(Event):
    """A gate was answered, or its request overtaken."""

    type = "approval.resolved"
    key_fields = ("request_id",)
    phase_key: str
    gate_key: str
    request_id: str
    action: str
    by: str
    note: str | None = None


class SessionStarted(Event):
    """A persona's conversation begins."""

    type = "session.started"
    key_fields = ("session_id",)
    phase_key: str
    session_id: str
    persona: str
    model: str
    reason: str


class SessionResumed(Event):
    """A persona's conversation goes on where it was checkpointed."""

    type = "session.resumed"
    key_fields = ("session_id", "number")
    phase_key: str
    session_id: str
    messages: int
    number: int


class SessionFailed(Event):
    """A persona's conversation cannot go on."""

    type = "session.failed"
    key_fields = ("session_id",)
    phase_key: str
    session_id: str
    code: str
    message: str


class CheckFinished(Event):
    """The engine ran one check."""

    type = "check.finished"
    key_fields = ("phase_key", "round", "attempt", "name")
    phase_key: str
    round: int
    attempt: int
    name: str
    exit_code: int | None
    expected: str
    met: bool
    milliseconds: int


class ReportWritten(Event):
    """The final report exists."""

    type = "report.written"
    path: str
    commit: str | None


EVENT_TYPES: dict[str, type[Event]] = {kind.type: kind for kind in Event.__subclasses__()}
