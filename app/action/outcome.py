"""What became of one step: of its event, and of the issue's run; the summary, the outputs and the exit code show it.

A run's part comes as the view that its comments on GitHub are made of, so that both say the same.
"""

from dataclasses import dataclass
from decimal import Decimal
from uuid import UUID

from app.surface.figures import money
from app.surface.replies import Say
from app.surface.view import DecisionView, Links, Money, PhaseView, RunView
from engine.domain.errors import EXIT_FAILED, EXIT_OK, DevflowError
from engine.domain.states import RunState

_REJECTED = "approval_rejected"


@dataclass(frozen=True)
class Outcome:
    """`handled` says in a sentence what became of the event; `view` is the issue's run, `links` its repository's.

    `is_ours` is False for an event that starts and answers nothing. `report` is the address, or the path, of the
    final report. `error` is why the step could not do its work, `other_errors` what stood against it besides; why a run
    failed stands in the run. `starts_no_checks`: what the step's token does starts no workflows.
    """

    handled: str
    is_ours: bool = True
    issue_number: int | None = None
    view: RunView | None = None
    links: Links | None = None
    pull_number: int | None = None
    report: str | None = None
    error: DevflowError | None = None
    other_errors: tuple[DevflowError, ...] = ()
    starts_no_checks: bool = False

    @property
    def errors(self) -> tuple[DevflowError, ...]:
        """Return everything that kept the step from its work, the first one first."""
        return (*([self.error] if self.error else []), *self.other_errors)

    @property
    def run_id(self) -> UUID | None:
        """Return the id of the run."""
        return self.view.run_id if self.view else None

    @property
    def number(self) -> int | None:
        """Return the number of the run in its repository."""
        return self.view.number if self.view else None

    @property
    def state(self) -> RunState | None:
        """Return where the run stands."""
        return self.view.state if self.view else None

    @property
    def workflow(self) -> str | None:
        """Return the name of the run's workflow."""
        return self.view.workflow if self.view else None

    @property
    def phases(self) -> tuple[PhaseView, ...]:
        """Return the phases of the run."""
        return self.view.phases if self.view else ()

    @property
    def decisions(self) -> tuple[tuple[str, DecisionView], ...]:
        """Return what people have answered so far, each with the key of its gate."""
        gates = self.view.gates if self.view else ()
        return tuple((gate.gate_key, item) for gate in gates for item in gate.decisions)

    @property
    def cost_usd(self) -> Decimal | None:
        """Return what the run has cost; None where that is not known, or where there is no run."""
        spent = self.view.money if self.view else Money(unpriced=1)
        return None if spent.unpriced else spent.usd

    @property
    def error_code(self) -> str | None:
        """Return the code of what went wrong: with the step, else with the run."""
        if self.error is not None:
            return self.error.code
        return self.view.error.code if self.view and self.view.error else None

    @property
    def next_command(self) -> str | None:
        """Return the command, as a code span, that lets the run go on; None where none is needed."""
        if self.view is None:
            return None
        say = Say(self.view.prefixed)
        if self.view.pending is not None:
            return say("approve", "+2.00") if self.view.pending.gate_key == "budget_exceeded" else say("approve")
        match self.view.state:
            case RunState.PAUSED:
                return say("resume")
            case RunState.FAILED:
                return say("retry")
            case RunState.ABORTED if not self.view.discarded:
                return say("retry")
        return None

    @property
    def exit_code(self) -> int:
        """Return 1 where the step could not do its work, or where the run failed by itself; else 0.

        A run that a person rejected or aborted did what it was told, and one that waits costs nothing.
        """
        if self.error is not None:
            return EXIT_FAILED
        failed = self.view is not None and self.view.state is RunState.FAILED
        return EXIT_FAILED if failed and self.error_code != _REJECTED else EXIT_OK


def cost_text(outcome: Outcome) -> str:
    """Return the cost for people, as amounts are written everywhere."""
    return "unknown" if outcome.cost_usd is None else money(outcome.cost_usd)
