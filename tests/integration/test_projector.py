"""The projector against a GitHub that keeps state: what people see follows the run, and twice changes nothing."""

from pathlib import Path
from uuid import UUID

from engine.domain.states import Action
from engine.store.database import Database
from tests.support.shown import Stage, stage


async def test_a_run_at_its_gate_is_shown_on_issue_pull_request_and_commit(tmp_path: Path, database: Database) -> None:
    async with stage(tmp_path, database) as on:
        run_id = await on.at_gate()

        await on.show(run_id)

        run = await on.engine.row(run_id)
        pull, issue = on.pull(), on.hub.issues[0]
        assert (pull.draft, pull.head_ref, pull.author) == (True, run["branch"], on.github.app.bot)
        assert pull.title == "The answer is wrong"
        assert f"Closes #{issue.number}." in (pull.body or "")
        assert [comment.body for comment in issue.comments] == [on.comment("/status").body]
        assert [comment.body for comment in pull.comments] == [on.comment("/gate/").body]
        assert "@ada, please decide: Specify what is wanted" in on.comment("/gate/").body
        assert f"{on.hub.full_name}/pull/{pull.number}#issuecomment-{on.comment('/gate/').id}" in issue.comments[0].body
        (check,) = on.hub.checks(run["pushed_sha"])
        assert (check.name, check.status, check.conclusion) == ("devflow", "completed", "action_required")


async def test_showing_a_run_again_changes_nothing(tmp_path: Path, database: Database) -> None:
    async with stage(tmp_path, database) as on:
        run_id = await on.at_gate()
        await on.show(run_id)
        before = len(on.writes)

        await on.show(run_id)
        on.clock.step(600)
        await on.show(run_id)

        assert len(on.writes) == before
        assert await on.sweep() == []


async def test_the_end_makes_the_draft_ready_and_says_what_came_of_it(tmp_path: Path, database: Database) -> None:
    async with stage(tmp_path, database) as on:
        run_id = await on.at_gate()
        await on.show(run_id)
        gate_head = on.pull().head_sha
        await on.answer(run_id, by="bob", by_id=2)
        await on.drive(run_id)

        await on.show(run_id)

        assert not on.pull().draft
        assert on.comment("/gate/").body.split("\n")[1] == "### ✅ Approved by bob: Specify what is wanted"
        end = on.comment("/end")
        assert end.issue is on.pull()
        assert "@ada, the pull request is ready for your review" in end.body
        assert "### ✅ Devflow is done" in on.comment("/status").body
        assert [run.conclusion for run in on.hub.checks(gate_head)] == ["neutral"]
        assert [run.conclusion for run in on.hub.checks(on.pull().head_sha)] == ["success"]
        before = len(on.writes)
        await on.show(run_id)
        assert len(on.writes) == before


async def push_by_hand(on: Stage, run_id: UUID) -> None:
    """Let a person change the specification on the run's branch."""
    branch = (await on.engine.row(run_id))["branch"]
    path = f".devflow/runs/{run_id}/spec.json"
    text = on.hub.read(branch, path)
    assert text is not None
    on.hub.commit(branch, {path: text.replace("Change the constant.", "Change it by hand.")}, on.requester)
    assert await on.engine.refresh(run_id)


async def test_an_overtaken_gate_is_minimised_and_asked_anew(tmp_path: Path, database: Database) -> None:
    async with stage(tmp_path, database) as on:
        run_id = await on.at_gate()
        await on.show(run_id)
        first = on.comment("/gate/")

        await push_by_hand(on, run_id)
        await on.show(run_id)

        old, new = on.comments("/gate/")
        assert old is first
        assert old.minimized_reason == "OUTDATED" or old.minimized_reason == "outdated"
        assert "Overtaken" in old.body
        assert "Change it by hand." in new.body
        assert new.minimized_reason is None


async def test_work_that_was_sent_back_is_asked_about_in_a_new_comment(tmp_path: Path, database: Database) -> None:
    async with stage(tmp_path, database) as on:
        run_id = await on.at_gate()
        await on.show(run_id)
        await on.answer(run_id, Action.REVISE, by="bob", by_id=2, note="Another way, @team, closes #1.")
        await on.drive(run_id)

        await on.show(run_id)

        first, second = on.comments("/gate/")
        assert "↩️ Sent back by bob" in first.body
        assert "> Another way, @\u200bteam, closes \\#\u200b1." in first.body
        assert "Another one." in second.body
        assert "round 2" in second.body
