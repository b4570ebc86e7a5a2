"""The first commit of a run on a hosted repository: the issue as it was frozen, so that there is a branch to show.

Comes before the first phase, once the run is `executing` and while nothing of it has been pushed. It can be repeated: a
crash leaves a commit that no row knows, which is dropped when the run is opened again.
"""

from typing import Any

from engine.domain.artifact import artifact_bytes
from engine.domain.envelope import FrozenTrigger
from engine.domain.errors import DevflowError
from engine.domain.safe_text import clean_untrusted, fence, neutralise
from engine.runner.plan import Plan
from engine.store.database import Database, Lease
from engine.store.runs import get_run, update_run
from engine.workspace import publish
from engine.workspace.mirror import Mirror
from engine.workspace.secrets import redact_json

TRIGGER_SCHEMA = "devflow/trigger@1"
_PHASE_KEY = "trigger"
_LEFT_OUT = "(left out, because it looks like it holds a credential)"

Json = dict[str, Any]


async def publish_trigger(database: Database, lease: Lease, plan: Plan, mirror: Mirror, head_sha: str) -> str:
    """Push the frozen trigger on top of `head_sha` where the run is to show it and has pushed nothing yet.

    Returns the run's head. Errors as of any push: `push_conflict`, `push_rejected`, `github_unavailable`.
    """
    if not plan.options.get("publish_trigger"):
        return head_sha
    async with database.read() as tx:
        run = await get_run(tx, plan.run_id)
    if run["pushed_sha"] is not None:
        return head_sha
    files = await _files(plan)
    try:
        made = await _commit_and_push(lease, plan, mirror, head_sha, files)
    except DevflowError as error:
        if error.code != "push_conflict":
            raise
        # what a lost worker had on the wire landed after the run was opened: dropped, and tried once more
        await publish.drop_unrecorded(
            mirror, plan.branch, recorded=head_sha, pushed=None, run_id=plan.run_id, epoch=lease.epoch
        )
        made = await _commit_and_push(lease, plan, mirror, head_sha, files)
    async with database.fenced(lease) as fenced:
        await update_run(fenced, head_sha=made, pushed_sha=made)
    return made


async def _commit_and_push(lease: Lease, plan: Plan, mirror: Mirror, parent: str, files: dict[str, bytes]) -> str:
    made = await publish.commit_files(
        mirror,
        plan.branch,
        parent=parent,
        message=f"Start run {plan.number} for issue {plan.issue_number}\n\n{plan.title}",
        trailers=publish.trailers(plan.run_id, _PHASE_KEY, lease.epoch),
        files=files,
    )
    await publish.push(mirror, plan.branch, made, expected=None)
    return made


async def _files(plan: Plan) -> dict[str, bytes]:
    """Return the two files by path, without what looks like a credential."""
    metadata = plan.inputs["metadata"]
    by, trigger = str(metadata.get("requested_by", "")), redact_json(plan.trigger.to_json())
    files = _as_files(plan, by, trigger)
    if await publish.inspect_files(files):
        # what shows only in the finished file: the texts go, and the names stay
        trigger |= {"body": _LEFT_OUT, "title": _LEFT_OUT, "comments": []}
        files = _as_files(plan, by, trigger)
    return files


def _as_files(plan: Plan, by: str, trigger: Json) -> dict[str, bytes]:
    content = {
        "schema": TRIGGER_SCHEMA,
        "run_id": str(plan.run_id),
        "issue_number": plan.issue_number,
        "requested_by": by,
        "input_hash": plan.inputs["input_hash"],
        "trigger": trigger,
    }
    folder = f".devflow/runs/{plan.run_id}"
    markdown = _markdown(plan.issue_number, by, FrozenTrigger.from_json(trigger))
    return {f"{folder}/trigger.json": artifact_bytes(content), f"{folder}/trigger.md": markdown.encode()}


def _markdown(issue_number: int, by: str, trigger: FrozenTrigger) -> str:
    lines = [f"# {neutralise(' '.join(trigger.title.split()))}", ""]
    lines += [f"Issue {issue_number}, as it stood when {neutralise(by)} triggered the run. Later edits change nothing."]
    lines += ["", _said_by(trigger.author, trigger.permission), "", fence(clean_untrusted(trigger.body))]
    for number, comment in enumerate(trigger.comments, 1):
        lines += ["", f"## Comment {number}", "", _said_by(comment.author, comment.permission)]
        lines += ["", fence(clean_untrusted(comment.body))]
    if trigger.omitted_comments:
        lines += ["", f"{trigger.omitted_comments} more comments were left out."]
    return "\n".join(lines) + "\n"


def _said_by(author: str, permission: str) -> str:
    rights = f" (permission: {neutralise(permission)})" if permission else ""
    return f"By {neutralise(author) or 'nobody who is known'}{rights}:"
