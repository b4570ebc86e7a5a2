"""A conversation of three acts before the Action, any step of which may be killed; in the end all must be whole."""

import asyncio
import json
import signal
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.conformance import seen
from tests.conformance.backends.action import Action, action
from tests.conformance.backends.steps import Ended, Event, Started, state_commit
from tests.conformance.format import Conversation
from tests.support.cassettes import Turn
from tests.support.repositories import git

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
# Each of the three steps makes at most so many; `test_a_job_that_is_run_again_changes_nothing` counts.
MOST = {"host_call": 60, "sql_commit": 150, "git_push": 30, "git_commit": 5, "file_write": 30}
SCHEDULE = Event("schedule", {"schedule": "17 * * * *"})


@asynccontextmanager
async def place(
    folder: Path, database_url: str | None = None, turns: dict[str, list[Turn]] | None = None
) -> AsyncIterator[Action]:
    """Yield a repository whose workflow asks twice, and the jobs that its events start."""
    async with action(TWO_GATES, folder, database_url, turns=turns, variables=QUICK) as on:
        yield on


def label(on: Action) -> None:
    """Have ada put the label on."""
    on.world.the_issue.label(on.world.people["ada"], "devflow")


def review(on: Action) -> None:
    """Have bob approve the specification."""
    on.world.the_pull.review(on.world.people["bob"], "approve", "That is what we want.")


def comment(on: Action) -> None:
    """Have ada approve the change."""
    on.world.the_pull.comment(on.world.people["ada"], "/approve")


Act = Callable[[Action], None]
CONVERSATION: tuple[Act, ...] = (label, review, comment)


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
