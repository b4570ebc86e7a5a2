"""Deliveries that come again, under their own or a new GUID, late, and in another order than things happened."""

from pathlib import Path

import pytest

from engine.domain.states import RunState
from tests.support.conversation import conversation, delivery_of
from tests.support.engines import phase
from tests.support.stage import PHASES

TWO_GATES = (PHASES[0], phase("change", gates=["change_approval"]))


async def test_what_is_delivered_again_is_done_once_and_means_only_what_it_meant(
    tmp_path: Path, database_url: str
) -> None:
    async with conversation(tmp_path, database_url, phases=TWO_GATES, on_conflict="queue") as play:
        issue, run = await play.labelled()
        pull = await play.pull(issue)
        labelled = next(one for one in play.github.deliveries if one.action == "labeled")
        revise = issue.comment(play.ada, "/revise more")
        await play.settled()
        approval = issue.comment(play.ada, "/approve\n/status")
        await play.settled()
        states = [row["state"] for row in await play.host.engine.requests(run["run_id"])]
        assert states == ["revised", "approved", "pending"]
        review = pull.review(play.ada, "request_changes", "Less.")
        await play.settled()

        told = [
            labelled,
            delivery_of(play, "issue_comment", revise),
            delivery_of(play, "issue_comment", approval),
            delivery_of(play, "pull_request_review", review),
        ]
        for new_guid in (False, False, True, True):
            for one in told:
                play.github.redeliver(one, new_guid=new_guid)
        await play.settled()

        # the old approval is none of the gate that is open now, and the old label no second run
        assert [row["run_id"] for row in await play.runs(issue)] == [run["run_id"]]
        states = [row["state"] for row in await play.host.engine.requests(run["run_id"])]
        assert states == ["revised", "approved", "revised", "pending"]
        assert play.emoji(issue) == play.emoji(revise) == play.emoji(approval) == play.emoji(review)
        assert play.emoji(issue) == ["eyes", "rocket"]
        assert len(play.replies(issue)) == 1 and play.replies(pull) == []

        issue.comment(play.ada, "/approve")
        await play.settled()
        assert await play.state(issue) == RunState.COMPLETED
        for one in told:
            play.github.redeliver(one, new_guid=True)
        await play.settled()
        assert len(await play.runs(issue)) == 1 and len(play.replies(issue)) == 1


@pytest.mark.parametrize("ends_closed", [False, True])
async def test_an_issue_is_what_it_is_now_in_whatever_order_its_story_comes(
    tmp_path: Path, database_url: str, ends_closed: bool
) -> None:
    async with conversation(tmp_path, database_url) as play:
        # opened, talked about, labelled, closed, reopened: and all of it comes the other way round
        play.github.hold()
        issue = play.issue()
        early = issue.comment(play.ada, "/approve")
        issue.label(play.ada, "devflow")
        issue.close(play.ada)
        issue.reopen(play.ada)
        if ends_closed:
            issue.close(play.ada)
        comment = delivery_of(play, "issue_comment", early)
        held = play.github.held
        play.github.release([one for one in reversed(held) if one is not comment])
        await play.settled()
        assert len(await play.runs(issue)) == (0 if ends_closed else 1)
        assert ("Reopen it" in "".join(play.replies(issue))) == ends_closed

        # an approval from before the label is none
        play.github.release()
        await play.settled()
        assert play.emoji(early) == ["eyes", "confused"]
        if not ends_closed:
            assert await play.state(issue) == RunState.AWAITING_APPROVAL


async def test_a_review_that_comes_before_the_label_that_takes_its_run_away_leaves_one_run(
    tmp_path: Path, database_url: str
) -> None:
    async with conversation(tmp_path, database_url, phases=TWO_GATES, on_conflict="interrupt") as play:
        issue, first = await play.labelled()
        pull = await play.pull(issue)
        play.github.hold()
        issue.label(play.ada, "devflow:small")
        pull.review(play.ada, "approve")
        play.github.release(list(reversed(play.github.held)))
        await play.settled()
        old, new = await play.runs(issue)
        assert (old["state"], new["state"]) == (RunState.ABORTED, RunState.AWAITING_APPROVAL)
        assert old["run_id"] == first["run_id"]
        assert [row["state"] for row in await play.host.engine.requests(new["run_id"])] == ["pending"]


async def test_a_retry_that_comes_before_the_abort_it_follows_is_answered_and_starts_nothing(
    tmp_path: Path, database_url: str
) -> None:
    async with conversation(tmp_path, database_url) as play:
        issue, _ = await play.labelled()
        play.github.hold()
        abort = issue.comment(play.ada, "/abort")
        retry = issue.comment(play.ada, "/retry")
        first, second = (delivery_of(play, "issue_comment", one) for one in (abort, retry))
        play.github.release([second])
        await play.until(lambda: "confused" in play.emoji(retry))
        play.github.release([first])
        await play.settled()
        assert await play.state(issue) == RunState.ABORTED
        assert len(await play.runs(issue)) == 1

        # what was refused stays refused when it comes again: nobody waits for it any more
        play.github.redeliver(second, new_guid=True)
        await play.settled()
        assert len(play.replies(issue)) == 1
