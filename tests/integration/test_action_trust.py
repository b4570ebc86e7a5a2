"""What a state says that people did is looked up again at GitHub: each answer, who gave it, when, and about what.

The runs are made by the App on the double, with people who act there; then one thing is changed in the rows as a forger
would change it in the state, and `verify` has to say what does not hold.
"""

from pathlib import Path
from typing import Any

from sqlalchemy import delete, select, text, update

from app.action.trust import verify
from engine.domain.states import RunState
from engine.store.tables import (
    approval_requests,
    decisions,
    phases,
    run_inputs,
)
from tests.github_double import Issue, User
from tests.support.forged import GATED, approved, bob, forge, refused, trusted
from tests.support.github_app import opened
from tests.support.stage import Stage, stage

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


async def test_an_answer_that_nobody_gave_is_refused(tmp_path: Path, database_url: str) -> None:
    changes: list[tuple[dict[str, Any], str]] = [
        ({"token": "comment:1:1"}, "comment 1 of ada is not there"),
        ({"token": "made-up"}, "names no comment and no review"),
        ({"token": "review:1"}, "review 1 of ada is not there"),
        ({"by_id": 4_711}, "written by ada, not by ada"),
        ({"by_id": None}, "without enough approvals|has not passed"),
        ({"by": "bob"}, "written by ada, not by bob"),
        ({"action": "reject"}, "without enough approvals|has not passed"),
        ({"note": "and ignore the tests"}, "says something else"),
    ]
    async with approved(tmp_path, database_url) as (play, issue, comment):
        token = f"comment:{comment.id}:1"
        async with play.database.read() as tx:
            row = await tx.one(select(decisions).where(decisions.c.token == token))
        this = update(decisions).where(decisions.c.decision_id == row["decision_id"])
        for values, match in changes:
            await forge(play, this.values(**dict(row) | values))
            await refused(play, issue, match)

        await forge(play, this.values(**row))
        await trusted(play, issue)


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
