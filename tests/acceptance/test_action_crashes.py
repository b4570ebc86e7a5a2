"""Steps of the Action are killed, cancelled, lost and started twice; in the end there is one of everything.

What a killed step has left is gone on with by the next event's step, by one on a schedule, or by the same job, run
again. `test_action_crash_points` kills steps at single points.
"""

import asyncio
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conformance import seen
from tests.conformance.backends.action import Action
from tests.support.conversation import held_up, let_go
from tests.support.forked_cli import until
from tests.support.killed_steps import (
    CONVERSATION,
    MOST,
    assert_whole,
    by_a_question,
    by_schedule,
    comment,
    ended,
    hold,
    holder,
    label,
    passed,
    place,
    review,
)
from tests.support.stage import TURNS

SPREAD = [
    pytest.param(("sql_commit.before#9", "host_call.after#2", "git_push.before#4"), by_a_question, id="by an event"),
    pytest.param(("git_push.after#1", "git_commit.after#1", "sql_commit.after#31"), by_schedule, id="by the schedule"),
]


@pytest.mark.parametrize(("points", "recover"), SPREAD)
async def test_what_a_killed_step_has_left_is_gone_on_with(
    points: tuple[str, str, str], recover: Callable[[Action], Any], tmp_path: Path
) -> None:
    async with place(tmp_path) as on:
        deaths = await hold(on, dict(zip(CONVERSATION, points, strict=True)), recover)

        assert deaths == len(points)
        await assert_whole(on)


IN_A_DATABASE = [
    pytest.param(("host_call.after#2", "git_push.after#1", "sql_commit.after#20"), by_a_question, id="anywhere"),
    # of these events nothing was done yet but that they were stored
    pytest.param(("sql_commit.after#4", "sql_commit.after#3", "sql_commit.after#4"), by_a_question, id="by an event"),
    pytest.param(("sql_commit.after#3", "sql_commit.after#4", "sql_commit.after#3"), by_schedule, id="by the schedule"),
]


@pytest.mark.parametrize(("points", "recover"), IN_A_DATABASE)
async def test_what_a_killed_step_has_left_in_a_database_is_gone_on_with(
    points: tuple[str, str, str], recover: Callable[[Action], Any], tmp_path: Path, database_url: str
) -> None:
    async with place(tmp_path, database_url) as on:
        deaths = await hold(on, dict(zip(CONVERSATION, points, strict=True)), recover, is_stored=True)

        assert deaths == len(points)
        await assert_whole(on)


@pytest.mark.parametrize(("point", "shared"), [("host_call.before#8", False), ("host_call.before#8", True)])
async def test_the_schedule_shows_the_end_that_a_killed_step_has_not_shown(
    point: str, shared: bool, tmp_path: Path, database_url: str
) -> None:
    async with place(tmp_path, database_url if shared else None) as on:
        assert await hold(on, {comment: point}, by_schedule) == 1

        await assert_whole(on)


@pytest.mark.parametrize("patient", [True, False])
async def test_a_cancelled_job_lets_go_and_the_next_event_goes_on(patient: bool, tmp_path: Path) -> None:
    turns = {**TURNS, "change/1/1": [[held_up(tmp_path)], *TURNS["change/1/1"]]}
    async with place(tmp_path, turns=turns) as on:
        label(on)
        await passed(on, on.told())
        review(on)
        working = on.steps.start(on.told(), inputs=on.inputs)
        await asyncio.to_thread(until, (tmp_path / "began").exists)

        # GitHub asks, waits for some seconds, and kills
        working.process.signal(signal.SIGINT)
        if not patient:
            working.process.signal(signal.SIGKILL)
        cancelled = await ended(working)
        let_go(tmp_path)

        assert (cancelled.code == -signal.SIGKILL) is not patient, cancelled.log
        (run,) = await on.runs()
        assert run.state == "executing"
        if patient:
            assert holder(on) is None, "the next step need not wait until this one counts as lost"
        await by_a_question(on)
        comment(on)
        await passed(on, on.told())
        await assert_whole(on)


@pytest.mark.parametrize("shared", [False, True])
async def test_two_jobs_at_once_for_one_issue_count_each_event_once(
    shared: bool, tmp_path: Path, database_url: str
) -> None:
    async with place(tmp_path, database_url if shared else None) as on:
        label(on)
        await passed(on, on.told())
        review(on)
        on.world.the_issue.comment(on.world.people["ada"], "/status")
        events = (on.told(), on.told())

        both = await asyncio.gather(*(passed(on, event) for event in events))

        assert [job.code for job in both] == [0, 0]
        comment(on)
        await passed(on, on.told())
        await assert_whole(on)


async def test_what_was_said_while_no_job_ran_is_made_up_for_by_the_next_one(tmp_path: Path) -> None:
    async with place(tmp_path) as on:
        label(on)
        await passed(on, on.told())
        review(on)
        on.told()  # its job was dropped while it waited for another one
        await by_a_question(on)
        comment(on)
        on.told()  # and the runner of this one has vanished before it could begin
        await by_schedule(on)

        await assert_whole(on)


async def test_what_was_edited_into_a_command_before_any_job_looked_is_none(tmp_path: Path) -> None:
    async with place(tmp_path) as on:
        label(on)
        await passed(on, on.told())
        now = on.world.github.world.now()
        clock, on.world.github.world.clock = on.world.github.world.clock, lambda: now  # all within one second
        prose = on.world.the_issue.comment(on.world.people["ada"], "Hm.")
        on.world.the_issue.edit_comment(on.world.people["bob"], prose, "/abort")
        on.world.github.world.clock = clock
        await by_a_question(on)

        (run,) = await on.runs()
        assert (run.state, prose.reactions) == ("awaiting_approval", [])


async def test_a_job_that_is_run_again_changes_nothing(tmp_path: Path) -> None:
    async with place(tmp_path) as on:
        for number, act in enumerate(CONVERSATION, 1):
            act(on)
            event = on.told()
            log = on.steps.folder / f"points-{number}"
            await passed(on, event, run_id=number, DEVFLOW_FAILPOINT_LOG=str(log))
            points = Counter(log.read_text().split())
            assert {name: points[f"{name}.before"] for name in MOST if points[f"{name}.before"] > MOST[name]} == {}
            assert {point.partition(".")[0] for point in points} <= MOST.keys()
            before = await seen.whole(on)
            await passed(on, event, run_id=number, attempt=2)
            assert await seen.whole(on) == before

        await assert_whole(on)
