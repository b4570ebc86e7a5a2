"""The main road as people walk it: a label, a draft, a gate answered by review or comment, a report, a ready draft."""

from pathlib import Path

from engine.domain.states import RunState
from tests.support.conversation import conversation, headline, shown
from tests.support.engines import phase
from tests.support.stage import PHASES, Stage

TWO_GATES = (PHASES[0], phase("change", gates=["change_approval"]))


def conclusions(play: Stage, sha: str) -> list[tuple[str, str | None]]:
    """What stands beside a commit."""
    return [(check.status, check.conclusion) for check in play.repository.checks(sha)]


async def test_a_label_a_review_and_a_comment_make_a_pull_request_twice(tmp_path: Path, database_url: str) -> None:
    async with conversation(tmp_path, database_url, phases=TWO_GATES) as play:
        for number in (1, 2):
            # ada labels an issue: there is an emoji, a draft, one comment that follows it all, and a question
            issue, run = await play.labelled()
            pull = await play.pull(issue)
            assert play.emoji(issue) == ["eyes", "rocket"]
            assert (run["number"], pull.draft, pull.title) == (number, True, issue.title)
            (status,) = play.ours(issue)
            assert headline(status) == "🟡 Devflow waits for a decision: Phase spec"
            (spec,) = shown(play, run, "gate")
            assert spec.issue is pull
            assert headline(spec) == "🟡 @ada, please decide: Phase spec"
            assert "The answer is 42." in spec.body and "`/approve`" in spec.body
            assert conclusions(play, pull.head_sha) == [("completed", "action_required")]
            assert play.repository.read(pull.head_ref, "answer.py") == "def answer():\n    return 41\n"

            # she approves the specification in a review: the change is made and asked about
            review = pull.review(play.ada, "approve", "Good.")
            await play.settled()
            assert play.emoji(review) == ["eyes", "rocket"]
            assert headline(spec) == "✅ Approved by ada: Phase spec"
            _, change = shown(play, run, "gate")
            assert headline(change) == "🟡 @ada, please decide: Phase change"
            assert play.repository.read(pull.head_ref, "answer.py") == "def answer():\n    return 42\n"
            assert pull.draft

            # and the change in a comment on the issue: the report is written, and the pull request is ready
            comment = issue.comment(play.ada, "That will do.\n\n/approve")
            await play.settled()
            assert play.emoji(comment) == ["eyes", "rocket"]
            assert await play.state(issue) == RunState.COMPLETED
            assert headline(status) == "✅ Devflow is done"
            (end,) = shown(play, run, "end")
            assert headline(end) == "✅ @ada, the pull request is ready for your review"
            assert "It is 42 now." in end.body
            assert not pull.draft
            assert conclusions(play, pull.head_sha) == [("completed", "success")]
            assert play.replies(issue) == play.replies(pull) == []

        # people merge it, and GitHub closes the issue, which is nothing to a run that is done
        pull.merge(play.ada)
        await play.settled()
        assert (issue.state, await play.state(issue)) == ("closed", RunState.COMPLETED)


async def test_work_is_sent_back_by_review_and_by_comment_and_then_approved(tmp_path: Path, database_url: str) -> None:
    async with conversation(tmp_path, database_url) as play:
        issue, run = await play.labelled()
        pull = await play.pull(issue)
        path = f".devflow/runs/{run['run_id']}/spec.md"

        pull.review(play.ada, "request_changes", "Not yet.", comments=[(path, 3, "Which list?"), (path, 5, "And why?")])
        await play.settled()
        first, second = shown(play, run, "gate")
        assert headline(first) == "↩️ Sent back by ada: Phase spec"
        assert "Not yet." in first.body and "Which list?" in first.body and "And why?" in first.body
        assert "round 2" in second.body and "Change the constant and say so." in second.body

        issue.comment(play.ada, "/revise Say less,\nand say it\n\nin three lines.")
        await play.settled()
        (*_, third) = shown(play, run, "gate")
        requests = await play.host.engine.requests(run["run_id"])
        assert [request["state"] for request in requests] == ["revised", "revised", "pending"]
        notes = [(await play.host.engine.decisions(one["request_id"]))[0]["note"] for one in requests[:2]]
        assert notes[0] == f"Not yet.\n\n{path}, line 3:\nWhich list?\n\n{path}, line 5:\nAnd why?"
        assert notes[1] == "Say less,\nand say it\n\nin three lines."
        assert headline(third) == "🟡 @ada, please decide: Phase spec"

        issue.comment(play.ada, "/approve")
        await play.settled()
        assert await play.state(issue) == RunState.COMPLETED
        (one,) = [pull for pull in play.repository.pulls if pull.head_ref == run["branch"]]
        assert not one.draft


async def test_a_rejected_run_has_failed_and_can_be_tried_again(tmp_path: Path, database_url: str) -> None:
    async with conversation(tmp_path, database_url) as play:
        issue, run = await play.labelled()

        (await play.pull(issue)).comment(play.ada, "/reject This is not what I meant.")
        await play.settled()
        assert await play.state(issue) == RunState.FAILED
        (gate,) = shown(play, run, "gate")
        (end,) = shown(play, run, "end")
        assert headline(gate) == "❌ Rejected by ada: Phase spec"
        assert headline(end).startswith("❌ @ada, the run has failed")
        assert "This is not what I meant." in gate.body
        assert "`/retry`" in end.body
        assert (await play.pull(issue)).draft

        issue.comment(play.ada, "/retry")
        await play.settled()
        again = await play.run(issue)
        assert (again["number"], again["state"]) == (2, RunState.AWAITING_APPROVAL)
        old, new = (next(p for p in play.repository.pulls if p.head_ref == one["branch"]) for one in (run, again))
        assert (old.state, new.state) == ("closed", "open")
