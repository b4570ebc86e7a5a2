"""What was closed or deleted while no job was started for it ends its run with the next job, and nothing goes on."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conformance import seen
from tests.conformance.backends.action import Action
from tests.support.killed_steps import SCHEDULE, passed, place

NOT_DRIVEN = {"DEVFLOW_FAILPOINT": "model_call.before#1"}  # kills whoever asks an agent for anything


def _close_pull(on: Action) -> None:
    on.world.the_pull.close(on.world.people["bob"])


def _delete_branch(on: Action) -> None:
    on.world.repository.delete_branch(on.world.the_pull.head_ref, on.world.people["bob"])


def _delete_issue(on: Action) -> None:
    on.world.the_issue.delete(on.world.people["bob"])


@pytest.mark.parametrize(("lose", "shared"), [(_close_pull, False), (_delete_branch, True)])
async def test_an_approval_after_the_end_of_the_pull_request_sets_nothing_going(
    lose: Callable[[Action], None], shared: bool, tmp_path: Path, database_url: str
) -> None:
    async with place(tmp_path, database_url if shared else None) as on:
        on.world.the_issue.label(on.world.people["ada"], "devflow")
        await passed(on, on.told())
        lose(on)
        on.world.the_pull.comment(on.world.people["ada"], "/approve")
        await passed(on, on.told(), **NOT_DRIVEN)

        (run,) = await on.runs()
        assert (run.state, [str(one) for one in run.decisions]) == (
            "aborted",
            ["abort by bob: the pull request was closed"],
        )


@pytest.mark.parametrize("shared", [False, True])
async def test_the_schedule_ends_the_run_of_a_deleted_issue_and_is_green_from_then_on(
    shared: bool, tmp_path: Path, database_url: str
) -> None:
    async with place(tmp_path, database_url if shared else None) as on:
        on.world.the_issue.label(on.world.people["ada"], "devflow")
        await passed(on, on.told())
        _delete_issue(on)
        first, second = await passed(on, SCHEDULE, **NOT_DRIVEN), await passed(on, SCHEDULE, **NOT_DRIVEN)

        assert (first.annotations, second.annotations) == ([], [])
        (run,) = await on.runs()
        assert run.state == "aborted"
        assert [seen.state_of(pull) for pull in on.world.repository.pulls] == ["closed"]
