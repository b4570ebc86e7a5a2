"""Stopping a run: by command in each of its states, and by what happens to its issue, pull request or branch."""

import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from engine.domain.states import RunState
from tests.github_double import Issue
from tests.support.conversation import a_minute_later, at_work, conversation, headline, held_up, let_go, shown
from tests.support.stage import TURNS, Stage

Happening = Callable[[Stage, Issue], Awaitable[None]]
CHANGE = TURNS["change/1/1"]


async def test_abort_ends_a_run_at_work_at_once_and_one_that_waits_for_a_place(
    tmp_path: Path, database_url: str
) -> None:
    turns = {**TURNS, "spec/1/1": [[held_up(tmp_path)], *TURNS["spec/1/1"]]}
    one_place = {"max_concurrent_runs_per_repository": 1}
    async with conversation(tmp_path, database_url, turns=turns, settings=one_place) as play:
        busy, waiting = play.issue(), play.issue("Another one")
        busy.label(play.ada, "devflow")
        await at_work(play, tmp_path)
        waiting.label(play.ada, "devflow")
        await play.until(lambda: play.ours(waiting))
        assert headline(play.ours(waiting)[0]) == "⏳ Devflow will begin soon"

        # the one that has not begun
        comment = waiting.comment(play.ada, "/abort never mind")
        await play.until(lambda: "rocket" in play.emoji(comment))
        run = await play.run(waiting)
        assert (run["state"], run["started_at"]) == (RunState.ABORTED, None)

        # the one whose agent is at work
        before = time.monotonic()
        comment = busy.comment(play.ada, "/abort enough")
        while await play.state(busy) != RunState.ABORTED:
            assert time.monotonic() - before < 10
            await play.until(lambda: "rocket" in play.emoji(comment))
        await play.settled()
        run = await play.run(busy)
        assert (run["ended_at"] - run["started_at"]).total_seconds() < 10
        for issue in (busy, waiting):
            (status,) = shown(play, await play.run(issue), "status")
            assert headline(status) == "⏹️ Devflow was stopped"
            assert "Stopped by ada" in status.body
        assert not [pull for pull in play.repository.pulls if pull.state == "open"]

        # and one that has ended already
        again = busy.comment(play.ada, "/abort")
        await play.settled()
        assert play.emoji(again) == ["eyes", "confused"]
        assert "`/retry`" in play.replies(busy)[0]


async def test_abort_ends_a_run_at_its_gate_and_one_that_has_paused(tmp_path: Path, database_url: str) -> None:
    async with conversation(tmp_path, database_url) as play:
        issue, first = await play.labelled()
        issue.comment(play.ada, "/abort It is not wanted any more.")
        await play.settled()
        assert await play.state(issue) == RunState.ABORTED
        assert headline(shown(play, first, "gate")[0]).startswith("⏹️ The run was stopped before a decision")
        (end,) = shown(play, first, "end")
        assert "It is not wanted any more." in end.body and "`/retry`" in end.body
        assert (await play.pull(issue)).state == "closed"

        issue.comment(play.ada, "/retry")
        await play.settled()
        issue.comment(play.ada, "/pause")
        await play.settled()
        second = await play.run(issue)
        assert (second["number"], second["state"]) == (2, RunState.PAUSED)
        (await play.pull(issue)).comment(play.ada, "/abort")
        await play.settled()
        assert await play.state(issue) == RunState.ABORTED
        assert len(await play.runs(issue)) == 2


async def test_a_run_pauses_tells_where_it_stands_and_goes_on_by_comment(tmp_path: Path, database_url: str) -> None:
    turns = {**TURNS, "change/1/1": [[held_up(tmp_path)], *CHANGE]}
    async with conversation(tmp_path, database_url, turns=turns) as play:
        issue, run = await play.labelled()
        pull = await play.pull(issue)
        issue.comment(play.ada, "/approve")
        await at_work(play, tmp_path)

        asked = pull.comment(play.outsider, "/status")
        await play.until(lambda: play.replies(pull))
        (answer,) = play.replies(pull)
        assert "@mallory" in answer and "is at work" in answer and "`change`" in answer

        pause = issue.comment(play.ada, "/pause for lunch")
        await play.settled()
        assert await play.state(issue) == RunState.PAUSED
        assert play.emoji(pause) == ["eyes", "rocket"]
        (status,) = shown(play, run, "status")
        assert headline(status).startswith("⏸️ Devflow has paused") and "`/resume`" in status.body
        assert "paused by ada" in status.body.lower() and "for lunch" in status.body
        twice = issue.comment(play.ada, "/pause")
        early = issue.comment(play.ada, "/approve")
        await play.settled()
        assert play.emoji(twice) == play.emoji(early) == ["eyes", "confused"]

        issue.comment(play.ada, "/status\n/help")
        await play.settled()
        assert "has paused" in play.replies(issue)[-1] and "`/revise <feedback>`" in play.replies(issue)[-1]

        issue.comment(play.ada, "/resume")
        await play.settled()
        assert await play.state(issue) == RunState.COMPLETED
        assert shown(play, run, "stop") == []  # she knows why it stood still
        assert play.emoji(asked) == ["eyes", "rocket"]
        assert len(play.replies(issue)) == 3


async def closes_the_issue(play: Stage, issue: Issue) -> None:
    issue.close(play.outsider)


async def closes_the_pull_request(play: Stage, issue: Issue) -> None:
    (await play.pull(issue)).close(play.ada)


async def deletes_the_branch(play: Stage, issue: Issue) -> None:
    play.repository.delete_branch((await play.run(issue))["branch"], play.ada)


async def takes_the_label_off(play: Stage, issue: Issue) -> None:
    issue.unlabel(play.ada, "devflow")


@pytest.mark.parametrize(
    ("happens", "why"),
    [
        (closes_the_issue, "the issue was closed"),
        (closes_the_pull_request, "the pull request was closed"),
        (deletes_the_branch, "its branch was deleted"),
        (takes_the_label_off, "the label devflow was taken off"),
    ],
)
async def test_what_leaves_a_run_without_a_purpose_ends_it_at_work(
    tmp_path: Path, database_url: str, happens: Happening, why: str
) -> None:
    turns = {**TURNS, "change/1/1": [[held_up(tmp_path)], *CHANGE]}
    async with conversation(tmp_path, database_url, turns=turns, abort_on_unlabel=True) as play:
        issue, run = await play.labelled()
        issue.comment(play.ada, "/approve")
        await at_work(play, tmp_path)
        await happens(play, issue)
        await play.settled()

        assert await play.state(issue) == RunState.ABORTED
        (status,) = shown(play, run, "status")
        assert why in status.body
        assert (await play.pull(issue)).state == "closed"
        let_go(tmp_path)

        # a retry takes what was approved with it, on an issue that is open
        issue.comment(play.ada, "/retry")
        await play.settled()
        if happens is closes_the_issue:
            assert "issue is closed" in play.replies(issue)[0]
            issue.reopen(play.ada)
            issue.comment(play.ada, "/retry")
            await play.settled()
        assert (await play.run(issue))["number"] == 2
        assert await play.state(issue) == RunState.COMPLETED


async def test_a_label_that_is_taken_off_means_nothing_unless_the_repository_says_so(
    tmp_path: Path, database_url: str
) -> None:
    async with conversation(tmp_path, database_url) as play:
        issue, run = await play.labelled()
        issue.unlabel(play.ada, "devflow")
        await play.settled()
        assert await play.state(issue) == RunState.AWAITING_APPROVAL
        # GitHub offers the label again, and a run is in flight
        a_minute_later(play)
        issue.label(play.ada, "devflow")
        await play.settled()
        assert [row["run_id"] for row in await play.runs(issue)] == [run["run_id"]]
        assert "no second run was started" in play.replies(issue)[0]


async def test_an_issue_that_is_deleted_or_transferred_takes_its_run_with_it(tmp_path: Path, database_url: str) -> None:
    async with conversation(tmp_path, database_url) as play:
        elsewhere = play.github.repository("octo/elsewhere", install=False)
        deleted, _ = await play.labelled()
        transferred = play.issue("Not ours")
        transferred.label(play.ada, "devflow")
        await play.settled()

        deleted.delete(play.ada)
        moved = transferred.transfer(play.ada, elsewhere)
        await play.settled()
        for issue, why in ((deleted, "was deleted"), (transferred, "was transferred to another repository")):
            run = await play.run(issue)
            assert run["state"] == RunState.ABORTED
            events = await play.host.engine.events(run["run_id"])
            assert [why in event["payload"]["note"] for event in events if event["type"] == "run.aborted"] == [True]
            assert (await play.pull(issue)).state == "closed"
        assert len(play.ours(moved)) == 1

        # what is said where the issue is now is not heard here
        moved.comment(play.ada, "/retry")
        await play.settled()
        assert len(await play.runs(transferred)) == 1


async def test_labels_on_a_closed_issue_and_on_pull_requests_start_nothing(tmp_path: Path, database_url: str) -> None:
    async with conversation(tmp_path, database_url) as play:
        issue, run = await play.labelled()
        ours = await play.pull(issue)
        play.repository.commit("feature", {"x": "y"}, play.ada)
        theirs = play.repository.open_pull(play.ada, "Mine", "feature")
        closed = play.issue("Done already")
        closed.close(play.ada)

        for page in (ours, theirs, closed):
            page.label(play.outsider, "devflow")
            page.unlabel(play.ada, "devflow")
            page.label(play.ada, "bug")
            page.label(play.ada, "devflow")
        ours.label(play.ada, "devflow:small")
        await play.settled()
        assert "Reopen it and put the label on again" in play.replies(closed)[0]
        for page in (ours, theirs):
            (reply,) = play.replies(page)
            assert "@ada, nothing was started: this is a pull request. Put the label on an issue." in reply
            assert play.emoji(page) == ["confused"]
        assert [row["run_id"] for row in await play.runs(issue)] == [run["run_id"]]
        assert await play.runs(closed) == []

        closed.reopen(play.ada)
        closed.unlabel(play.ada, "devflow")
        a_minute_later(play)
        closed.label(play.ada, "devflow")
        await play.settled()
        assert await play.state(closed) == RunState.AWAITING_APPROVAL
