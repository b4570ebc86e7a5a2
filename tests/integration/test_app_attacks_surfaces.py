"""Attacks on what the App shows: forged markers, pull requests of others, strangers who want many answers."""

import asyncio
import time
from pathlib import Path

from engine.domain.states import RunState
from tests.support.conversation import conversation
from tests.support.stage import Stage, stage

MINE = "<!-- devflow:run/{run}/pull -->\nCloses #1. Mine, all mine."


async def _branch(play: Stage) -> str:
    found: list[str] = []
    await play.until(lambda: found.extend(set(play.repository.branches()) - {"main", "dev"}) or found)
    return found[0]


async def test_a_pull_request_of_a_person_into_another_branch_is_not_taken_for_the_runs(
    tmp_path: Path, database_url: str
) -> None:
    async with stage(tmp_path, database_url) as play:
        play.repository.commit("dev", {"dev.txt": "x"}, play.ada)
        play.github.plan("POST", "*/pulls", delay=1.0, drop="before")
        issue = play.issue()
        issue.label(play.ada, "devflow")
        theirs = play.repository.open_pull(play.ada, "Into dev", await _branch(play), "dev", "By hand.")
        await play.until(lambda: len(play.repository.pulls) == 2)
        await play.settled()

        (ours,) = [pull for pull in play.repository.pulls if pull is not theirs]
        assert (ours.base_ref, ours.author.login) == ("main", play.bot)
        assert (theirs.title, theirs.body, theirs.state, theirs.draft) == ("Into dev", "By hand.", "open", False)


async def test_a_pull_request_that_a_person_opened_with_our_marker_stays_theirs_and_open(
    tmp_path: Path, database_url: str
) -> None:
    async with stage(tmp_path, database_url) as play:
        play.github.plan("POST", "*/pulls", delay=1.0)
        issue = play.issue()
        issue.label(play.ada, "devflow")
        branch = await _branch(play)
        run = await play.run(issue)
        body = MINE.format(run=run["run_id"])
        theirs = play.repository.open_pull(play.ada, "Mine", branch, "main", body)
        await play.settled()
        issue.comment(play.ada, "/abort")
        await play.settled()

        assert await play.state(issue) == RunState.ABORTED
        assert (theirs.title, theirs.body, theirs.state) == ("Mine", body, "open")
        assert play.repository.pulls == [theirs]


async def test_a_stranger_who_writes_commands_all_the_time_gets_few_answers_and_holds_up_nobody(
    tmp_path: Path, database_url: str
) -> None:
    async with conversation(tmp_path, database_url) as play:
        issue, _ = await play.labelled()
        before = len(play.github.calls("POST"))
        for number in range(60):
            issue.comment(play.outsider, f"/approve\n/abort {number}")
        await play.settled()
        made = len(play.github.calls("POST")) - before
        issue.comment(play.ada, "/approve")
        await play.settled()

        assert await play.state(issue) == RunState.COMPLETED
        assert len(play.replies(issue)) == 1
        assert made <= 30


async def test_a_long_comment_of_a_stranger_does_not_keep_the_server_from_answering(
    tmp_path: Path, database_url: str
) -> None:
    async with stage(tmp_path, database_url) as play:
        issue, _ = await play.labelled()
        longest = 0.0

        async def watch() -> None:
            nonlocal longest
            loop = asyncio.get_running_loop()
            while True:
                began, worked = loop.time(), time.process_time()
                await asyncio.sleep(0.01)
                # what other processes take of the machine is no work of the server's
                longest = max(longest, min(loop.time() - began, time.process_time() - worked))

        watching = asyncio.create_task(watch())
        try:
            for _ in range(3):
                issue.comment(play.outsider, "/help\n" + "[a\n" * 21_000)
            await play.settled()
        finally:
            watching.cancel()

        assert longest < 1.0
