"""Before an approval counts: does the branch still hold the content that the gate asked about?

A person may have pushed in between. Where the bound content is the same, the approval stands and the run goes on from
what they pushed; where it differs, the request is superseded, posted anew for the new content, and the approver told.
"""

from sqlalchemy import RowMapping

from engine import lifecycle
from engine.domain.artifact import digest, parse_artifact, validate_artifact
from engine.domain.errors import DevflowError
from engine.domain.states import RequestState, RunState
from engine.runner.plan import Plan, load_plan
from engine.services import Services
from engine.store import approvals, phases
from engine.store.database import LockedRun
from engine.store.events import append
from engine.store.runs import get_location, update_run
from engine.workspace.mirror import Mirror


async def refresh_gate(services: Services, run: RowMapping) -> None:
    """Follow what was pushed to the run's branch since its gate was posted; raises `approval_superseded`.

    The worktree stays as it is: a phase that begins brings it up to the run's head.
    """
    database = services.database
    async with database.read() as tx:
        request = await approvals.pending_request(tx, run["run_id"])
    if request is None or request["phase_key"] == approvals.OUTSIDE_PHASE or request["commit_sha"] is None:
        return
    mirror, head = await _fetch_head(services, run)
    if head is None:
        return
    plan = await load_plan(database, run["run_id"])
    tree = await mirror.tree_of(head)
    path = f".devflow/runs/{run['run_id']}/{request['phase_key']}.json"
    content = (await mirror.read_files(head, [path])).get(path)
    if _same(plan, request, tree, content):
        async with database.locked(run["run_id"]) as tx:
            if await _still_pending(tx, request):
                await update_run(tx, head_sha=head, pushed_sha=head)
        return
    if request["bound_digest"] is not None:
        _check_edited(plan, request, content)
    async with database.locked(run["run_id"]) as tx:
        if await _still_pending(tx, request):
            await _supersede(tx, request, head, tree, content)
    raise DevflowError(
        "approval_superseded", f"somebody pushed {head[:12]} since; the gate now stands for that, look at it again"
    )


async def pushed_since(services: Services, run: RowMapping) -> str | None:
    """Return the commit to which somebody has moved the branch of a run that waits at a gate, None where nobody has."""
    if run["state"] != RunState.AWAITING_APPROVAL:
        return None
    return (await _fetch_head(services, run))[1]


async def _fetch_head(services: Services, run: RowMapping) -> tuple[Mirror, str | None]:
    async with services.database.read() as tx:
        location = await get_location(tx, run["repository_id"])
    remote = await services.remotes.remote(run["repository_id"], location)
    mirror = await Mirror.open(services.settings.mirrors, run["repository_id"], remote)
    head = await mirror.head_of_remote(run["branch"])
    if head is None or head == run["head_sha"]:
        return mirror, None
    await mirror.fetch(run["branch"], head)
    return mirror, head


def _same(plan: Plan, request: RowMapping, tree: str, content: bytes | None) -> bool:
    if request["bound_digest"] is None or plan.workflow.is_code_phase(plan.workflow.phase(request["phase_key"])):
        return bool(tree == request["bound_tree"])
    return content is not None and bool(digest(content) == request["bound_digest"])


def _check_edited(plan: Plan, request: RowMapping, content: bytes | None) -> None:
    """Raise `approval_superseded` where what stands on the branch now is no valid artifact; the request stays."""
    spec = plan.workflow.phase(request["phase_key"])
    if spec.expected_artifact is None:
        return
    artifact, errors = parse_artifact(content) if content is not None else (None, [])
    if artifact is not None:
        errors = validate_artifact(artifact, plan.schema(spec.expected_artifact.schema_id))
    if artifact is None or errors:
        why = "; ".join(f"{error.path}: {error.message}" for error in errors) or "the file is gone"
        raise DevflowError(
            "approval_superseded",
            f"the artifact of phase {spec.key} was changed on the branch and is not valid now: {why}",
            recovery_hint="mend the file on the branch, or answer with revise",
        )


async def _still_pending(tx: LockedRun, request: RowMapping) -> bool:
    pending = await approvals.pending_request(tx, tx.run_id)
    return pending is not None and pending["request_id"] == request["request_id"]


async def _supersede(tx: LockedRun, request: RowMapping, head: str, tree: str, content: bytes | None) -> None:
    event = lifecycle.approval_resolved(request, "superseded", "devflow", f"the branch moved to {head[:12]}")
    await lifecycle.close_request(tx, request, RequestState.SUPERSEDED, event)
    key = request["phase_key"]
    phase = await phases.get_phase(tx, tx.run_id, key)
    stored = await phases.current_artifact(tx, tx.run_id, phase)
    new_digest = phase["artifact_digest"]
    if stored is not None and content is not None:
        new_digest = digest(content)
        await phases.save_artifact(
            tx, phase, path=stored["path"], schema=stored["schema"], body=content, digest=new_digest, errors=[]
        )
        await phases.mark_artifact_committed(tx, phase, head)
    await phases.update_phase(tx, key, artifact_digest=new_digest, commit_sha=head, tree_sha=tree)
    await update_run(tx, head_sha=head, pushed_sha=head)
    posted, _ = await approvals.post_request(
        tx,
        phase_key=key,
        gate_key=request["gate_key"],
        required_approvals=request["required_approvals"],
        digest=new_digest,
        tree=tree,
        commit=head,
    )
    await append(tx, lifecycle.approval_requested(posted))
