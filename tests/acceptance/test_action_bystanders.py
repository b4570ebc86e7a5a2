"""Events that are none of Devflow's start no database and leave nothing in the repository; questions are answered."""

from pathlib import Path

import pytest

from tests.acceptance.test_action_crashes import passed, place
from tests.conformance import seen
from tests.conformance.backends.action import Action
from tests.conformance.backends.steps import Ended
from tests.support.repositories import git

UNOPENED = {"DEVFLOW_FAILPOINT": "sql_commit.before#1"}  # kills whoever writes to a database


def _marks(on: Action) -> str:
    """Return the refs of ours in the repository."""
    return git(on.world.repository.git_dir, "for-each-ref", "--format=%(refname)", "refs/devflow/")


def _pull_of_people(on: Action, branch: str) -> None:
    ada, repository = on.world.people["ada"], on.world.repository
    repository.commit(branch, {"notes.md": "Notes\n"}, ada)
    repository.open_pull(ada, "Notes", branch)


async def _untouched(on: Action) -> Ended:
    job = await passed(on, on.told(), **UNOPENED)
    assert "Nothing to do" in job.log
    return job


@pytest.mark.parametrize("shared", [False, True])
async def test_what_people_do_elsewhere_opens_no_database_and_leaves_no_ref(
    shared: bool, tmp_path: Path, database_url: str
) -> None:
    async with place(tmp_path, database_url if shared else None) as on:
        ada, bob, mallory = (on.world.people[name] for name in ("ada", "bob", "mallory"))
        _pull_of_people(on, "notes")
        on.world.the_pull.review(bob, "approve", "Fine.")
        await _untouched(on)
        on.world.the_pull.comment(mallory, "/approve")
        await _untouched(on)
        on.world.the_issue.label(ada, "bug")
        await _untouched(on)
        if not shared:  # where the name is a run's branch, and there is no run
            _pull_of_people(on, "devflow/1-the-answer-is-wrong-0a1b2c3d")
            on.world.the_pull.review(bob, "approve", "Fine.")
            await _untouched(on)
            on.world.the_pull.comment(ada, "/approve")
            await _untouched(on)

        assert _marks(on) == ""
        pages = (on.world.the_issue, *on.world.repository.pulls)
        assert [one for page in pages for one in seen.ours(on.world, page)] == []


async def test_a_command_where_there_is_no_run_is_answered_and_leaves_no_ref(tmp_path: Path) -> None:
    async with place(tmp_path) as on:
        ada, mallory, issue = on.world.people["ada"], on.world.people["mallory"], on.world.the_issue
        asked = []
        for who, text in ((mallory, "/approve"), (mallory, "/approve"), (ada, "/help")):
            asked.append(issue.comment(who, text))
            await passed(on, on.told())
        _pull_of_people(on, "notes")
        on.world.the_pull.comment(ada, "/devflow help")
        await passed(on, on.told())

        assert _marks(on) == ""
        # a stranger gets words once an issue, and an emoji each time
        assert [[one.content for one in each.reactions][-1] for each in asked] == ["confused", "confused", "rocket"]
        assert [seen.kind_of(one) for one in seen.ours(on.world, issue)] == ["reply", "reply"]
        assert [seen.kind_of(one) for one in seen.ours(on.world, on.world.the_pull)] == ["reply"]


async def test_a_label_that_nothing_comes_of_leaves_no_ref(tmp_path: Path) -> None:
    async with place(tmp_path) as on:
        # as an issue form puts it on in the name of whoever fills it in
        on.world.the_issue.label(on.world.people["mallory"], "devflow")
        await passed(on, on.told())

        assert _marks(on) == ""
