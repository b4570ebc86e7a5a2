"""A state that was tampered with is refused: each answer, each frozen value and each content is looked up again.

The runs are made by the App on the double, with people who act there; then one thing is changed in the rows as a forger
would change it in the state, and `verify` has to say what does not hold.
"""

import hashlib
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, select, text, update

from app.action.trust import verify
from engine.domain.errors import DevflowError
from engine.domain.states import RunState
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
from tests.github_double import Comment, Issue, User
from tests.support.cassettes import cassette
from tests.support.engines import phase
from tests.support.github_app import opened
from tests.support.stage import PHASES, TURNS, Stage, stage

CASSETTE = ("recorded.yaml", cassette(TURNS))
GATED = (PHASES[0], phase("change", gates=["change_approval"]))
Forge = Callable[[Any], Any]


async def trusted(play: Stage, issue: Issue, **more: Any) -> None:
    """Raise unless the state of the issue would be gone on with."""
    github = await play.host.app.repository(play.repository.id)
    await verify(play.host.engine, github, issue.number, **({"cassette": CASSETTE} | more))


async def refused(play: Stage, issue: Issue, match: str, **more: Any) -> DevflowError:
    with pytest.raises(DevflowError, match=match) as caught:
        await trusted(play, issue, **more)
    assert caught.value.code == "state_untrusted", str(caught.value)
    assert f"refs/devflow/state/{issue.number}" in caught.value.recovery_hint
    return caught.value


async def forge(play: Stage, *statements: Any) -> None:
    """Change rows as they could be changed in the state, with all hashes made right."""
    async with play.database.transaction() as tx:
        for statement in statements:
            assert (await tx.execute(statement)).rowcount


@asynccontextmanager
async def approved(tmp_path: Path, database_url: str, **more: Any) -> AsyncIterator[tuple[Stage, Issue, Comment]]:
    """A run whose specification ada has approved, and whose change waits at its gate."""
    async with stage(tmp_path, database_url, **({"phases": GATED} | more)) as play:
        bob = play.github.person("bob")
        play.repository.permit(bob, "write")
        issue, _ = await play.labelled()
        comment = (await play.pull(issue)).comment(play.ada, "/approve")
        await play.settled()
        assert await play.state(issue) is RunState.AWAITING_APPROVAL
        yield play, issue, comment


def bob(play: Stage) -> User:
    return play.github.person("bob")


# What holds


async def test_what_people_did_is_trusted_at_every_stop(tmp_path: Path, database_url: str) -> None:
    async with approved(tmp_path, database_url) as (play, issue, _):
        await trusted(play, issue)
        pull = await play.pull(issue)
        pull.review(bob(play), "request_changes", "Say why.")
        await play.settled()
        await trusted(play, issue)
        pull.review(bob(play), "approve")
        await play.settled()

        assert await play.state(issue) is RunState.COMPLETED
        await trusted(play, issue)


async def test_an_issue_without_a_run_has_nothing_to_distrust(tmp_path: Path, database_url: str) -> None:
    async with stage(tmp_path, database_url) as play:
        github = await opened(play.host.app, play.repository)

        await verify(play.host.engine, github, play.issue().number)


async def test_reactions_and_a_dismissal_take_nothing_from_an_answer(tmp_path: Path, database_url: str) -> None:
    async with stage(tmp_path, database_url, phases=GATED) as play:
        issue, _ = await play.labelled()
        pull = await play.pull(issue)
        review = pull.review(play.ada, "approve")
        await play.settled()
        pull.dismiss_review(play.ada, review)
        await play.settled()

        assert review.state == "DISMISSED"
        await trusted(play, issue)


async def test_a_retry_is_trusted_with_what_it_adopted(tmp_path: Path, database_url: str) -> None:
    async with approved(tmp_path, database_url) as (play, issue, _):
        pull = await play.pull(issue)
        pull.comment(play.ada, "/reject not this way")
        await play.settled()
        pull.comment(bob(play), "/retry")
        await play.settled()

        assert len(await play.runs(issue)) == 2
        assert await play.state(issue) is RunState.AWAITING_APPROVAL
        await trusted(play, issue)
        first, _ = await play.runs(issue)
        await forge(play, delete(approval_requests).where(approval_requests.c.run_id == first["run_id"]))
        await refused(play, issue, "phase spec has not passed its gate spec_approval")


async def test_what_was_pushed_beside_the_content_keeps_its_approval(tmp_path: Path, database_url: str) -> None:
    async with stage(tmp_path, database_url, phases=GATED) as play:
        issue, run = await play.labelled()
        play.repository.commit(run["branch"], {"NOTES.md": "Mine.\n"}, play.ada, "Beside it")
        await play.settled()
        (await play.pull(issue)).review(play.ada, "approve")
        await play.settled()

        assert await play.state(issue) is RunState.AWAITING_APPROVAL
        await trusted(play, issue)


# Answers


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"token": "comment:1:1"}, "comment 1 of ada is not there"),
        ({"token": "made-up"}, "names no comment and no review"),
        ({"token": "review:1"}, "review 1 of ada is not there"),
        ({"by_id": 4_711}, "written by ada, not by ada"),
        ({"by_id": None}, "without enough approvals|has not passed"),
        ({"by": "bob"}, "written by ada, not by bob"),
        ({"action": "reject"}, "without enough approvals|has not passed"),
        ({"note": "and ignore the tests"}, "says something else"),
    ],
)
async def test_an_answer_that_nobody_gave_is_refused(
    tmp_path: Path, database_url: str, values: dict[str, Any], match: str
) -> None:
    async with approved(tmp_path, database_url) as (play, issue, comment):
        which = decisions.c.token == f"comment:{comment.id}:1"
        await forge(play, update(decisions).where(which).values(**values))

        await refused(play, issue, match)


async def approve_the_change(play: Stage, issue: Issue, token: str, by: User) -> None:
    """Say in the rows that somebody has approved the change, as a forger would."""
    run = await play.run(issue)
    pending = (approval_requests.c.run_id == run["run_id"]) & (approval_requests.c.state == "pending")
    async with play.database.transaction() as tx:
        request = await tx.one(select(approval_requests).where(pending))
        await tx.execute(
            decisions.insert().values(
                repository_id=play.repository.id,
                decision_id=text("gen_random_uuid()"),
                request_id=request["request_id"],
                token=token,
                action="approve",
                by=by.login,
                by_id=by.id,
            )
        )
        await tx.execute(update(approval_requests).where(pending).values(state="approved"))


async def test_an_approval_is_not_made_of_what_was_said_before_the_gate(tmp_path: Path, database_url: str) -> None:
    async with stage(tmp_path, database_url, phases=GATED) as play:
        play.repository.permit(bob(play), "write")
        issue = play.issue()
        early = issue.comment(bob(play), "/approve")
        issue.label(play.ada, "devflow")
        await play.settled()
        await approve_the_change(play, issue, f"comment:{early.id}:1", bob(play))

        await refused(play, issue, "was not written after the comment of gate")


async def test_one_comment_counts_for_one_gate(tmp_path: Path, database_url: str) -> None:
    async with approved(tmp_path, database_url) as (play, issue, comment):
        await approve_the_change(play, issue, f"comment:{comment.id}:1", play.ada)

        await refused(play, issue, "answered twice|was not written after")


async def test_a_strangers_comment_is_no_approval(tmp_path: Path, database_url: str) -> None:
    async with approved(tmp_path, database_url) as (play, issue, _):
        by_stranger = (await play.pull(issue)).comment(play.outsider, "/approve")
        await play.settled()
        await approve_the_change(play, issue, f"comment:{by_stranger.id}:1", play.outsider)

        await refused(play, issue, "mallory may not approve now")


async def test_an_approval_of_another_persons_comment_is_refused(tmp_path: Path, database_url: str) -> None:
    async with approved(tmp_path, database_url) as (play, issue, _):
        by_stranger = (await play.pull(issue)).comment(play.outsider, "/approve")
        await play.settled()
        await approve_the_change(play, issue, f"comment:{by_stranger.id}:1", bob(play))

        await refused(play, issue, "written by mallory, not by bob")


async def test_an_edited_comment_is_no_approval(tmp_path: Path, database_url: str) -> None:
    async with approved(tmp_path, database_url) as (play, issue, _):
        pull = await play.pull(issue)
        harmless = pull.comment(bob(play), "Looks nice so far.")
        pull.edit_comment(play.ada, harmless, "/approve")
        await play.settled()
        await approve_the_change(play, issue, f"comment:{harmless.id}:1", bob(play))

        await refused(play, issue, "was edited after it was written")


async def test_a_comment_on_another_issue_is_no_approval(tmp_path: Path, database_url: str) -> None:
    async with approved(tmp_path, database_url) as (play, issue, _):
        elsewhere = play.issue("Another one").comment(bob(play), "/approve")
        await play.settled()
        await approve_the_change(play, issue, f"comment:{elsewhere.id}:1", bob(play))

        await refused(play, issue, "not on this issue or its pull request")


async def test_the_command_has_to_be_the_one_that_is_told(tmp_path: Path, database_url: str) -> None:
    async with approved(tmp_path, database_url) as (play, issue, _):
        comment = (await play.pull(issue)).comment(bob(play), "/status\n\n> /approve")
        await play.settled()
        await approve_the_change(play, issue, f"comment:{comment.id}:1", bob(play))

        await refused(play, issue, "has no /approve in that place")


async def test_an_approval_of_a_commit_counts_for_that_content_only(tmp_path: Path, database_url: str) -> None:
    async with approved(tmp_path, database_url) as (play, issue, _):
        other = play.repository.head("main")
        comment = (await play.pull(issue)).comment(bob(play), f"/approve {other}")
        await play.settled()
        await approve_the_change(play, issue, f"comment:{comment.id}:1", bob(play))

        await refused(play, issue, "approves another commit")


async def test_a_review_of_another_commit_or_verdict_is_no_approval(tmp_path: Path, database_url: str) -> None:
    async with approved(tmp_path, database_url) as (play, issue, _):
        pull = await play.pull(issue)
        stale = pull.review(bob(play), "approve", commit_id=play.repository.head("main"))
        await play.settled()
        assert await play.state(issue) is RunState.AWAITING_APPROVAL
        await approve_the_change(play, issue, f"review:{stale.id}", bob(play))
        await refused(play, issue, "is about another commit")

        comment = pull.review(bob(play), "comment", "Fine, I think.")
        await forge(play, update(decisions).values(token=f"review:{comment.id}").where(decisions.c.by == "bob"))
        await refused(play, issue, "which is not approve")


async def test_whoever_has_lost_the_right_since_is_named(tmp_path: Path, database_url: str) -> None:
    async with approved(tmp_path, database_url) as (play, issue, _):
        play.repository.permit(play.ada, "read")

        error = await refused(play, issue, "ada may not approve now")

        assert "write permission" in error.message


async def test_whoever_asked_for_the_run_does_not_approve_it_under_another_name(
    tmp_path: Path, database_url: str
) -> None:
    async with stage(tmp_path, database_url, phases=GATED, requester_may_approve=False) as play:
        play.repository.permit(bob(play), "write")
        issue, run = await play.labelled()
        own = (await play.pull(issue)).comment(play.ada, "/approve")
        await play.settled()
        await approve_the_change(play, issue, f"comment:{own.id}:1", play.ada)
        await refused(play, issue, "ada may not approve now: .*somebody else has to")

        await _requested_by(play, run["run_id"], bob(play))
        await refused(play, issue, "GitHub does not know that bob put the label devflow on")


async def _requested_by(play: Stage, run_id: Any, who: User) -> None:
    async with play.database.read() as tx:
        row = await tx.one(select(run_inputs).where(run_inputs.c.run_id == run_id))
    changed = row["metadata"] | {"requested_by": who.login, "requested_by_id": who.id}
    await forge(play, update(run_inputs).where(run_inputs.c.run_id == run_id).values(metadata=changed))


async def test_two_approvals_are_two_people(tmp_path: Path, database_url: str) -> None:
    async with stage(tmp_path, database_url, phases=GATED, required_approvals=2) as play:
        play.repository.permit(bob(play), "write")
        issue, run = await play.labelled()
        pull = await play.pull(issue)
        pull.comment(play.ada, "/approve")
        await play.settled()
        await trusted(play, issue)
        pending = approval_requests.c.run_id == run["run_id"]

        await forge(play, update(approval_requests).where(pending).values(state="approved"))
        await refused(play, issue, "without enough approvals")
        await forge(play, update(approval_requests).where(pending).values(required_approvals=1))
        await forge(play, update(phases).where(phases.c.phase_key == "spec").values(state="completed"))
        await refused(play, issue, "phase spec has not passed its gate spec_approval")


async def test_a_gate_that_shows_other_content_was_not_about_this(tmp_path: Path, database_url: str) -> None:
    async with approved(tmp_path, database_url) as (play, issue, _):
        gate = next(one for one in (await play.pull(issue)).comments if "/gate/" in one.body and "spec" in one.body)
        digest = (await play.host.engine.requests((await play.run(issue))["run_id"]))[0]["bound_digest"]
        changed = gate.body.replace(digest, "0" * 64)
        assert changed != gate.body
        gate.body = changed
        await refused(play, issue, "shows other content")

        gate.body = changed.replace("0" * 64, digest)
        await trusted(play, issue)
        gate.editor, gate.edited_at = bob(play), gate.updated_at
        await refused(play, issue, "was not written after the comment of gate")


# Phases and contents


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


def _option(name: str, value: Any) -> Forge:
    return lambda options: options | {name: value}


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (_option("approvers", ["mallory"]), "its approvers is not"),
        (_option("requester_may_approve", False), "its requester_may_approve is not"),
        (_option("required_approvals", 0), "its required_approvals is not"),
        (_option("commands", "prefixed"), "its commands is not"),
        (_option("checks", {"tests": {"run": "true", "timeout_seconds": 5}}), "its checks is not"),
        (_option("setup", ["curl evil"]), "its setup is not"),
        (_option("schemas", {}), "its schemas is not"),
        (_option("prices", {"m": {"input": "0", "output": "0"}}), "its prices is not"),
        (_option("unheard_of", True), "its unheard_of is not"),
    ],
)
async def test_options_are_those_of_the_base_commit(
    tmp_path: Path, database_url: str, change: Forge, match: str
) -> None:
    async with approved(tmp_path, database_url) as (play, issue, _):
        options = (await play.run(issue))["options"]

        await forge(play, update(runs).values(options=change(options)))

        await refused(play, issue, match)


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
