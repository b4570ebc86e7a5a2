"""Pushes to a run's branch, and its deletion.

A push while a gate is open may change what the gate asks about; then the engine posts it anew. Everything else about
a push the engine finds out by itself before it publishes again; what it has not taken up is noted, and shown as such.
"""

from sqlalchemy import RowMapping

from app.github.events import BranchDeleted, Pushed
from app.github.shapes import Person
from app.inbound.context import Context
from app.inbound.handlers.endings import end_runs
from app.inbound.responses import Handled, Reply, ignored
from app.inbound.router import on
from app.surface import replies
from app.surface.heads import note_head
from app.surface.replies import Say
from engine.domain.errors import DevflowError
from engine.domain.states import RunState


@on(Pushed)
async def pushed(context: Context, event: Pushed) -> Handled:
    """Let the run's gate follow what somebody pushed."""
    run = await context.engine.run_on_branch(context.repository.id, event.branch)
    if run is None or RunState(run["state"]).terminal:
        return ignored("no live run's branch")
    if event.deleted:
        return await _deleted(context, run, event.sender, event.branch)
    if event.after == run["head_sha"]:
        await _note_head(context, event, run)
        return ignored("the run's own commit")
    try:
        anew = await context.engine.refresh(run["run_id"])
    except DevflowError as error:
        if error.code != "approval_superseded":
            raise
        await _note_head(context, event, run)
        return await _invalid(context, event, run, error)
    await _note_head(context, event, run)
    return Handled("the gate was posted anew" if anew else "the gate stands")


@on(BranchDeleted)
async def branch_deleted(context: Context, event: BranchDeleted) -> Handled:
    """End the run whose branch is gone."""
    run = await context.engine.run_on_branch(context.repository.id, event.branch)
    if run is None or RunState(run["state"]).terminal:
        return ignored("no live run's branch")
    return await _deleted(context, run, event.sender, event.branch)


async def _note_head(context: Context, event: Pushed, run: RowMapping) -> None:
    """Note where the branch is by now, unless it is our own push, which the run may not have written down yet."""
    if not await context.github.is_ours(event.sender):
        await note_head(context.house.database, run["run_id"], await context.github.branch_head(event.branch))


async def _deleted(context: Context, run: RowMapping, by: Person, branch: str) -> Handled:
    if await context.github.branch_head(branch) is not None:
        return ignored("the branch is there again")
    return await end_runs(context, [run], by, "its branch was deleted")


async def _invalid(context: Context, event: Pushed, run: RowMapping, error: DevflowError) -> Handled:
    if event.sender.is_bot:
        return Handled(error.code)
    say = Say(run["options"].get("commands") == "prefixed")
    text = replies.edited_artifact_invalid(event.sender.login, error, say)
    return Handled(error.code, [Reply(f"push/{event.after}", run["issue_number"], text)])
