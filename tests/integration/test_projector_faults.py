"""The projector against limits, refusals, outages and other people's hands: it waits, gives way, and never storms."""

from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import insert, update

from app.surface.applier import Applier, unsettle
from app.surface.reading import read_view
from engine import lifecycle
from engine.store import hosted
from engine.store.agent_tables import ledger
from engine.store.database import Database
from engine.store.host_tables import content_allowances
from engine.store.tables import runs
from tests.support.shown import Stage, stage


async def change_cost(on: Stage, run_id: UUID, tokens: int) -> None:
    """Let a model call have been made, which changes no phase."""
    async with on.database.transaction() as tx:
        await tx.execute(update(runs).where(runs.c.run_id == run_id).values(total_tokens=tokens))
        await tx.execute(update(ledger).where(ledger.c.run_id == run_id).values(backend="openai", cost_usd=1))


async def settle(on: Stage, run_id: UUID, minutes: int = 30) -> None:
    """Let time go on and the sweeper show what is due."""
    for _ in range(minutes):
        on.clock.step(60)
        await on.sweep()


async def test_the_status_is_edited_every_thirty_seconds_at_most(tmp_path: Path, database: Database) -> None:
    async with stage(tmp_path, database) as on:
        run_id = await on.at_gate()
        await change_cost(on, run_id, 1_000)
        await on.show(run_id)
        on.clock.step(1)
        before = len(on.writes)

        for second in range(1, 31):
            await change_cost(on, run_id, 1_000 + second)
            await on.show(run_id)
            on.clock.step(1)
        assert len(on.writes) - before <= 1
        assert await on.sweep() in ([], [str(run_id)])
        on.clock.step(31)
        await on.sweep()

        assert len(on.writes) - before <= 2
        assert "1,030 tokens" in on.comment("/status").body


async def test_a_change_of_phase_is_shown_at_once(tmp_path: Path, database: Database) -> None:
    async with stage(tmp_path, database) as on:
        run_id = await on.at_gate()
        await on.show(run_id)
        await on.engine.pause(run_id, "bob")

        await on.show(run_id)

        assert "⏸️ Devflow has paused" in on.comment("/status").body


@pytest.mark.parametrize("method", ["POST", "PATCH"])
async def test_an_outage_loses_nothing(tmp_path: Path, database: Database, method: str) -> None:
    async with stage(tmp_path, database) as on:
        run_id = await on.at_gate()
        if method == "PATCH":
            await on.show(run_id)
            await on.engine.pause(run_id, "bob")
        on.github.down(502)
        await on.show(run_id)
        for _ in range(10):
            on.clock.step(60)
            await on.sweep()
        asked = len(on.github.requests)
        row = await on.projection(run_id)
        assert "502" in row["error"]
        assert row["not_before"] > on.clock.now() - timedelta(minutes=1)
        assert asked < 200, "it does not hammer"

        on.github.up()
        await settle(on, run_id, 6)

        assert (await on.projection(run_id))["error"] is None
        assert len(on.comments("/status")) == len(on.comments("/gate/")) == len(on.hub.pulls) == 1


async def test_a_secondary_limit_is_waited_out_to_the_second(tmp_path: Path, database: Database) -> None:
    async with stage(tmp_path, database) as on:
        run_id = await on.at_gate()
        on.github.limit_secondary(retry_after=120)
        asked_at = on.clock.now()
        await on.show(run_id)

        row = await on.projection(run_id)
        assert row["not_before"] == asked_at + timedelta(seconds=120)
        writes = len(on.writes)
        on.clock.step(119)
        assert await on.sweep() == []
        assert len(on.writes) == writes
        on.clock.step(2)
        assert await on.sweep() == [str(run_id)]

        assert len(on.comments("/gate/")) == 1


async def test_a_primary_limit_is_waited_out(tmp_path: Path, database: Database) -> None:
    async with stage(tmp_path, database) as on:
        run_id = await on.at_gate()
        await on.show(run_id)
        await on.engine.pause(run_id, "bob")
        on.github.limit(0, reset_in=900)
        await on.show(run_id)

        on.clock.step(890)
        assert await on.sweep() == []
        on.clock.step(20)
        assert await on.sweep() == [str(run_id)]

        assert "has paused" in on.comment("/status").body


async def test_a_used_up_allowance_is_waited_for(tmp_path: Path, database: Database) -> None:
    async with stage(tmp_path, database) as on:
        run_id = await on.at_gate()
        spent = {"installation_id": on.hub.installation_id, "spent_at": on.clock.now(), "spends": 80}
        async with database.transaction() as tx:
            await tx.execute(insert(content_allowances).values(spent))

        await on.show(run_id)

        assert on.writes == []
        assert "allowance" in (await on.projection(run_id))["error"]
        on.clock.step(59)
        assert await on.sweep() == []
        on.clock.step(2)
        await on.sweep()
        assert len(on.comments("/gate/")) == 1


async def test_a_token_that_was_revoked_is_replaced(tmp_path: Path, database: Database) -> None:
    async with stage(tmp_path, database) as on:
        run_id = await on.at_gate()
        await on.show(run_id)
        await on.engine.pause(run_id, "bob")
        on.github.revoke_tokens()

        await on.show(run_id)
        await settle(on, run_id, 2)

        assert "has paused" in on.comment("/status").body


@pytest.mark.parametrize("status", [409, 422, 403])
async def test_a_refusal_is_marked_and_told_and_asked_again_ever_more_rarely(
    tmp_path: Path, database: Database, status: int
) -> None:
    async with stage(tmp_path, database) as on:
        run_id = await on.at_gate()
        words = {"message": "No, thank you.", "errors": [{"message": "Ask @octo, see #1"}]}
        refusal = on.github.plan("POST", "*/pulls", status=status, times=None, body=words)

        await on.show(run_id)

        row = await on.surface(run_id, "pull")
        assert "No, thank you." in row["facts"]["refused"]["said"]
        told = f"GitHub refuses the pull request: {status}: No, thank you.; Ask @\u200bocto, see \\#\u200b1"
        assert told in on.comment("/status").body
        assert on.comment("/gate/").issue is on.hub.issues[0], "people are asked where they can be"
        for _ in range(24):
            await settle(on, run_id, 60)
        assert refusal.hits <= 16, "a draft is asked for as an ordinary one at most once more each time"
        assert len(on.comments("/gate/")) == len(on.comments("/status")) == 1

        await on.answer(run_id, by="bob", by_id=2)
        await on.drive(run_id)
        await on.show(run_id)
        end = on.comment("/end").body
        assert told in end.partition("#### Unresolved")[2]
        for body in (end, on.comment("/status").body):
            assert "There is no pull request. Review the branch `devflow/1-" in body

        on.github.clear_plans()
        await settle(on, run_id, 5)
        for body in (on.comment("/end").body, on.comment("/status").body):
            assert "refuses" not in body and "Review the pull request, and merge it" in body


async def test_where_drafts_are_refused_it_is_an_ordinary_pull_request(tmp_path: Path, database: Database) -> None:
    async with stage(tmp_path, database, drafts=False) as on:
        run_id = await on.at_gate()
        await on.show(run_id)
        assert not on.pull().draft
        await on.answer(run_id, by="bob", by_id=2)
        await on.drive(run_id)

        await on.show(run_id)

        assert [one.path for one in on.writes if "graphql" in one.path and "ReadyForReview" in str(one.body)] == []
        assert on.comment("/end")


async def test_where_check_runs_are_refused_a_commit_status_takes_their_place(
    tmp_path: Path, database: Database
) -> None:
    async with stage(tmp_path, database) as on:
        refused = on.github.plan("POST", "*/check-runs", status=403, times=None, body={"message": "not accessible"})
        run_id = await on.at_gate()
        await on.show(run_id)
        gate_head = on.pull().head_sha
        assert [(one.context, one.state) for one in on.hub.statuses(gate_head)] == [("devflow", "pending")]
        await on.answer(run_id, by="bob", by_id=2)
        await on.drive(run_id)
        await on.show(run_id)

        assert on.hub.statuses(on.pull().head_sha)[0].state == "success"
        assert refused.hits == 1, "it is remembered that they are refused"
        before = len(on.writes)
        await on.show(run_id)
        assert len(on.writes) == before


async def test_a_comment_of_ours_that_somebody_deletes_comes_back_once(tmp_path: Path, database: Database) -> None:
    async with stage(tmp_path, database) as on:
        run_id = await on.at_gate()
        await on.show(run_id)
        first = on.comment("/gate/")
        first_row = await on.surface(run_id, f"gate/{first.body.partition('/gate/')[2][:36]}")

        first.issue.delete_comment(on.requester, first)
        await unsettle(database, on.hub.id, first.id)
        on.clock.step(5)
        await on.sweep()

        second = on.comment("/gate/")
        assert second.body == first.body
        row = await on.surface(run_id, f"gate/{first.body.partition('/gate/')[2][:36]}")
        assert (row["external_id"], row["external_at"]) == (str(second.id), first_row["external_at"])
        second.issue.delete_comment(on.requester, second)
        await unsettle(database, on.hub.id, second.id)
        await settle(on, run_id, 5)
        assert on.comments("/gate/") == [], "whoever deletes it again means it"


async def test_a_comment_of_ours_that_somebody_edits_is_put_right_and_not_fought_over(
    tmp_path: Path, database: Database
) -> None:
    async with stage(tmp_path, database) as on:
        run_id = await on.at_gate()
        await on.show(run_id)
        status = on.comment("/status")
        right = status.body

        for edit in range(10):
            status.issue.edit_comment(on.requester, status, f"Not so. {edit}")
            await unsettle(database, on.hub.id, status.id)
            on.clock.step(60)
            await on.sweep()
            if edit == 0:
                assert status.body == right

        edits = [one for one in on.writes if one.method == "PATCH" and "/comments/" in one.path]
        assert len(edits) == 3


async def test_comments_of_others_are_no_business_of_ours(tmp_path: Path, database: Database) -> None:
    async with stage(tmp_path, database) as on:
        run_id = await on.at_gate()
        await on.show(run_id)
        theirs = on.hub.issues[0].comment(on.requester, "Nice.")

        await unsettle(database, on.hub.id, theirs.id)

        assert await on.sweep() == []


async def test_a_repository_that_is_gone_pauses_the_run_and_is_not_asked_any_more(
    tmp_path: Path, database: Database
) -> None:
    async with stage(tmp_path, database) as on:
        run_id = await on.at_gate()
        await on.show(run_id)
        on.hub.delete()
        await change_cost(on, run_id, 99)
        on.clock.step(60)

        await on.show(run_id)
        await settle(on, run_id, 5)

        async with database.read() as tx:
            repository = await hosted.get(tx, on.hub.id)
        assert repository is not None
        assert repository["gone_at"] is not None
        assert (await on.engine.row(run_id))["state"] == "paused"
        asked = len(on.github.requests)
        await on.show(run_id)
        await settle(on, run_id, 30)
        assert len(on.github.requests) == asked


async def test_an_aborted_run_closes_its_pull_request(tmp_path: Path, database: Database) -> None:
    async with stage(tmp_path, database) as on:
        run_id = await on.at_gate()
        await on.show(run_id)
        await on.engine.abort(run_id, "bob", "Not worth it.", token="one", by_id=2)
        await on.drive(run_id)

        await on.show(run_id)

        assert on.pull().state == "closed"
        assert "Stopped by bob: Not worth it." in on.comment("/end").body
        assert "⏹️ The run was stopped before a decision" in on.comment("/gate/").body
        before = len(on.writes)
        await on.show(run_id)
        assert len(on.writes) == before


async def test_a_retry_takes_over_from_the_pull_request_of_the_run_that_failed(
    tmp_path: Path, database: Database
) -> None:
    async with stage(tmp_path, database) as on:
        old = await on.at_gate()
        await on.answer(old, by="bob", by_id=2)
        await on.drive(old)
        await on.show(old)
        async with database.transaction() as tx:
            failed = {"state": "failed", "error_code": "check_failed", "error_message": "pytest ended with 1"}
            await tx.execute(update(runs).where(runs.c.run_id == old).values(failed))
        new = await on.engine.retry(old, "ada", token="two", by_id=on.requester.id)
        await on.drive(new)
        await on.show(new)
        await on.sweep()

        first, second = on.hub.pulls
        assert (first.state, second.state) == ("closed", "open")
        row = (await read_view(database, new)).phases[0]
        assert row.artifact == f".devflow/runs/{old}/spec.json"
        assert on.hub.read(row.commit or "", row.artifact)


async def test_a_pause_that_needs_somebody_is_told_once_and_folded_away_when_it_is_over(
    tmp_path: Path, database: Database
) -> None:
    async with stage(tmp_path, database) as on:
        run_id = await on.begin()
        async with database.locked(run_id) as tx:
            await lifecycle.pause_run(tx, "backend_unavailable", "the model server answered 401")
        await on.show(run_id)
        told = on.comment("/stop/")
        assert told.issue is on.hub.issues[0]
        assert "@ada, the run has paused and needs somebody" in told.body
        assert "`/resume` goes on from here" in told.body

        await on.engine.resume(run_id, "bob")
        await on.show(run_id)

        assert on.comment("/stop/") is told
        assert "▶️ The run went on" in told.body
        assert (told.minimized_reason or "").upper() == "RESOLVED"


async def test_an_issue_that_was_deleted_is_not_written_to_again_and_again(tmp_path: Path, database: Database) -> None:
    async with stage(tmp_path, database) as on:
        run_id = await on.at_gate()
        issue = on.hub.issues[0]
        missing = on.github.plan("POST", f"*/issues/{issue.number}/comments", status=404, times=None)

        for tokens in range(20):
            await change_cost(on, run_id, tokens)
            await on.show(run_id)

        assert missing.hits == 1
        assert on.comment("/gate/").issue is on.pull()
        async with database.read() as tx:
            repository = await hosted.get(tx, on.hub.id)
        assert repository is not None
        assert repository["gone_at"] is None


async def test_what_phases_cost_is_known_by_phase(tmp_path: Path, database: Database) -> None:
    async with stage(tmp_path, database) as on:
        run_id = await on.at_gate()
        async with database.transaction() as tx:
            await tx.execute(update(ledger).where(ledger.c.run_id == run_id).values(backend="openai", cost_usd=None))

        await on.show(run_id)

        assert "unknown" in on.comment("/status").body
        assert "0.00 USD" not in on.comment("/status").body
        assert "The cost is unknown" in on.comment("/status").body


async def test_a_reply_is_given_once_however_often_it_is_asked_for(tmp_path: Path, database: Database) -> None:
    async with stage(tmp_path, database) as on:
        issue = on.hub.open_issue(on.requester, "T")
        on.github.plan("POST", "*/comments", drop="after")
        for attempt in range(3):
            applier = Applier(database, await on.known(), on.clock)
            if attempt == 0:
                with pytest.raises(Exception, match="POST"):
                    await applier.reply("77/1", issue.number, "Only people with write access may do that.")
            else:
                await applier.reply("77/1", issue.number, "Only people with write access may do that.")

        assert [comment.body.split("\n")[1] for comment in issue.comments] == [
            "Only people with write access may do that."
        ]
