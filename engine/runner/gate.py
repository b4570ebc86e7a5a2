"""After a phase's work is published: ask the people of its gates one after the other, then complete the phase."""

from engine import lifecycle
from engine.domain.events import PhaseCompleted
from engine.domain.states import PhaseState, RequestState, RunState
from engine.domain.workflow import PhaseSpec, Workflow
from engine.store import approvals, phases
from engine.store.database import FencedRun
from engine.store.events import append
from engine.store.runs import set_state


async def pass_gates(tx: FencedRun, workflow: Workflow, spec: PhaseSpec) -> bool:
    """Post the next request of the phase, or complete the phase where all its gates are passed.

    Returns whether the run can go on at once. The request is bound to the published content: a code phase to the
    commit's tree, any other to the artifact's digest. It needs as many approvals as the gate or the repository's
    configuration asks for, whichever is more.
    """
    phase = await phases.get_phase(tx, tx.run_id, spec.key)
    passed = {
        row["gate_key"]
        for row in await approvals.list_requests(tx, tx.run_id)
        if row["phase_key"] == spec.key
        and row["commit_sha"] == phase["commit_sha"]
        and row["state"] == RequestState.APPROVED
    }
    gate = next((gate for gate in workflow.gates_of(spec) if gate.key not in passed), None)
    if gate is None:
        # what somebody pushed beside the approved content is part of what was approved, and a retry starts from it
        await phases.set_phase_state(tx, spec.key, PhaseState.COMPLETED, commit_sha=tx.row["head_sha"])
        await append(tx, PhaseCompleted(phase_key=spec.key, round=phase["round"], attempts=phase["attempts"]))
        return True
    request, posted = await approvals.post_request(
        tx,
        phase_key=spec.key,
        gate_key=gate.key,
        required_approvals=max(gate.required_approvals, tx.row["options"].get("required_approvals", 1)),
        digest=phase["artifact_digest"],
        tree=phase["tree_sha"],
        commit=phase["commit_sha"],
    )
    if posted:
        await append(tx, lifecycle.approval_requested(request))
    await phases.set_phase_state(tx, spec.key, PhaseState.AWAITING_APPROVAL)
    await set_state(tx, RunState.AWAITING_APPROVAL)
    return False
