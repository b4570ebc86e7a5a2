"""Does the run's branch still hold the content that its gate asks about, and is it what a person saw?

A person may have pushed since the gate was posted. Where the bound content is the same, the request stands and the run
goes on from what they pushed; where it differs, the request is superseded and posted anew for the new content. Rule 7
of gates is here: the digest of the artifact counts after a document phase, the tree after a code phase.
"""

import json
import re
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import RowMapping

from engine import lifecycle
from engine.domain.artifact import ENGINE_FIELDS, ArtifactError, digest, parse_artifact, validate_artifact
from engine.domain.errors import DevflowError
from engine.domain.states import Action, RequestState, RunState
from engine.runner.plan import Plan, load_plan
from engine.services import Services
from engine.store import approvals, phases
from engine.store.database import LockedRun
from engine.store.events import append
from engine.store.runs import get_location, get_run, update_run
from engine.workspace.mirror import Mirror

_SHA = re.compile(r"[0-9a-f]{7,40}")
_AT_GATE = (RunState.AWAITING_APPROVAL, RunState.PAUSED)
_TRIES = 3
Json = dict[str, Any]


@dataclass(frozen=True)
class Checked:
    """What the branch says to an answer.

    `request_id` is the request whose content is on the branch (None: nothing is asked that is bound to content), and
    `pushed` the commit to which somebody has moved the branch of a run that waits.
    """

    request_id: UUID | None = None
    pushed: str | None = None


@dataclass(frozen=True)
class _Content:
    """What a gate can be bound to, in one commit: its tree, and the artifact of the gate's phase, if it is there."""

    commit: str
    tree: str
    artifact: bytes | None


@dataclass(frozen=True)
class _Gate:
    """A pending request that is bound to content, and the commit at which the run's branch is."""

    services: Services
    run: RowMapping
    request: RowMapping
    plan: Plan
    mirror: Mirror
    head: str

    @property
    def moved(self) -> bool:
        """Whether somebody has moved the branch."""
        return bool(self.head != self.run["head_sha"])

    async def content(self, commit: str) -> _Content:
        """Return what a commit that is here holds."""
        path = f".devflow/runs/{self.run['run_id']}/{self.request['phase_key']}.json"
        artifact = (await self.mirror.read_files(commit, [path])).get(path)
        return _Content(commit, await self.mirror.tree_of(commit), artifact)

    async def seen(self, sha: str) -> _Content:
        """Return what the commit holds that a person names; raises `approval_superseded` for one that is unknown."""
        commit = await self._find(sha.strip().lower())
        if commit is None:
            now = str(self.request["commit_sha"])[:12]
            raise DevflowError("approval_superseded", f"{sha[:12]!r} names no commit here; the gate stands for {now}")
        return await self.content(commit)

    def bound(self, content: _Content) -> bool:
        """Whether this is the content that the request is bound to."""
        if self._by_tree():
            return bool(content.tree == self.request["bound_tree"])
        return content.artifact is not None and bool(digest(content.artifact) == self.request["bound_digest"])

    def equal(self, one: _Content, other: _Content) -> bool:
        """Whether two commits hold the same, as far as the gate is concerned."""
        return one.tree == other.tree if self._by_tree() else one.artifact == other.artifact

    async def check_edited(self, content: _Content) -> None:
        """Raise `approval_superseded` where what stands on the branch now is no valid artifact; the request stays.

        What the engine wrote into it, such as the results of checks, has to be as it was: that is evidence.
        """
        spec = self.plan.workflow.phase(self.request["phase_key"])
        if spec.expected_artifact is None or self.request["bound_digest"] is None:
            return
        artifact, errors = parse_artifact(content.artifact) if content.artifact is not None else (None, [])
        if artifact is not None:
            errors = validate_artifact(artifact, self.plan.schema(spec.expected_artifact.schema_id))
            errors += await self._forged(artifact)
        if artifact is None or errors:
            why = "; ".join(f"{error.path}: {error.message}" for error in errors) or "the file is gone"
            raise DevflowError(
                "approval_superseded",
                f"the artifact of phase {spec.key} was changed on the branch and is not valid now: {why}",
                recovery_hint="mend the file on the branch, or answer with revise",
                details={"commit": content.commit, "errors": [error.to_json() for error in errors]},
            )

    async def follow(self) -> bool:
        """Note where the branch is now, its content being the same; False where the gate is not pending any more."""
        async with self.services.database.locked(self.run["run_id"]) as tx:
            pending = await self._still_pending(tx)
            if pending:
                await update_run(tx, head_sha=self.head, pushed_sha=self.head)
            return pending

    async def supersede(self, content: _Content) -> UUID | None:
        """Post the request anew for other content; returns the new one, None where this one is not pending any more."""
        async with self.services.database.locked(self.run["run_id"]) as tx:
            return await _post_anew(tx, self.request, content) if await self._still_pending(tx) else None

    async def _forged(self, artifact: Json) -> list[ArtifactError]:
        async with self.services.database.read() as tx:
            phase = await phases.get_phase(tx, self.run["run_id"], self.request["phase_key"])
            stored = await phases.current_artifact(tx, self.run["run_id"], phase)
        written: Json = {} if stored is None else json.loads(stored["body"])
        changed = [name for name in ENGINE_FIELDS if artifact.get(name) != written.get(name)]
        return [ArtifactError(f"/{name}", "this is the engine's, and was changed") for name in changed]

    def _by_tree(self) -> bool:
        workflow = self.plan.workflow
        return self.request["bound_digest"] is None or workflow.is_code_phase(workflow.phase(self.request["phase_key"]))

    async def _find(self, sha: str) -> str | None:
        if not _SHA.fullmatch(sha):
            return None
        if len(sha) == 40 and not await self.mirror.has(sha):
            try:
                await self.mirror.fetch(self.run["branch"], sha)
            except DevflowError as error:
                if error.code != "base_not_found":
                    raise
                return None
        for known in (str(self.request["commit_sha"]), self.head):
            if known.startswith(sha):
                return known
        return await self.mirror.git.ref(f"{sha}^{{commit}}")

    async def _still_pending(self, tx: LockedRun) -> bool:
        pending = await approvals.pending_request(tx, tx.run_id)
        return pending is not None and pending["request_id"] == self.request["request_id"]


async def refresh(services: Services, run_id: UUID) -> bool:
    """Follow a push to the branch of a run that waits; returns whether its gate was posted anew.

    Raises `approval_superseded` where the artifact was edited and is not valid now. A push of the engine's own costs
    one question to the remote.
    """
    async with services.database.read() as tx:
        run = await get_run(tx, run_id)
    gate = await _look(services, run)
    if gate is None or not gate.moved:
        return False
    content = await gate.content(gate.head)
    if gate.bound(content):
        await gate.follow()
        return False
    await gate.check_edited(content)
    return await gate.supersede(content) is not None


async def check_answer(services: Services, run: RowMapping, action: Action, sha: str | None) -> Checked:
    """Return what the branch of a waiting run says to an answer, `sha` being the commit that the person saw.

    For an approval, the run follows what was pushed: content that differs supersedes the request, and the approval
    counts for the new one only where `sha` holds just that content. Raises `approval_superseded` otherwise.
    """
    if action is Action.REJECT and not sha:
        return Checked()  # whatever the branch holds by now, it was not wanted
    for _ in range(_TRIES):
        gate = await _look(services, run)
        if gate is None:
            return Checked()
        checked = await (_approval(gate, sha) if action is Action.APPROVE else _other(gate, sha))
        if checked is not None:
            return checked
        async with services.database.read() as tx:
            run = await get_run(tx, run["run_id"])
    raise DevflowError("approval_superseded", "the gate changes faster than it can be answered; look at it again")


async def _approval(gate: _Gate, sha: str | None) -> Checked | None:
    """Return what an approval may count for; None where the gate was answered or posted anew meanwhile."""
    seen = await gate.seen(sha) if sha else None
    request_id: UUID = gate.request["request_id"]
    head = await gate.content(gate.head) if gate.moved else None
    if head is None or gate.bound(head):
        if head is not None and not await gate.follow():
            return None
        if seen is not None and not gate.bound(seen):
            now = str(gate.request["commit_sha"])[:12]
            raise DevflowError("approval_superseded", f"the gate stands for commit {now}, not {seen.commit[:12]}")
        return Checked(request_id)
    await gate.check_edited(head)
    posted = await gate.supersede(head)
    if posted is None:
        return None
    if seen is not None and gate.equal(seen, head):
        return Checked(posted)
    raise DevflowError(
        "approval_superseded",
        f"somebody pushed {gate.head[:12]} since; the gate now stands for that, look at it again",
        details={"commit": gate.head, "request_id": str(posted)},
    )


async def _other(gate: _Gate, sha: str | None) -> Checked:
    """Return what a revision or a rejection may count for: it may also speak of what was pushed since."""
    if sha:
        seen = await gate.seen(sha)
        if not gate.bound(seen) and not (gate.moved and gate.equal(seen, await gate.content(gate.head))):
            now = str(gate.request["commit_sha"])[:12]
            raise DevflowError("approval_superseded", f"the gate stands for commit {now}, not {seen.commit[:12]}")
    waiting = gate.run["state"] == RunState.AWAITING_APPROVAL
    return Checked(gate.request["request_id"], gate.head if gate.moved and waiting else None)


async def _look(services: Services, run: RowMapping) -> _Gate | None:
    """Return the gate at which a run waits, None where it asks nothing that is bound to content."""
    if run["state"] not in _AT_GATE:
        return None
    async with services.database.read() as tx:
        request = await approvals.pending_request(tx, run["run_id"])
        location = await get_location(tx, run["repository_id"])
    if request is None or request["phase_key"] == approvals.OUTSIDE_PHASE or request["commit_sha"] is None:
        return None
    remote = await services.remotes.remote(run["repository_id"], location)
    mirror = await Mirror.open(services.settings.mirrors, run["repository_id"], remote)
    head = await mirror.head_of_remote(run["branch"]) or run["head_sha"]
    if head != run["head_sha"]:
        await mirror.fetch(run["branch"], head)
    return _Gate(services, run, request, await load_plan(services.database, run["run_id"]), mirror, head)


async def _post_anew(tx: LockedRun, request: RowMapping, content: _Content) -> UUID:
    event = lifecycle.approval_resolved(request, "superseded", "devflow", f"the branch moved to {content.commit[:12]}")
    await lifecycle.close_request(tx, request, RequestState.SUPERSEDED, event)
    key = request["phase_key"]
    phase = await phases.get_phase(tx, tx.run_id, key)
    stored = await phases.current_artifact(tx, tx.run_id, phase)
    new_digest = phase["artifact_digest"]
    if stored is not None and content.artifact is not None:
        new_digest = digest(content.artifact)
        await phases.save_artifact(
            tx, phase, path=stored["path"], schema=stored["schema"], body=content.artifact, digest=new_digest, errors=[]
        )
        await phases.mark_artifact_committed(tx, phase, content.commit)
    await phases.update_phase(tx, key, artifact_digest=new_digest, commit_sha=content.commit, tree_sha=content.tree)
    await update_run(tx, head_sha=content.commit, pushed_sha=content.commit)
    posted, _ = await approvals.post_request(
        tx,
        phase_key=key,
        gate_key=request["gate_key"],
        required_approvals=request["required_approvals"],
        digest=new_digest,
        tree=content.tree,
        commit=content.commit,
    )
    await append(tx, lifecycle.approval_requested(posted))
    request_id: UUID = posted["request_id"]
    return request_id
