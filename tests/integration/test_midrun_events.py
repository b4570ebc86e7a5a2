"""Everything that may happen on GitHub in mid-run, row by row of the table that the documentation shows."""

import inspect
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from app.github import events
from app.inbound.midrun import ROWS, Effect, Row
from engine.domain.states import RunState
from tests.github_double import Issue
from tests.support.stage import Stage, stage

Happening = Callable[[Stage, Issue], Awaitable[None]]


async def labelled(play: Stage, issue: Issue) -> None:
    issue.label(play.ada, "devflow:small")


async def unlabelled(play: Stage, issue: Issue) -> None:
    issue.unlabel(play.ada, "devflow")


async def edited(play: Stage, issue: Issue) -> None:
    issue.edit(play.outsider, title="Something else", body="Something else.")


async def closed(play: Stage, issue: Issue) -> None:
    issue.close(play.outsider)


async def reopened(play: Stage, issue: Issue) -> None:
    # both are under way when the first is handled, so that the issue is open by then
    play.github.hold()
    issue.close(play.ada)
    issue.reopen(play.ada)
    play.github.release()


async def deleted(play: Stage, issue: Issue) -> None:
    payload = next(one for one in play.github.deliveries if one.payload.get("action") == "labeled").payload
    play.github.send("issues", {**payload, "action": "deleted"})


async def commented(play: Stage, issue: Issue) -> None:
    issue.comment(play.ada, "/approve")


async def comment_edited(play: Stage, issue: Issue) -> None:
    comment = issue.comment(play.ada, "I think so.")
    issue.edit_comment(play.ada, comment, "/approve")


async def comment_deleted(play: Stage, issue: Issue) -> None:
    (status, *_) = play.ours(issue)
    issue.delete_comment(play.ada, status)


async def reviewed(play: Stage, issue: Issue) -> None:
    (await play.pull(issue)).review(play.ada, "approve")


async def review_dismissed(play: Stage, issue: Issue) -> None:
    pull = await play.pull(issue)
    review = pull.review(play.outsider, "approve")
    pull.dismiss_review(play.ada, review)


async def pushed_beside(play: Stage, issue: Issue) -> None:
    play.repository.commit((await play.run(issue))["branch"], {"notes.txt": "Mine.\n"}, play.ada)


async def pushed_content(play: Stage, issue: Issue) -> None:
    run = await play.run(issue)
    path = f".devflow/runs/{run['run_id']}/spec.json"
    before = play.repository.read(run["branch"], path)
    assert before is not None
    play.repository.commit(run["branch"], {path: before.replace("Change the constant", "Compute it")}, play.ada)


async def branch_deleted(play: Stage, issue: Issue) -> None:
    play.repository.delete_branch((await play.run(issue))["branch"], play.ada)


async def pull_labelled(play: Stage, issue: Issue) -> None:
    (await play.pull(issue)).label(play.ada, "devflow")


async def pull_closed(play: Stage, issue: Issue) -> None:
    (await play.pull(issue)).close(play.ada)


async def pull_reopened(play: Stage, issue: Issue) -> None:
    play.github.hold()
    pull = await play.pull(issue)
    pull.close(play.ada)
    pull.reopen(play.ada)
    play.github.release()


async def check_rerequested(play: Stage, issue: Issue) -> None:
    payload = next(one for one in play.github.deliveries if one.payload.get("action") == "labeled").payload
    head = (await play.pull(issue)).head_sha
    check = {"head_sha": head, "external_id": "x", "id": 1}
    play.github.send("check_run", {**payload, "action": "rerequested", "check_run": check})


async def uninstalled(play: Stage, issue: Issue) -> None:
    play.github.uninstall(play.repository)


async def repository_deleted(play: Stage, issue: Issue) -> None:
    play.repository.delete(play.ada)


async def renamed(play: Stage, issue: Issue) -> None:
    play.repository.rename("octo/replies", play.ada)


HAPPENINGS: dict[str, Happening] = {
    one.__name__: one
    for one in (
        labelled,
        unlabelled,
        edited,
        closed,
        reopened,
        deleted,
        commented,
        comment_edited,
        comment_deleted,
        reviewed,
        review_dismissed,
        pushed_beside,
        pushed_content,
        branch_deleted,
        pull_labelled,
        pull_closed,
        pull_reopened,
        check_rerequested,
        uninstalled,
        repository_deleted,
        renamed,
    )
}


def test_every_event_that_is_read_has_its_row() -> None:
    known = {
        kind
        for _, kind in inspect.getmembers(events, inspect.isclass)
        if issubclass(kind, events.Event) and not kind.__subclasses__()
    }

    assert known - {kind for row in ROWS for kind in row.kinds} == set()
    assert [row.key for row in ROWS] == list(HAPPENINGS)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.key)
async def test_what_happens_in_mid_run_does_what_the_table_says(tmp_path: Path, database_url: str, row: Row) -> None:
    async with stage(tmp_path, database_url) as play:
        issue, run = await play.labelled()
        (asked,) = await play.host.engine.requests(run["run_id"])

        await HAPPENINGS[row.key](play, issue)
        await play.settled()

        now = await play.run(issue, run["number"])
        requests = await play.host.engine.requests(run["run_id"])
        expected = {
            Effect.NOTHING: (RunState.AWAITING_APPROVAL, ["pending"]),
            Effect.ENDS: (RunState.ABORTED, ["aborted"]),
            Effect.DECIDES: (RunState.COMPLETED, ["approved"]),
            Effect.ASKS_ANEW: (RunState.AWAITING_APPROVAL, ["superseded", "pending"]),
        }
        assert (now["state"], [one["state"] for one in requests]) == expected[row.effect]
        assert requests[0]["request_id"] == asked["request_id"]
        assert len(await play.runs(issue)) == 1
        assert not [outcome for outcome in await play.outcomes() if outcome[1] in ("failed", "unreadable")]


async def test_a_renamed_repository_keeps_its_run_and_lets_it_go_on(tmp_path: Path, database_url: str) -> None:
    async with stage(tmp_path, database_url) as play:
        issue, _ = await play.labelled()
        play.repository.rename("octo/replies", play.ada)
        await play.settled()
        issue.comment(play.ada, "/approve")
        await play.settled()

        assert await play.state(issue) == RunState.COMPLETED


async def test_a_suspended_app_ends_its_runs_and_works_again_afterwards(tmp_path: Path, database_url: str) -> None:
    async with stage(tmp_path, database_url) as play:
        issue, _ = await play.labelled()
        play.github.suspend(play.repository)
        await play.settled()
        between = await play.state(issue)
        play.github.unsuspend(play.repository)
        await play.settled()
        issue.comment(play.ada, "/retry")
        await play.settled()

        assert (between, await play.state(issue)) == (RunState.ABORTED, RunState.AWAITING_APPROVAL)


async def test_a_push_to_another_branch_and_a_strangers_pull_request_are_nobodys_business(
    tmp_path: Path, database_url: str
) -> None:
    async with stage(tmp_path, database_url) as play:
        issue, _ = await play.labelled()
        play.repository.commit("feature", {"x": "y"}, play.ada)
        mine = play.repository.open_pull(play.ada, "Mine", "feature")
        mine.review(play.outsider, "approve")
        mine.close(play.ada)
        play.repository.delete_branch("feature", play.ada)
        await play.settled()

        assert await play.state(issue) == RunState.AWAITING_APPROVAL
        assert play.ours(mine) == []
