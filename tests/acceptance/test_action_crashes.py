"""Steps of the Action are killed, cancelled, lost and started twice; in the end there is one of everything.

What a killed step has left is gone on with by the next event's step, by one on a schedule, or by the same job, run
again. DEVFLOW_CRASH_POINTS=all tries every single point that a conversation passes, each with one of its own.
"""

import asyncio
import json
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.conformance import seen
from tests.conformance.backends.action import Action, action
from tests.conformance.backends.steps import Ended, Event, Started, state_commit
from tests.conformance.format import Conversation
from tests.support.cassettes import Turn
from tests.support.conversation import held_up, let_go
from tests.support.forked_cli import until
from tests.support.repositories import git
from tests.support.stage import TURNS

TWO_GATES = Conversation.model_validate(
    {
        "title": "Two gates, two people",
        "people": {"bob": "maintain"},
        "phases": {"spec": "spec_approval", "change": "change_approval"},
        "steps": [{"does": {"label": "devflow"}}],
    }
)
# A holder that was killed is waited for as long as its silence may last: three times the second of these.
QUICK = {"DEVFLOW_HEARTBEAT_SECONDS": "0.3", "DEVFLOW_WORKER_DEAD_AFTER_SECONDS": "1.5"}
SILENCE_SECONDS = 4.5
SCHEDULE = Event("schedule", {"schedule": "17 * * * *"})


@asynccontextmanager
async def place(
    folder: Path, database_url: str | None = None, turns: dict[str, list[Turn]] | None = None
) -> AsyncIterator[Action]:
    """Yield a repository whose workflow asks twice, and the jobs that its events start."""
    async with action(TWO_GATES, folder, database_url, turns=turns, variables=QUICK) as on:
        yield on


def _label(on: Action) -> None:
    on.world.the_issue.label(on.world.people["ada"], "devflow")


def _review(on: Action) -> None:
    on.world.the_pull.review(on.world.people["bob"], "approve", "That is what we want.")


def _comment(on: Action) -> None:
    on.world.the_pull.comment(on.world.people["ada"], "/approve")


Act = Callable[[Action], None]
CONVERSATION: tuple[Act, ...] = (_label, _review, _comment)


async def ended(started: Started) -> Ended:
    """Wait for a job's end."""
    return await asyncio.to_thread(started.ended)


async def die(on: Action, event: Event, point: str, **more: Any) -> bool:
    """Run a job that is killed at a failure point; returns whether it passed that point."""
    died = await ended(on.steps.start(event, inputs=on.inputs, DEVFLOW_FAILPOINT=point, **more))
    assert died.code in (-signal.SIGKILL, 0), died.log
    return died.code != 0


async def by_a_question(on: Action) -> None:
    """Have ada ask where things stand: the next event, whatever happened to the one before."""
    on.world.the_issue.comment(on.world.people["ada"], "/status")
    await passed(on, on.told())


async def by_schedule(on: Action) -> None:
    """Have the workflow run that is started once an hour: by then, nobody takes a step that was killed for alive."""
    await asyncio.sleep(SILENCE_SECONDS)
    await passed(on, SCHEDULE)


def holder(on: Action) -> Any:
    """Return which step holds the issue, by what is kept of it; None: no step does."""
    commit = state_commit(on.world.repository.git_dir, on.world.the_issue.number)
    return json.loads(git(on.world.repository.git_dir, "cat-file", "blob", f"{commit}:state.json"))["holder"]


async def passed(on: Action, event: Event, **more: Any) -> Ended:
    """Run a job, which must end well."""
    job = await on.run(event, **more)
    assert job.code == 0, job.log
    return job


async def hold(on: Action, points: dict[Act, str], recover: Callable[[Action], Any], *, is_stored: bool = False) -> int:
    """Hold the conversation; the job of an act with a point is killed there, and others go on. Returns the deaths.

    `is_stored`: of the label, too, so much is kept that others know of it.
    """
    deaths = 0
    for number, act in enumerate(CONVERSATION, 1):
        act(on)
        event, point = on.told(), points.get(act)
        if point is None:
            await passed(on, event)
            continue
        deaths += await die(on, event, point, run_id=number)
        await recover(on)
        if is_stored or await on.runs():
            assert await on.runs()
        else:
            # killed before anything was kept of the label: nobody knows of it but GitHub, where the job is run again
            await passed(on, event, run_id=number, attempt=2)
    return deaths


async def assert_whole(on: Action) -> None:
    """Assert that there is one of everything, that both decisions count once, and that the run has come to its end."""
    (run,) = await on.runs()
    assert (run.state, [str(one) for one in run.decisions]) == (
        "completed",
        ["approve by bob: That is what we want.", "approve by ada"],
    )
    world = on.world
    (pull,) = world.repository.pulls
    assert seen.state_of(pull) == "ready"
    seen.assert_single(world)
    asked = [one for one in world.the_issue.comments if one.body == "/status"]
    kinds = Counter(seen.kind_of(one) for page in (world.the_issue, pull) for one in seen.ours(world, page))
    assert kinds == {"status": 1, "gate": 2, "end": 1} | ({"reply": len(asked)} if asked else {})
    checks = world.repository.checks(pull.head_sha)
    assert [(one.status, one.conclusion) for one in checks] == [("completed", "success")]
    assert [len(world.repository.checks(one.head_sha)) for one in world.repository.check_runs] == [1] * len(
        world.repository.check_runs
    )
    for one in asked:  # there may have been no run yet to tell about
        first, last = (each.content for each in one.reactions if each.user.login == world.bot)
        assert (first, last in ("rocket", "confused")) == ("eyes", True)


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
        assert await hold(on, {_comment: point}, by_schedule) == 1

        await assert_whole(on)


# Each of the three steps of a conversation makes at most so many; `test_a_job_that_is_run_again...` counts.
_MOST = {"host_call": 60, "sql_commit": 150, "git_push": 30, "git_commit": 5, "file_write": 30}


def _points() -> list[tuple[Act, str]]:
    if os.environ.get("DEVFLOW_CRASH_POINTS") != "all":
        return [(_review, "host_call.before#9"), (_review, "git_push.before#7")]
    return [
        (act, f"{name}.{side}#{number}")
        for act in CONVERSATION
        for name, most in _MOST.items()
        for number in range(1, most + 1)
        for side in ("before", "after")
    ]


@pytest.mark.parametrize(("act", "point"), _points())
async def test_a_step_may_be_killed_anywhere(act: Act, point: str, tmp_path: Path) -> None:
    async with place(tmp_path) as on:
        if await hold(on, {act: point}, by_a_question) == 0:
            pytest.skip("the step does not pass this point")
        await assert_whole(on)


@pytest.mark.parametrize("patient", [True, False])
async def test_a_cancelled_job_lets_go_and_the_next_event_goes_on(patient: bool, tmp_path: Path) -> None:
    turns = {**TURNS, "change/1/1": [[held_up(tmp_path)], *TURNS["change/1/1"]]}
    async with place(tmp_path, turns=turns) as on:
        _label(on)
        await passed(on, on.told())
        _review(on)
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
        _comment(on)
        await passed(on, on.told())
        await assert_whole(on)


@pytest.mark.parametrize("shared", [False, True])
async def test_two_jobs_at_once_for_one_issue_count_each_event_once(
    shared: bool, tmp_path: Path, database_url: str
) -> None:
    async with place(tmp_path, database_url if shared else None) as on:
        _label(on)
        await passed(on, on.told())
        _review(on)
        on.world.the_issue.comment(on.world.people["ada"], "/status")
        events = (on.told(), on.told())

        both = await asyncio.gather(*(passed(on, event) for event in events))

        assert [job.code for job in both] == [0, 0]
        _comment(on)
        await passed(on, on.told())
        await assert_whole(on)


async def test_what_was_said_while_no_job_ran_is_made_up_for_by_the_next_one(tmp_path: Path) -> None:
    async with place(tmp_path) as on:
        _label(on)
        await passed(on, on.told())
        _review(on)
        on.told()  # its job was dropped while it waited for another one
        await by_a_question(on)
        _comment(on)
        on.told()  # and the runner of this one has vanished before it could begin
        await by_schedule(on)

        await assert_whole(on)


async def test_what_was_edited_into_a_command_before_any_job_looked_is_none(tmp_path: Path) -> None:
    async with place(tmp_path) as on:
        _label(on)
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
            assert {name: points[f"{name}.before"] for name in _MOST if points[f"{name}.before"] > _MOST[name]} == {}
            assert {point.partition(".")[0] for point in points} <= _MOST.keys()
            before = await seen.whole(on)
            await passed(on, event, run_id=number, attempt=2)
            assert await seen.whole(on) == before

        await assert_whole(on)
