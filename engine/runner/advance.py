"""The run loop: whoever holds a run's lease takes it from where the store says it stands to its next stop.

Each step reads the store, does one thing and writes its result in one transaction, so a crash between two steps costs
nothing and a crash inside one repeats it. What may stop an advance: a gate, the end, a person's pause or abort, an
error, or the loss of the lease.
"""

import asyncio
import logging
from uuid import UUID

from engine import lifecycle
from engine.domain.errors import DevflowError, Effect, Fenced, error_of
from engine.domain.states import PhaseState, RunState
from engine.runner import finish, opening, work
from engine.runner.closing import close_run, write_missing_report
from engine.runner.context import PauseRequested, RunContext
from engine.runner.gate import pass_gates
from engine.services import Services
from engine.store import phases
from engine.store.database import Lease
from engine.store.runs import get_run, update_run
from engine.store.workers import WorkerIdentity

_log = logging.getLogger(__name__)
_WATCH_SECONDS = 0.5
# No person can mend these and nothing is lost by waiting: the worker leaves the run alone for a while, then goes on.
_WAITED_OUT = ("database_unavailable", "github_unavailable")


class Runner:
    """Advances runs; it holds nothing of any run between two calls."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._settings = services.settings
        self._database = services.database

    async def advance(self, lease: Lease) -> None:
        """Take the run to its next stop. Raises `Fenced` where the lease is lost.

        `database_unavailable` and `github_unavailable` are raised as well: the run stays as it is until they are over.
        """
        async with self._database.read() as tx:
            run = await get_run(tx, lease.run_id)
        if run["requested_action"] is not None:
            await self._obey(lease, run["requested_action"])
        elif RunState(run["state"]) in (RunState.CREATED, RunState.EXECUTING):
            await self._execute(lease)
        async with self._database.read() as tx:
            run = await get_run(tx, lease.run_id)
        if RunState(run["state"]).terminal and run["final_report_path"] is None:
            await close_run(self._services, lease)

    async def settle(self, run_id: UUID) -> None:
        """Write the missing report of a run that has ended, with a lease of this process's own."""
        worker = WorkerIdentity.of_this_process()
        await write_missing_report(self._services, run_id, worker)

    async def _execute(self, lease: Lease) -> None:
        """Work until something stops the run, and write down what it was."""
        holder: list[RunContext] = []
        steps = asyncio.create_task(self._open_and_step(lease, holder))
        watch = asyncio.create_task(self._watch(lease, steps, holder))
        try:
            await asyncio.wait({steps, watch}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            # whichever ended first, and also where this task itself is cancelled: nothing of it may go on
            for task in (steps, watch):
                task.cancel()
            await asyncio.wait({steps, watch})
        requested = None if watch.cancelled() else watch.result()
        error = None if steps.cancelled() else steps.exception()
        if isinstance(error, Fenced):
            raise error
        if requested is not None and (steps.cancelled() or error is not None):
            await self._obey(lease, requested)
        elif isinstance(error, PauseRequested):
            await self._obey(lease, "pause")
        elif error is not None:
            await self._stop(lease, error)

    async def _open_and_step(self, lease: Lease, holder: list[RunContext]) -> None:
        context = await opening.open_run(self._services, lease)
        holder.append(context)
        while await self._step(context):
            context.safe_point.check()

    async def _step(self, context: RunContext) -> bool:
        """Do the next thing; False once the run waits or has ended."""
        workflow = context.plan.workflow
        async with self._database.read() as tx:
            phase = await phases.current_phase(tx, context.plan.run_id)
        if phase is None:
            async with self._database.fenced(context.lease) as tx:
                await lifecycle.complete_run(tx)
            return False
        spec = workflow.phase(phase["phase_key"])
        match PhaseState(phase["state"]):
            case PhaseState.PENDING:
                await work.begin_phase(context, spec)
            case PhaseState.RUNNING:
                await work.work(context, spec, phase)
            case PhaseState.VALIDATING:
                return await finish.finish(context, spec, phase)
            case PhaseState.AWAITING_APPROVAL:
                async with self._database.fenced(context.lease) as tx:
                    return await pass_gates(tx, workflow, spec)
            case state:
                raise DevflowError("run_metadata_missing", f"phase {spec.key} is {state} in a run that goes on")
        return True

    async def _watch(self, lease: Lease, steps: "asyncio.Task[None]", holder: list[RunContext]) -> str:
        """Return `pause` or `abort` once a person asked for it and the work has to be cancelled for it."""
        asked_at: float | None = None
        clock = asyncio.get_running_loop().time
        while True:
            await asyncio.sleep(_WATCH_SECONDS)
            try:
                async with self._database.read() as tx:
                    run = await get_run(tx, lease.run_id)
            except DevflowError as error:
                if error.code != "database_unavailable":
                    raise
                continue
            if run["epoch"] != lease.epoch:
                steps.cancel()
                raise Fenced(f"run {lease.run_id} was taken over")
            if run["requested_action"] == "abort":
                return "abort"
            if run["requested_action"] == "pause":
                asked_at = asked_at or clock()
                for context in holder:
                    context.safe_point.pause_requested = True
                if clock() - asked_at >= self._settings.pause_grace_seconds:
                    return "pause"

    async def _obey(self, lease: Lease, requested: str) -> None:
        async with self._database.fenced(lease) as tx:
            by = tx.row["requested_by"] or "somebody"
            note = tx.row["requested_note"]
            if RunState(tx.row["state"]).terminal:
                return
            # who asked for a pause may have asked for more since
            if "abort" in (requested, tx.row["requested_action"]):
                await lifecycle.abort_run(tx, by, note)
            elif tx.row["state"] != RunState.PAUSED:
                await lifecycle.pause_for_person(tx, by, note)
            else:
                await update_run(tx, requested_action=None, requested_by=None, requested_note=None)

    async def _stop(self, lease: Lease, raised: BaseException) -> None:
        error = error_of(raised)
        if error.code in _WAITED_OUT:
            raise error
        if error.code == "internal_error":
            _log.error("run %s failed", lease.run_id, exc_info=raised)
        async with self._database.fenced(lease) as tx:
            if RunState(tx.row["state"]).terminal:
                return
            if tx.row["requested_action"] == "abort":
                # whatever came in between, the person was told that the run ends
                await lifecycle.abort_run(tx, tx.row["requested_by"] or "somebody", tx.row["requested_note"])
            elif error.spec.effect is Effect.FAILED:
                phase = await phases.current_phase(tx, tx.run_id)
                await lifecycle.fail_run(tx, error, None if phase is None else phase["phase_key"])
            else:
                # what would have been refused before the run was created must not cost its work now
                await lifecycle.pause_run(tx, error.code, error.message)
