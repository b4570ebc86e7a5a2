"""A run as its surfaces need it: plain values, read in one transaction by `reading`, turned into text by the rest.

Nothing in here acts. Times are aware and in UTC; money is US dollars; text is as it was stored, so untrusted.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, Protocol
from uuid import UUID

from engine.domain.states import Action, PhaseState, RequestState, RunState

OUTSIDE_PHASE = "-"


class Links(Protocol):
    """Addresses of a repository's things on its host; no call is made for them."""

    def issue_url(self, number: int) -> str:
        """Return the address of an issue."""

    def pull_url(self, number: int) -> str:
        """Return the address of a pull request."""

    def commit_url(self, sha: str) -> str:
        """Return the address of a commit."""

    def blob_url(self, ref: str, path: str) -> str:
        """Return the address of a file as it is at `ref`."""

    def comment_url(self, number: int, comment_id: int, *, pull: bool = False) -> str:
        """Return the address of a comment on an issue, or on a pull request (`pull`)."""


@dataclass(frozen=True)
class Money:
    """What model calls have cost; `unpriced` of them have no known price, `recorded` ones asked no model."""

    usd: Decimal = Decimal(0)
    calls: int = 0
    unpriced: int = 0
    recorded: int = 0


@dataclass(frozen=True)
class PhaseView:
    """One phase: where it stands, who does it, what it took. `artifact` is its file's path at `commit`."""

    key: str
    title: str
    state: PhaseState
    attempts: int = 0
    round: int = 1
    started_at: datetime | None = None
    ended_at: datetime | None = None
    waited_seconds: float = 0.0
    persona: str = ""
    artifact: str | None = None
    commit: str | None = None
    money: Money = Money()
    error_code: str | None = None

    def seconds(self) -> float | None:
        """Return how long the phase took without the time that people took, or None before its end."""
        if self.started_at is None or self.ended_at is None:
            return None
        return max((self.ended_at - self.started_at).total_seconds() - self.waited_seconds, 0.0)


@dataclass(frozen=True)
class DecisionView:
    """What one person answered."""

    by: str
    action: Action
    note: str | None = None


@dataclass(frozen=True)
class GateView:
    """One posting of a gate. `document` is what is asked about, as Markdown, while it is still the stored one."""

    request_id: UUID
    gate_key: str
    phase_key: str
    phase_title: str
    round: int
    state: RequestState
    required: int = 1
    document: str | None = None
    artifact: str | None = None
    digest: str | None = None
    commit: str | None = None
    code: bool = False
    decisions: tuple[DecisionView, ...] = ()
    note: str | None = None

    @property
    def outside(self) -> bool:
        """Whether the engine asks it between the phases: about money, or about a session that was lost."""
        return self.phase_key == OUTSIDE_PHASE

    @property
    def approved_by(self) -> list[str]:
        """Return who has approved so far."""
        return [item.by for item in self.decisions if item.action is Action.APPROVE]


@dataclass(frozen=True)
class StopView:
    """A pause that asks nothing but needs somebody; `number` tells it from the run's other pauses."""

    number: int
    code: str
    message: str
    over: bool


@dataclass(frozen=True)
class ChangeView:
    """What a code phase says that it did."""

    title: str
    summary: str
    files: tuple[tuple[str, str, str], ...]


@dataclass(frozen=True)
class ErrorView:
    """Why a run stands still or has failed."""

    code: str
    message: str


@dataclass(frozen=True)
class RunView:
    """A run. `head_sha` is what stands on its branch at the host; `report` is there once the run is closed."""

    run_id: UUID
    repository_id: int
    number: int
    issue_number: int
    title: str
    workflow: str
    state: RunState
    branch: str
    base_branch: str
    base_sha: str
    requested_by: str
    head_sha: str | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    waits_for: int | None = None
    requested_action: str | None = None
    ended_by: str | None = None
    end_note: str | None = None
    approvers: tuple[str, ...] = ()
    unknown_approvers: tuple[str, ...] = ()
    requester_may_approve: bool = True
    prefixed: bool = False
    money: Money = Money()
    budget_usd: Decimal | None = None
    total_tokens: int = 0
    sandbox: str | None = None
    error: ErrorView | None = None
    phases: tuple[PhaseView, ...] = ()
    gates: tuple[GateView, ...] = ()
    stops: tuple[StopView, ...] = ()
    changes: tuple[ChangeView, ...] = ()
    retry_of: int | None = None
    retry_of_id: UUID | None = None
    continued_by: int | None = None
    discarded: bool = False
    report: Mapping[str, Any] | None = None
    report_markdown: str = field(default="", repr=False)

    @property
    def short_id(self) -> str:
        """Return the last 8 hex digits of the run's id, as branch names and lists show it."""
        return self.run_id.hex[-8:]

    @property
    def pending(self) -> GateView | None:
        """Return the gate that waits for an answer."""
        return next((gate for gate in self.gates if gate.state is RequestState.PENDING), None)

    @property
    def current(self) -> PhaseView | None:
        """Return the phase that is worked on, or that is next."""
        return next((phase for phase in self.phases if phase.state is not PhaseState.COMPLETED), None)

    @property
    def publishes(self) -> bool:
        """Whether something of the run stands on its branch, beside what the branch began with."""
        return self.head_sha is not None and self.head_sha != self.base_sha
