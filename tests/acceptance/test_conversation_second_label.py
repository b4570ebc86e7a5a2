"""A second label while a run of the issue is in flight: refused, queued, or in the first one's place."""

import re
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from engine.domain.states import RunState
from engine.store.agent_tables import ledger, tool_calls
from tests.support.conversation import a_minute_later, at_work, conversation, headline, held_up, let_go, shown
from tests.support.engines import phase
from tests.support.stage import TURNS, Stage

ONE_PHASE = (phase("change", gates=["change_approval"]),)
OTHER_LABELS = {"robot": "small"}


def held_turns(folder: Path) -> Any:
    """What agents do where the first one stands still until it is let go."""
    return {**TURNS, "change/1/1": [[held_up(folder)], *TURNS["change/1/1"]]}


async def states(play: Stage, issue: Any) -> list[RunState]:
    """The states of the issue's runs, oldest first."""
    return [RunState(row["state"]) for row in await play.runs(issue)]


async def assert_silent(play: Stage, old: Any, new: Any) -> None:
    """Assert that the old run wrote, pushed and spent nothing once the new one had started."""
    began = new["started_at"]
    assert old["ended_at"] <= began
    assert max(event["at"] for event in await play.host.engine.events(old["run_id"])) <= began.isoformat()
    async with play.database.read() as tx:
        for table in (ledger, tool_calls):
            rows = await tx.all(select(table).where(table.c.run_id == old["run_id"]))
            assert all(row["started_at"] <= began and (row["ended_at"] or began) <= began for row in rows)
    refs = [one.payload["ref"] for one in play.github.deliveries if one.event == "push"]
    on_old = [index for index, ref in enumerate(refs) if ref.endswith(old["branch"])]
    on_new = [index for index, ref in enumerate(refs) if ref.endswith(new["branch"])]
    assert not on_old or max(on_old) < min(on_new)


async def test_a_second_label_is_refused_at_work_and_at_the_gate_and_taken_afterwards(
    tmp_path: Path, database_url: str
) -> None:
    turns = held_turns(tmp_path)
    async with conversation(tmp_path, database_url, phases=ONE_PHASE, turns=turns, labels=OTHER_LABELS) as play:
        # while the agent is at work
        issue = play.issue()
        issue.label(play.ada, "devflow")
        await at_work(play, tmp_path)
        issue.label(play.ada, "devflow:small")
        await play.until(lambda: play.replies(issue))
        (busy,) = play.replies(issue)
        assert "@ada, no second run was started: run 1" in busy and "is at work" in busy

        # while it waits for an answer
        let_go(tmp_path)
        await play.settled()
        issue.label(play.ada, "robot")
        await play.settled()
        _, waiting = play.replies(issue)
        assert "waits for a decision" in waiting and "`/abort`" in waiting
        assert play.emoji(issue) == ["eyes", "rocket", "confused"]
        assert await states(play, issue) == [RunState.AWAITING_APPROVAL]

        # and after its end, the same label is another run
        issue.comment(play.ada, "/approve")
        await play.settled()
        issue.unlabel(play.ada, "devflow")
        a_minute_later(play)
        issue.label(play.ada, "devflow")
        await play.settled()
        assert await states(play, issue) == [RunState.COMPLETED, RunState.AWAITING_APPROVAL]
        assert len(play.replies(issue)) == 2


async def test_labels_that_are_queued_run_one_after_the_other(tmp_path: Path, database_url: str) -> None:
    turns, more = held_turns(tmp_path), {"labels": OTHER_LABELS, "on_conflict": "queue"}
    async with conversation(tmp_path, database_url, phases=ONE_PHASE, turns=turns, **more) as play:
        issue = play.issue()
        issue.label(play.ada, "devflow")
        await at_work(play, tmp_path)
        issue.label(play.ada, "devflow:small")
        await play.until(lambda: len(play.replies(issue)) == 1)
        issue.label(play.ada, "robot")
        await play.until(lambda: len(play.replies(issue)) == 2)
        assert await states(play, issue) == [RunState.EXECUTING, RunState.CREATED, RunState.CREATED]
        first, second = play.replies(issue)
        assert re.search(r"@ada, run 2 .* begins when run 1 .* has ended", first)
        assert re.search(r"@ada, run 3 .* begins when run 2 .* has ended", second)

        let_go(tmp_path)
        await play.settled()
        waiting = shown(play, await play.run(issue, 2), "status")[0]
        assert await states(play, issue) == [RunState.AWAITING_APPROVAL, RunState.CREATED, RunState.CREATED]
        assert headline(waiting) == "⏳ Devflow waits its turn"

        # a command is about the run that goes on, until that has ended
        issue.comment(play.ada, "/approve")
        await play.settled()
        assert await states(play, issue) == [RunState.COMPLETED, RunState.AWAITING_APPROVAL, RunState.CREATED]
        issue.comment(play.ada, "/abort")
        await play.settled()
        assert await states(play, issue) == [RunState.COMPLETED, RunState.ABORTED, RunState.AWAITING_APPROVAL]
        one, two, three = await play.runs(issue)
        await assert_silent(play, one, two)
        await assert_silent(play, two, three)


@pytest.mark.parametrize("policy", ["interrupt", "rollback"])
async def test_a_new_run_takes_the_place_of_one_at_work_which_does_nothing_any_more(
    tmp_path: Path, database_url: str, policy: str
) -> None:
    turns = held_turns(tmp_path)
    async with conversation(tmp_path, database_url, phases=ONE_PHASE, turns=turns, on_conflict=policy) as play:
        issue = play.issue()
        issue.label(play.ada, "devflow")
        await at_work(play, tmp_path)
        issue.label(play.ada, "devflow:small")
        await play.settled()

        assert await states(play, issue) == [RunState.ABORTED, RunState.AWAITING_APPROVAL]
        (reply,) = play.replies(issue)
        assert re.search(r"@ada, run 1 .* is stopped, and run 2 .* begins", reply)
        old, new = await play.runs(issue)
        await assert_silent(play, old, new)
        assert (old["branch"] in play.repository.branches()) == (policy == "interrupt")
        assert headline(shown(play, old, "status")[0]) == "⏹️ Devflow was stopped"
        (before,) = [pull for pull in play.repository.pulls if pull.head_ref == old["branch"]]
        assert before.state == "closed"

        # what the old one would have done comes to nothing, and the new one is what commands are about
        let_go(tmp_path)
        issue.comment(play.ada, "/approve")
        await play.settled()
        assert await states(play, issue) == [RunState.ABORTED, RunState.COMPLETED]
        await assert_silent(play, *await play.runs(issue))


async def test_of_three_labels_at_once_the_last_one_stays(tmp_path: Path, database_url: str) -> None:
    more = {"labels": OTHER_LABELS, "on_conflict": "interrupt"}
    turns = held_turns(tmp_path)
    async with conversation(tmp_path, database_url, phases=ONE_PHASE, turns=turns, **more) as play:
        issue = play.issue()
        issue.label(play.ada, "devflow")
        await at_work(play, tmp_path)
        issue.label(play.ada, "devflow:small")
        issue.label(play.ada, "robot")
        await play.settled()

        assert await states(play, issue) == [RunState.ABORTED, RunState.ABORTED, RunState.AWAITING_APPROVAL]
        assert len(play.replies(issue)) == 2
        first, second, third = await play.runs(issue)
        await assert_silent(play, first, third)
        assert second["started_at"] is None or second["ended_at"] <= third["started_at"]


async def test_a_new_run_takes_the_place_of_one_that_waits_at_its_gate(tmp_path: Path, database_url: str) -> None:
    async with conversation(tmp_path, database_url, phases=ONE_PHASE, on_conflict="interrupt") as play:
        issue, old = await play.labelled()
        stale = await play.pull(issue)
        issue.label(play.ada, "devflow:small")
        await play.settled()

        old, new = await play.runs(issue)
        assert await states(play, issue) == [RunState.ABORTED, RunState.AWAITING_APPROVAL]
        assert headline(shown(play, old, "gate")[0]).startswith("⏹️ The run was stopped before a decision")
        await assert_silent(play, old, new)

        # an approval of the old pull request is no approval of the new one
        stale.review(play.ada, "approve")
        stale.comment(play.ada, "/approve")
        await play.settled()
        assert await states(play, issue) == [RunState.ABORTED, RunState.AWAITING_APPROVAL]
        assert "`/retry`" in play.replies(stale)[0]
