"""What a state says that was frozen or done with a run is held against the repository: contents, definitions, options.

As in `test_action_trust`, one thing is changed in the rows of a run that the App has made.
"""

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from app.action.trust import verify
from engine.domain.canonical import input_hash
from engine.domain.errors import DevflowError
from engine.facade import Engine
from engine.ports import Remote
from engine.store.tables import (
    approval_requests,
    artifacts,
    bindings,
    decisions,
    phases,
    run_inputs,
    runs,
    templates,
)
from tests.support.forged import CASSETTE, GATED, approved, bob, forge, refused, trusted
from tests.support.stage import stage


async def test_a_phase_that_is_said_to_be_done_has_passed_its_gate(tmp_path: Path, database_url: str) -> None:
    async with stage(tmp_path, database_url, phases=GATED) as play:
        issue, _ = await play.labelled()
        spec = phases.c.phase_key == "spec"

        await forge(play, update(phases).where(spec).values(state="skipped"))
        await refused(play, issue, "phase spec is said to be left out")
        await forge(play, update(phases).where(spec).values(state="completed"))
        await refused(play, issue, "phase spec has not passed its gate spec_approval")


async def test_artifact_bytes_that_were_changed_with_all_their_digests_are_refused(
    tmp_path: Path, database_url: str
) -> None:
    async with approved(tmp_path, database_url) as (play, issue, _):
        run_id = (await play.run(issue))["run_id"]
        spec = (artifacts.c.run_id == run_id) & (artifacts.c.phase_key == "spec")
        async with play.database.read() as tx:
            row = await tx.one(select(artifacts).where(spec))
        body = json.dumps(json.loads(row["body"]) | {"approach": "Delete everything."}).encode()
        digest = hashlib.sha256(body).hexdigest()
        of_phase = (phases.c.run_id == run_id) & (phases.c.phase_key == "spec")
        of_gate = (approval_requests.c.run_id == run_id) & (approval_requests.c.phase_key == "spec")

        await forge(play, update(artifacts).where(spec).values(body=body))
        await refused(play, issue, "not the one that was accepted")
        await forge(play, update(artifacts).where(spec).values(digest=digest))
        await forge(play, update(phases).where(of_phase).values(artifact_digest=digest))
        await refused(play, issue, "phase spec has not passed its gate")
        await forge(play, update(approval_requests).where(of_gate).values(bound_digest=digest))
        await refused(play, issue, "not the one on its branch")


async def test_a_commit_that_is_not_on_the_runs_branch_is_refused(tmp_path: Path, database_url: str) -> None:
    async with approved(tmp_path, database_url) as (play, issue, _):
        elsewhere = play.repository.commit("elsewhere", {"a.txt": "1"}, play.ada)
        await play.settled()
        spec = phases.c.phase_key == "spec"

        await forge(play, update(phases).where(spec).values(commit_sha=elsewhere))

        await refused(play, issue, "is not on the branch devflow/")


async def test_a_run_has_no_branch_but_its_own(tmp_path: Path, database_url: str) -> None:
    async with approved(tmp_path, database_url) as (play, issue, _):
        await forge(play, update(runs).values(branch="main"))

        await refused(play, issue, "its branch is not the one")


# What was frozen


async def test_a_base_commit_that_is_not_on_the_default_branch_is_refused(tmp_path: Path, database_url: str) -> None:
    async with approved(tmp_path, database_url) as (play, issue, _):
        own = play.repository.commit("mine", {".devflow/workflows/small.yaml": "name: mine\n"}, play.ada)
        await play.settled()

        await forge(play, update(runs).values(base_sha=own))

        await refused(play, issue, "base commit .* is not on the branch main")


async def test_a_template_without_the_gate_is_refused(tmp_path: Path, database_url: str) -> None:
    async with approved(tmp_path, database_url) as (play, issue, _):
        async with play.database.read() as tx:
            row = await tx.one(select(templates))
        body = json.loads(row["body"])
        for each in body["phases"]:
            each["gates"] = []
        forged = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        digest = hashlib.sha256(forged.encode()).hexdigest()
        async with play.database.transaction() as tx:
            await tx.execute(templates.insert().values(**(dict(row) | {"hash": digest, "body": forged})))
            await tx.execute(update(runs).values(template_hash=digest))

        await refused(play, issue, "its workflow is not what its base commit")


async def test_options_are_those_of_the_base_commit(tmp_path: Path, database_url: str) -> None:
    changes: dict[str, Any] = {
        "approvers": ["mallory"],
        "requester_may_approve": False,
        "required_approvals": 0,
        "commands": "prefixed",
        "checks": {"tests": {"run": "true", "timeout_seconds": 5}},
        "setup": ["curl evil"],
        "schemas": {},
        "prices": {"m": {"input": "0", "output": "0"}},
        "unheard_of": True,
    }
    async with approved(tmp_path, database_url) as (play, issue, _):
        options = (await play.run(issue))["options"]
        for name, value in changes.items():
            await forge(play, update(runs).values(options=options | {name: value}))
            await refused(play, issue, f"its {name} is not")

        await forge(play, update(runs).values(options=options))
        await trusted(play, issue)


async def test_the_accounts_of_approvers_are_not_what_a_state_says_alone(tmp_path: Path, database_url: str) -> None:
    async with stage(tmp_path, database_url, phases=GATED, approvers=["carol", "bob"]) as play:
        play.github.person("carol")
        bob(play)
        issue, run = await play.labelled()
        pull = await play.pull(issue)
        own = pull.comment(play.outsider, "/approve")
        await play.settled()
        pull.comment(bob(play), "/approve")
        await play.settled()
        await trusted(play, issue)  # bob, who may not push, is on the list
        ours = run_inputs.c.run_id == run["run_id"]
        async with play.database.read() as tx:
            row = await tx.one(select(run_inputs).where(ours))
        metadata = row["metadata"] | {"approver_ids": {"carol": play.outsider.id, "bob": bob(play).id}}
        hashed = input_hash(row["requirements_md"], row["objective"], metadata, row["extra"])

        await forge(play, update(run_inputs).where(ours).values(metadata=metadata, input_hash=hashed))
        await refused(play, issue, "what it was started with is not what its branch shows")

        # whoever may push can write that too
        path = f".devflow/runs/{run['run_id']}/trigger.json"
        play.repository.commit(run["branch"], {path: json.dumps({"input_hash": hashed})}, play.ada)
        await play.settled()
        mallorys = {"token": f"comment:{own.id}:1", "by": "mallory", "by_id": play.outsider.id}
        await forge(play, update(decisions).values(**mallorys))
        await refused(play, issue, "mallory may not approve now")


async def test_personas_are_those_of_the_base_commit_and_fit_their_roles(tmp_path: Path, database_url: str) -> None:
    async with approved(tmp_path, database_url) as (play, issue, _):
        async with play.database.read() as tx:
            row = await tx.one(select(bindings).where(bindings.c.role == "author"))
        author = bindings.c.role == "author"

        await forge(play, update(bindings).where(author).values(persona_hash="0" * 64))
        await refused(play, issue, "persona")
        await forge(play, update(bindings).where(author).values(**dict(row)))
        await forge(play, update(bindings).where(author).values(model="cheap"))
        await refused(play, issue, "its persona of the role author")


async def test_a_recording_is_the_one_that_is_given_here(tmp_path: Path, database_url: str) -> None:
    async with approved(tmp_path, database_url) as (play, issue, _):
        await refused(play, issue, "its agent is a recording", cassette=None)
        await refused(play, issue, "its agent is a recording", cassette=("other.yaml", CASSETTE[1]))


async def test_neither_sandbox_nor_budget_are_looser_than_here(tmp_path: Path, database_url: str) -> None:
    async with approved(tmp_path, database_url, budget_usd=2) as (play, issue, _):
        await trusted(play, issue)
        confined = replace(play.host.engine.settings, sandbox="auto")
        engine = Engine(confined, play.database, play.host.engine._services.remotes)
        github = await play.host.app.repository(play.repository.id)
        with pytest.raises(DevflowError, match="without a sandbox"):
            await verify(engine, github, issue.number, cassette=CASSETTE)

        for cap in (3, None):
            await forge(play, update(runs).values(budget_usd=cap))
            await refused(play, issue, "its cap on the cost is higher")


async def test_a_repository_that_cannot_be_asked_is_no_reason_for_distrust(tmp_path: Path, database_url: str) -> None:
    async with approved(tmp_path, database_url) as (play, issue, _):

        class Away:
            async def remote(self, repository_id: int, location: str) -> Remote:
                raise DevflowError("github_unavailable", "not now")

        github = await play.host.app.repository(play.repository.id)
        engine = Engine(play.host.engine.settings, play.database, Away())
        with pytest.raises(DevflowError, match="github_unavailable"):
            await verify(engine, github, issue.number, cassette=CASSETTE)
