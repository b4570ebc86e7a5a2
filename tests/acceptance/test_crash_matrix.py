"""Kill the process at a failure point, resume the run, and find it as if nothing had happened.

The suite takes a spread choice of points. DEVFLOW_CRASH_POINTS=all takes every one that a whole run passes.
"""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.store.database import Database
from tests.support.forked_cli import ForkedCli
from tests.support.repositories import git
from tests.support.short_workflow import ROUNDS, Place
from tests.support.wholeness import assert_whole, only_run, snapshot

# A whole run passes about 82 SQL commits, 5 commits, 5 pushes and 7 writes of files.
_CHOICE = [
    "sql_commit.before#1",
    "sql_commit.after#8",
    "sql_commit.before#20",
    "git_commit.after#1",
    "git_push.before#1",
    "git_push.after#1",
    "sql_commit.after#28",
    "sql_commit.before#36",
    "git_push.after#2",
    "sql_commit.after#52",
    "git_commit.before#3",
    "sql_commit.before#68",
    "git_commit.after#5",
    "git_push.after#5",
    "file_write.before#4",
    "file_write.after#6",
]


def _points() -> list[str]:
    if os.environ.get("DEVFLOW_CRASH_POINTS") != "all":
        return _CHOICE
    times = {"sql_commit": 84, "git_commit": 5, "git_push": 5, "file_write": 7}
    return [
        f"{name}.{side}#{number}"
        for name, most in times.items()
        for number in range(1, most + 1)
        for side in ("before", "after")
    ]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A repository with the short workflow."""
    return Place(tmp_path)


@pytest.fixture
def cli(tmp_path: Path, database_url: str) -> Iterator[ForkedCli]:
    """The command, on a data folder and a database of this test alone."""
    opened = ForkedCli(tmp_path, database_url)
    yield opened
    opened.close()


@pytest.mark.parametrize("point", _points())
async def test_a_run_that_is_killed_and_resumed_ends_as_if_nothing_had_happened(
    point: str, place: Place, cli: ForkedCli, database: Database
) -> None:
    before = snapshot(place.repository)

    killed = cli.run(*place.run, "--approve", "always", env={"DEVFLOW_FAILPOINT": point})

    if killed.code == 0:
        assert os.environ.get("DEVFLOW_CRASH_POINTS"), "the run does not pass this point any more"
        pytest.skip("the run did not pass this point this time")
    assert killed.code == -signal.SIGKILL
    run_id = await only_run(database)
    if run_id is None:
        assert git(place.repository, "for-each-ref", "--format=%(refname)") == "refs/heads/main"
        assert not list(place.data_dir.glob("workspaces/*"))
        cli.run(*place.run, "--approve", "always", code=0)
        run_id = await only_run(database)
        assert run_id is not None
    else:
        resumed = cli.run("resume", str(run_id), "--approve", "always", "--json")
        if resumed.code == 2:  # it had ended, and only its report was missing
            assert resumed.error == "run_already_terminal"
        else:
            assert (resumed.code, resumed.json["state"]) == (0, "completed")
    await assert_whole(database, place.data_dir, place.repository, run_id, ROUNDS, before)
