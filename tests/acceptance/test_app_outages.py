"""GitHub is down, refuses, limits, forgets or answers slowly, at every stage of a run: nothing is lost or doubled.

The App and the double share a clock that stands still until a test moves it, so that ten minutes of an outage pass in a
moment, and nothing can be done earlier than GitHub said by luck.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from engine.domain.states import RunState
from engine.store import allowances
from engine.store.host_tables import projections
from tests.github_double import Issue, Request
from tests.support.cassettes import call
from tests.support.clock import SteppedClock
from tests.support.engines import config, workflow
from tests.support.shown_whole import assert_shown_whole
from tests.support.stage import CODE, PHASES, TURNS, Stage, stage

TEN_MINUTES = 600.0
SWEEP = 0.1
WHOLE_RUN = 200  # calls, with a wide margin: a run without faults takes about 110
DOWN = {"refused": {"refuse": True}, "502": {"status": 502}, "503": {"status": 503}}


@contextlib.asynccontextmanager
async def opened(folder: Path, database_url: str, **more: Any) -> AsyncIterator[tuple[Stage, SteppedClock]]:
    """Open a stage with a clock that a test steps."""
    clock = SteppedClock()
    async with stage(folder, database_url, clock=clock, settings={"sweep_seconds": SWEEP}, **more) as on:
        yield on, clock


async def passing(clock: SteppedClock, seconds: float, step: float = 60.0) -> None:
    """Let time pass, in steps that give everybody who waits for the time a chance to act."""
    for _ in range(int(seconds / step)):
        clock.step(step)
        await asyncio.sleep(SWEEP)


async def recovered(on: Stage, clock: SteppedClock) -> None:
    """Let time pass until nothing is left to do."""
    for _ in range(36):
        with contextlib.suppress(TimeoutError):
            await asyncio.sleep(2 * SWEEP)
            await on.settled(0.7)
            async with on.database.read() as tx:
                if not await tx.all(select(projections).where(projections.c.dirty)):
                    return
        clock.step(100)
    raise AssertionError(f"there is always something left to do: {await on.outcomes()}")


async def finish(on: Stage, clock: SteppedClock, issue: Issue) -> None:
    """Approve the gate and see the run through; then there is one of everything, and all of it is true."""
    (await on.pull(issue)).review(on.ada, "approve", "Good.")
    await recovered(on, clock)
    await assert_done(on, issue)


async def assert_done(on: Stage, issue: Issue, replies: int = 0) -> None:
    """Assert that the issue's one run is completed and shown once."""
    (run,) = await on.runs(issue)
    settings = on.host.engine.settings
    await assert_shown_whole(on.github, on.repository, on.database, settings, run["run_id"], replies=replies)


def asked(on: Stage, since: int) -> list[Request]:
    """Return what the App has asked GitHub's API and git since so many requests."""
    return [request for request in on.github.requests[since:] if request.token_kind != "pat"]


@pytest.mark.parametrize("how", DOWN)
async def test_ten_minutes_without_github_at_a_label_and_at_an_approval_lose_nothing_and_raise_no_storm(
    how: str, tmp_path: Path, database_url: str
) -> None:
    async with opened(tmp_path, database_url) as (on, clock):
        on.github.down(**DOWN[how])  # type: ignore[arg-type]
        issue = on.issue()
        issue.label(on.ada, "devflow")
        assert await outage_over(on, clock) < 60
        assert await on.state(issue) is RunState.AWAITING_APPROVAL
        assert on.emoji(issue)[0] == "eyes"

        on.github.down(**DOWN[how])  # type: ignore[arg-type]
        (await on.pull(issue)).review(on.ada, "approve", "Good.")
        assert await outage_over(on, clock) < 60
        await assert_done(on, issue)


async def test_every_push_of_a_run_that_github_does_not_take_is_made_when_it_is_back(
    tmp_path: Path, database_url: str
) -> None:
    async with opened(tmp_path, database_url) as (on, clock):

        async def lose_push(before: int) -> None:
            """Lose a push, after `before` more that are taken, and everything for ten minutes from then on."""
            lost = on.github.plan("POST", "*/git-receive-pack", status=502, skip=before, times=None)
            on.github.up()
            await on.until(lambda: lost.hits)
            on.github.down(503)
            on.github.clear_plans()
            asked_before = len(on.github.requests)
            await passing(clock, TEN_MINUTES)
            assert len(on.github.requests) - asked_before < 60
            assert (await on.run(issue))["error_code"] is None

        issue = on.issue()
        issue.label(on.ada, "devflow")
        await lose_push(0)  # what the run begins with
        await lose_push(1)  # the first phase's
        on.github.up()
        await recovered(on, clock)
        (await on.pull(issue)).review(on.ada, "approve", "Good.")
        await lose_push(1)  # the report's
        on.github.up()
        await recovered(on, clock)

        await assert_done(on, issue)


async def outage_over(on: Stage, clock: SteppedClock) -> int:
    """Let ten minutes of an outage pass, and see all made up for; returns how many calls were tried meanwhile."""
    before = len(on.github.requests)
    await passing(clock, TEN_MINUTES)
    meanwhile = len(on.github.requests)
    on.github.up()
    await recovered(on, clock)
    assert len(on.github.requests) - meanwhile < WHOLE_RUN
    return meanwhile - before


async def test_nothing_is_asked_before_the_hourly_limit_is_over(tmp_path: Path, database_url: str) -> None:
    async with opened(tmp_path, database_url) as (on, clock):
        issue, _ = await on.labelled()
        on.github.limit(0, reset_in=1800)
        before = len(on.github.requests)
        (await on.pull(issue)).review(on.ada, "approve", "Good.")
        await passing(clock, 1740, step=120)
        assert len(asked(on, before)) <= 3
        await recovered(on, clock)

        await assert_done(on, issue)


@pytest.mark.parametrize(("status", "retry_after", "waits"), [(403, 120, 120), (429, None, 60)])
async def test_nothing_is_changed_before_the_secondary_limit_is_over(
    status: int, retry_after: int | None, waits: int, tmp_path: Path, database_url: str
) -> None:
    async with opened(tmp_path, database_url) as (on, clock):
        issue, _ = await on.labelled()
        on.github.limit_secondary(retry_after, lasts=waits, status=status)
        before = len(on.github.requests)
        (await on.pull(issue)).review(on.ada, "approve", "Good.")
        await on.until(lambda: any(request.status == status for request in asked(on, before)))
        await asyncio.sleep(0.5)
        await passing(clock, waits - 2, step=(waits - 2) / 6)
        refused = [request for request in asked(on, before) if request.status == status]
        assert 1 <= len(refused) <= 8  # as many as were on their way at once
        await recovered(on, clock)

        assert [request for request in asked(on, before) if request.status == status] == refused
        await assert_done(on, issue)


async def test_tokens_that_are_revoked_in_the_middle_are_replaced(tmp_path: Path, database_url: str) -> None:
    async with opened(tmp_path, database_url) as (on, clock):
        issue, _ = await on.labelled()
        on.github.revoke_tokens()
        before = len(on.github.requests)

        await finish(on, clock, issue)

        assert Counter(request.status for request in asked(on, before))[401] <= 6


async def test_a_key_that_github_does_not_take_for_a_while_loses_nothing(tmp_path: Path, database_url: str) -> None:
    async with opened(tmp_path, database_url) as (on, clock):
        issue, _ = await on.labelled()
        on.github.revoke_tokens()
        on.github.plan(path="/app*", status=401, body={"message": "Bad credentials"}, times=None)
        before = len(on.github.requests)
        (await on.pull(issue)).review(on.ada, "approve", "Good.")
        await passing(clock, TEN_MINUTES)
        assert len(asked(on, before)) < 60
        assert await on.state(issue) is RunState.AWAITING_APPROVAL
        on.github.clear_plans()
        await recovered(on, clock)

        await assert_done(on, issue)


@pytest.mark.parametrize("how", ["uninstalled", "deleted"])
async def test_a_repository_that_goes_in_mid_run_stops_its_run_and_is_left_alone(
    how: str, tmp_path: Path, database_url: str
) -> None:
    turns = TURNS | {"change/1/1": [[call("run_command", command="sleep 1")], *TURNS["change/1/1"]]}
    async with opened(tmp_path, database_url, turns=turns) as (on, clock):
        issue, _ = await on.labelled()
        (await on.pull(issue)).review(on.ada, "approve", "Good.")
        while await on.state(issue) is not RunState.EXECUTING:
            await asyncio.sleep(0.02)
        on.github.hold()  # what GitHub says of it does not come
        if how == "deleted":
            on.repository.delete(on.ada)
        else:
            on.github.uninstall(on.repository)
        while await on.state(issue) is RunState.EXECUTING:
            await asyncio.sleep(0.05)
        run = await on.run(issue)
        # by whoever finds it out first, the one who publishes or the one who shows
        assert (run["state"], run["error_code"] in ("repository_not_found", "paused_by_person")) == ("paused", True)
        await passing(clock, TEN_MINUTES)
        before = len(on.github.requests)
        await passing(clock, TEN_MINUTES)
        assert asked(on, before) == []

        on.github.release()
        await recovered(on, clock)

        assert await on.state(issue) is RunState.ABORTED


KINDS_OF_WRITES = (
    ("POST", "*/reactions", None),
    ("POST", "*/issues/*/comments", None),
    ("PATCH", "*/issues/comments/*", None),
    ("POST", "*/pulls", None),
    ("PATCH", "*/pulls/*", None),
    ("POST", "*/check-runs", None),
    ("PATCH", "*/check-runs/*", None),
    ("POST", "/graphql", "addReaction"),
    ("POST", "/graphql", "markPullRequestReadyForReview"),
)


@pytest.mark.parametrize("status", [409, 422])
async def test_each_kind_of_write_that_is_refused_once_is_made_later(
    status: int, tmp_path: Path, database_url: str
) -> None:
    async with opened(tmp_path, database_url) as (on, clock):
        body = {"message": "Validation Failed", "errors": [{"resource": "Thing", "field": "x", "code": "invalid"}]}
        plans = [
            on.github.plan(method, path, status=status, body=body, contains=contains)
            for method, path, contains in KINDS_OF_WRITES
        ]
        issue = on.issue()
        issue.label(on.ada, "devflow")
        await recovered(on, clock)
        await settle_refusals(on, clock)
        (await on.pull(issue)).review(on.ada, "approve", "Good.")
        await recovered(on, clock)
        await settle_refusals(on, clock)

        assert [plan.hits for plan in plans] == [1] * len(plans)
        await assert_done(on, issue)


# What is read before a run starts, and before an approval counts.
READS = (
    ("*/contents/.github/devflow.yml", 403),
    ("*/collaborators/ada/permission", 403),
    ("*/issues/1", 409),
    ("*/issues/1/comments", 422),
)


async def test_a_label_and_an_approval_outlive_each_read_that_is_refused_once(
    tmp_path: Path, database_url: str
) -> None:
    async with opened(tmp_path, database_url) as (on, clock):
        body = {"message": "Although you appear to have the correct authorization, an IP allow list is enabled."}
        plans = [on.github.plan("GET", path, status=status, body=body) for path, status in READS]
        issue = on.issue()
        issue.label(on.ada, "devflow")
        await recovered(on, clock)
        assert await on.state(issue) is RunState.AWAITING_APPROVAL
        assert on.emoji(issue) == ["eyes", "rocket"]

        plans.append(on.github.plan("GET", "*/collaborators/ada/permission", status=403, body=body))
        approval = issue.comment(on.ada, "/approve")
        await recovered(on, clock)
        assert on.emoji(approval) == ["eyes", "rocket"]
        assert [plan.hits for plan in plans] == [1] * len(plans)
        await assert_done(on, issue)


async def settle_refusals(on: Stage, clock: SteppedClock) -> None:
    """Let the time come at which what GitHub has refused is tried again."""
    for _ in range(5):
        clock.step(130)
        await asyncio.sleep(2 * SWEEP)
        await on.settled()


async def test_answers_that_are_lost_after_it_was_done_double_nothing(tmp_path: Path, database_url: str) -> None:
    async with opened(tmp_path, database_url) as (on, clock):
        plans = [
            on.github.plan("POST", path, drop="after", contains=contains)
            for path, contains in (
                ("*/issues/*/comments", "/status"),
                ("*/issues/*/comments", "/gate/"),
                ("*/issues/*/comments", "/end"),
                ("*/pulls", None),
                ("*/check-runs", None),
                ("/graphql", "markPullRequestReadyForReview"),
            )
        ]
        issue = on.issue()
        issue.label(on.ada, "devflow")
        await recovered(on, clock)
        (await on.pull(issue)).review(on.ada, "approve", "Good.")
        await recovered(on, clock)
        await settle_refusals(on, clock)

        assert [plan.hits for plan in plans] == [1] * len(plans)
        await assert_done(on, issue)


async def test_slow_answers_for_one_repository_hold_up_no_other(tmp_path: Path, database_url: str) -> None:
    async with opened(tmp_path, database_url) as (on, clock):
        files = {
            "answer.py": CODE,
            ".devflow/workflows/small.yaml": workflow(*PHASES),
            ".github/devflow.yml": config(),
        }
        other = on.github.repository("octo/others", files)
        other.permit(on.ada, "write")
        on.github.plan(path="/repos/octo/answers/*", delay=4.0, times=None)
        slow = on.issue()
        slow.label(on.ada, "devflow")
        await on.until(lambda: on.github.calls(path_contains="octo/answers/"))
        quick = other.open_issue(on.ada, "The answer is wrong", "answer() must return 42.")
        quick.label(on.ada, "devflow")
        await on.until(lambda: any("/gate/" in one.body for pull in other.pulls for one in pull.comments))

        assert not on.repository.pulls
        on.github.clear_plans()
        await recovered(on, clock)
        assert await on.state(slow) is RunState.AWAITING_APPROVAL


async def test_when_the_allowance_for_content_is_used_up_the_rest_comes_a_minute_later(
    tmp_path: Path, database_url: str
) -> None:
    async with opened(tmp_path, database_url) as (on, clock):
        installation = on.repository.installation_id
        async with on.database.transaction() as tx:
            while await allowances.spend(tx, installation, clock.now()) is None:
                pass
        issue = on.issue()
        issue.label(on.ada, "devflow")
        await on.until(lambda: on.emoji(issue))
        for _ in range(100):
            if await on.runs(issue) and await on.state(issue) is RunState.AWAITING_APPROVAL:
                break
            await asyncio.sleep(0.1)
        assert await on.state(issue) is RunState.AWAITING_APPROVAL
        await asyncio.sleep(0.5)
        assert not on.repository.pulls
        assert not on.ours(issue)
        clock.step(61)
        await recovered(on, clock)

        await finish(on, clock, issue)
