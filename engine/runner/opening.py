"""Opening a run for work: its frozen plan, its mirror and worktree, and order after a worker that was lost."""

from sqlalchemy import func

from engine import lifecycle, models
from engine.domain.errors import DevflowError
from engine.domain.events import RunStarted
from engine.domain.pricing import Price, PriceTable
from engine.domain.states import PhaseState, RunState
from engine.metering import settle_orphans
from engine.runner import setup
from engine.runner.context import RunContext
from engine.runner.plan import Plan, load_plan
from engine.runner.trigger import publish_trigger
from engine.services import Services
from engine.settings import Settings
from engine.store import phases, sessions
from engine.store.database import FencedRun, Lease
from engine.store.events import append
from engine.store.runs import get_location, set_state, update_run
from engine.workspace import publish, sandbox
from engine.workspace.mirror import Mirror
from engine.workspace.worktree import Worktree


async def open_run(services: Services, lease: Lease) -> RunContext:
    """Return everything that the steps of this advance need; the run is `executing` then.

    What a lost worker left half done is put in order first: commits that no row knows are dropped, calls that nobody
    ended are charged, and a phase whose worktree is gone starts its attempt anew.
    """
    settings, database = services.settings, services.database
    plan = await load_plan(database, lease.run_id)
    chosen = await sandbox.choose(plan.options["sandbox"], sandbox.Toolchain.detect(settings.toolchain_paths))
    async with database.read() as tx:
        location = await get_location(tx, plan.repository_id)
    remote = await services.remotes.remote(plan.repository_id, location)
    mirror = await Mirror.open(settings.mirrors, plan.repository_id, remote)
    async with database.fenced(lease) as tx:
        await settle_orphans(tx)
        head_sha: str = tx.row["head_sha"]
        pushed_sha: str | None = tx.row["pushed_sha"]
    await mirror.fetch(plan.base_branch if pushed_sha is None else plan.branch, head_sha)
    dropped = await publish.drop_unrecorded(
        mirror, plan.branch, recorded=head_sha, pushed=pushed_sha, run_id=plan.run_id, epoch=lease.epoch
    )
    worktree = await Worktree.open(mirror, settings.workspaces, plan.run_id, head_sha)
    async with database.fenced(lease) as tx:
        await _begin(tx, chosen.name, dropped)
        await _forget_lost_work(tx, worktree.token)
    head_sha = await publish_trigger(database, lease, plan, mirror, head_sha)
    context = RunContext(
        services=services,
        lease=lease,
        plan=plan,
        location=location,
        mirror=mirror,
        worktree=worktree,
        sandbox=chosen,
        prices=_prices(settings, plan),
        head_sha=head_sha,
    )
    context.setup_leftovers = await setup.run_setup(context)
    return context


def _prices(settings: Settings, plan: Plan) -> PriceTable:
    frozen = {name: Price.model_validate(value) for name, value in plan.options["prices"].items()}
    return models.load_prices(settings, frozen)


async def _begin(tx: FencedRun, sandbox_name: str, dropped: list[str]) -> None:
    state = RunState(tx.row["state"])
    if state is RunState.CREATED:
        await set_state(tx, RunState.EXECUTING, started_at=func.clock_timestamp(), sandbox=sandbox_name)
        await append(tx, RunStarted(sandbox=sandbox_name))
        return
    if state is not RunState.EXECUTING:
        raise DevflowError("illegal_transition", f"a run that is {state} cannot be worked on")
    if tx.row["sandbox"] != sandbox_name:
        await update_run(tx, sandbox=sandbox_name)
    if tx.lease.taken_over or dropped:
        await lifecycle.note_resumed(tx, "its worker was lost", dropped)


async def _forget_lost_work(tx: FencedRun, worktree_token: str) -> None:
    """Where the worktree is new, what an attempt did in the old one is lost: it works again, in a new session."""
    for row in await phases.list_phases(tx, tx.run_id):
        if row["state"] == PhaseState.VALIDATING:
            session = await sessions.find_session(tx, row["phase_key"], row["round"], worktree_token)
            if session is None:
                await phases.set_phase_state(tx, row["phase_key"], PhaseState.RUNNING)
