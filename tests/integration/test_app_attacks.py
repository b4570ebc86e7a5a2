"""Attacks on what the App does for people: a right that is not there, another run, another repository, another time.

Each is a conversation with the GitHub double, in which somebody tries to get what is not theirs, or two things happen
in an order that nobody hopes for.
"""

import asyncio
from pathlib import Path

import pytest

from engine.domain.states import RunState
from tests.github_double import Delivery
from tests.support.conversation import conversation
from tests.support.stage import Stage, stage


def _last(play: Stage, event: str) -> Delivery:
    return [one for one in play.github.deliveries if one.event == event][-1]


# Approvals


@pytest.mark.parametrize("commit_id", [None, ""])
async def test_a_review_whose_commit_github_does_not_know_any_more_approves_nothing(
    tmp_path: Path, database_url: str, commit_id: str | None
) -> None:
    async with stage(tmp_path, database_url) as play:
        issue, _ = await play.labelled()
        pull = await play.pull(issue)
        review = pull.review(play.ada, "comment", "Fine.")
        sent = _last(play, "pull_request_review").payload
        # the branch was pushed with force, and the commit of the review is gone
        sent["review"] |= {"state": "approved", "commit_id": commit_id}
        play.github.send("pull_request_review", sent)
        await play.settled()

        assert await play.state(issue) == RunState.AWAITING_APPROVAL
        assert play.emoji(review) == ["eyes", "confused"]
        (reply,) = play.replies(pull)
        assert "which commit" in reply


async def test_a_command_that_arrives_late_does_not_reach_a_run_that_was_started_after_it_was_written(
    tmp_path: Path, database_url: str
) -> None:
    async with conversation(tmp_path, database_url) as play:
        issue, first = await play.labelled()
        play.github.hold()
        comment = issue.comment(play.ada, "/abort")
        late = _last(play, "issue_comment")
        issue.unlabel(play.ada, "devflow")
        await play.host.engine.abort(first["run_id"], "ada", token="elsewhere")
        await asyncio.sleep(1.1)
        issue.label(play.ada, "devflow")
        play.github.release([one for one in play.github.held if one is not late])
        await play.settled()
        second = await play.run(issue)
        play.github.release()
        await play.settled()

        assert second["number"] == 2
        assert await play.state(issue) == RunState.AWAITING_APPROVAL
        assert play.emoji(comment) == ["eyes", "confused"]


# Labels


async def test_taking_off_another_label_ends_no_run(tmp_path: Path, database_url: str) -> None:
    async with conversation(tmp_path, database_url, abort_on_unlabel=True) as play:
        issue, _ = await play.labelled("devflow:small")
        issue.label(play.ada, "devflow")
        await play.settled()
        issue.unlabel(play.ada, "devflow")
        await play.settled()

        assert await play.state(issue) == RunState.AWAITING_APPROVAL
        assert len(await play.runs(issue)) == 1


async def test_an_issue_that_is_closed_while_its_run_is_being_started_has_no_run(
    tmp_path: Path, database_url: str
) -> None:
    async with conversation(tmp_path, database_url) as play:
        issue = play.issue()
        play.github.plan("GET", f"/repos/octo/answers/issues/{issue.number}/comments", delay=1.5)
        issue.label(play.ada, "devflow")
        await play.until(lambda: play.github.calls("GET", f"/issues/{issue.number}/comments"))
        issue.close(play.ada)
        await play.settled()

        assert [row["state"] for row in await play.runs(issue)] in ([], ["aborted"])


async def test_a_label_that_is_taken_off_while_its_run_is_being_started_has_no_run(
    tmp_path: Path, database_url: str
) -> None:
    async with conversation(tmp_path, database_url, abort_on_unlabel=True) as play:
        issue = play.issue()
        play.github.plan("GET", f"/repos/octo/answers/issues/{issue.number}/comments", delay=1.5)
        issue.label(play.ada, "devflow")
        await play.until(lambda: play.github.calls("GET", f"/issues/{issue.number}/comments"))
        issue.unlabel(play.ada, "devflow")
        await play.settled()

        assert [row["state"] for row in await play.runs(issue)] in ([], ["aborted"])


async def test_a_retry_that_comes_after_the_issue_was_closed_starts_nothing(tmp_path: Path, database_url: str) -> None:
    async with conversation(tmp_path, database_url) as play:
        issue, _ = await play.labelled()
        issue.comment(play.ada, "/abort")
        await play.settled()
        play.github.hold()
        issue.comment(play.ada, "/retry")
        late = _last(play, "issue_comment")
        issue.close(play.ada)
        play.github.release([one for one in play.github.held if one is not late])
        await play.settled()
        play.github.release()
        await play.settled()

        assert len(await play.runs(issue)) == 1
        assert "This issue is closed. Reopen it first." in play.replies(issue)[-1].replace("this", "This", 1)
