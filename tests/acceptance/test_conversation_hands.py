"""What people do by hand to what a run has made: other runs' gates, forced pushes, merges, drafts, its comments."""

from pathlib import Path

from engine.domain.states import RunState
from tests.support.conversation import at_work, conversation, headline, held_up, let_go, shown
from tests.support.engines import phase
from tests.support.stage import PHASES, TURNS

TWO_GATES = (PHASES[0], phase("change", gates=["change_approval"]))


async def test_an_answer_is_about_the_run_where_it_stands_and_no_other(tmp_path: Path, database_url: str) -> None:
    async with conversation(tmp_path, database_url) as play:
        one, first = await play.labelled()
        two, second = await play.labelled()
        theirs = (await play.pull(one)).head_sha

        # with the commit of another run's gate, on this one's issue and on its pull request
        (await play.pull(two)).review(play.ada, "approve", commit_id=theirs)
        two.comment(play.ada, f"/approve {theirs[:10]}")
        await play.settled()
        assert [await play.state(issue) for issue in (one, two)] == [RunState.AWAITING_APPROVAL] * 2

        one.comment(play.ada, "/approve")
        await play.settled()
        assert [await play.state(issue) for issue in (one, two)] == [RunState.COMPLETED, RunState.AWAITING_APPROVAL]
        assert len(shown(play, first, "gate")) == len(shown(play, second, "gate")) == 1
        two.comment(play.ada, "/abort")
        await play.settled()


async def test_a_branch_that_was_forced_back_is_not_taken_for_the_work(tmp_path: Path, database_url: str) -> None:
    async with conversation(tmp_path, database_url) as play:
        issue, run = await play.labelled()
        pull = await play.pull(issue)
        good = pull.head_sha
        first = play.repository.git.info(good).parents[0]
        play.repository.force_push(run["branch"], first, play.ada)
        await play.settled()
        refused = [pull.review(play.ada, "approve"), issue.comment(play.ada, "/approve")]
        await play.settled()
        assert await play.state(issue) == RunState.AWAITING_APPROVAL
        assert [play.emoji(one) for one in refused] == [["eyes", "confused"]] * 2

        # she puts it back, and all is as it was
        play.repository.force_push(run["branch"], good, play.ada)
        await play.settled()
        issue.comment(play.ada, "/approve")
        await play.settled()
        assert await play.state(issue) == RunState.COMPLETED
        assert play.repository.read(run["branch"], "answer.py") == "def answer():\n    return 42\n"


async def test_a_branch_that_is_moved_at_work_is_put_back_to_where_the_pause_says_and_the_run_goes_on(
    tmp_path: Path, database_url: str
) -> None:
    turns = {**TURNS, "change/1/1": [[held_up(tmp_path)], *TURNS["change/1/1"]]}
    async with conversation(tmp_path, database_url, turns=turns) as play:
        issue, run = await play.labelled()
        pull = await play.pull(issue)
        good = pull.head_sha
        pull.review(play.ada, "approve")
        await at_work(play, tmp_path)
        play.repository.commit("main", {"other.txt": "new\n"}, play.ada)
        moved = pull.update_branch(play.ada)
        await play.until(lambda: play.repository.checks(moved))
        let_go(tmp_path)
        await play.settled()
        issue.comment(play.ada, "/resume")  # as if nothing were the matter
        await play.settled()

        paused = await play.run(issue)
        assert (paused["state"], paused["error_code"]) == (RunState.PAUSED, "push_conflict")
        for stop in shown(play, run, "stop"):
            assert f"the run's last commit on it is {good}" in stop.body
            assert "Put it back to the run's last commit" in stop.body or "went on" in stop.body
        assert moved in shown(play, run, "stop")[-1].body
        (check,) = play.repository.checks(moved)
        assert check.conclusion == "action_required" and f"back to `{good}`" in (check.summary or "")

        play.repository.force_push(run["branch"], good, play.ada)
        issue.comment(play.ada, "/resume")
        await play.settled()
        assert await play.state(issue) == RunState.COMPLETED
        assert (check.conclusion, play.repository.checks(pull.head_sha)[0].conclusion) == ("neutral", "success")


async def test_a_pull_request_that_people_merge_at_a_gate_ends_the_run(tmp_path: Path, database_url: str) -> None:
    async with conversation(tmp_path, database_url, phases=TWO_GATES) as play:
        issue, run = await play.labelled()
        pull = await play.pull(issue)
        issue.comment(play.ada, "/approve")
        await play.settled()
        pull.ready_for_review(play.ada)
        await play.settled()
        pull.merge(play.ada)
        play.repository.delete_branch(run["branch"], play.ada)
        await play.settled()

        assert (await play.state(issue), issue.state, pull.merged) == (RunState.ABORTED, "closed", True)
        (status,) = shown(play, run, "status")
        assert headline(status) == "⏹️ Devflow was stopped"
        assert (
            "the pull request was merged before the run's end" in status.body or "the issue was closed" in status.body
        )
        assert run["branch"] not in play.repository.branches()


async def test_comments_of_ours_that_people_change_or_delete_are_put_right_and_not_fought_over(
    tmp_path: Path, database_url: str
) -> None:
    async with conversation(tmp_path, database_url) as play:
        issue, run = await play.labelled()
        pull = await play.pull(issue)
        (status,), (gate,) = shown(play, run, "status"), shown(play, run, "gate")
        before = status.body

        for _ in range(6):
            issue.edit_comment(play.ada, status, "It is done, @octo!\n/approve")
            await play.settled()
        assert status.body != before  # she means it
        pull.edit_comment(play.ada, gate, f"{gate.body.splitlines()[0]}\nApproved, says ada.")
        await play.settled()
        assert headline(gate) == "🟡 @ada, please decide: Phase spec"
        pull.delete_comment(play.ada, gate)
        await play.settled()
        (again,) = shown(play, run, "gate")
        assert again is not gate and headline(again) == "🟡 @ada, please decide: Phase spec"

        # the comment that is there now is what an answer is about
        issue.comment(play.ada, "/approve")
        await play.settled()
        assert await play.state(issue) == RunState.COMPLETED
        assert headline(shown(play, run, "end")[0]).startswith("✅ @ada")
