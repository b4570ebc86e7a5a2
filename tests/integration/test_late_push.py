"""A push that was on the wire when its worker died: it may land after the next worker has put the branch in order."""

import subprocess
from pathlib import Path
from typing import Any

from app.local.remotes import LocalRemotes
from engine.ports import Remote
from engine.store.database import Database
from engine.store.tables import runs
from engine.workspace.git import IDENTITY_EMAIL, IDENTITY_NAME
from tests.support.cassettes import CHANGE, call, submit
from tests.support.engines import House, phase, small_house
from tests.support.repositories import git

EDIT = [call("edit_file", path="answer.py", old="41", new="42")]
PUBLISHING = 3  # after the start and the opening of the run, the repository is asked for to publish


class LandsLate(LocalRemotes):
    """A host whose repository gets a commit just before the run publishes."""

    def __init__(self, house: House, trailers: dict[str, str]) -> None:
        self.house = house
        self.trailers = trailers
        self.asked = 0

    async def remote(self, repository_id: int, location: str) -> Remote:
        """Return the repository, after the late commit has landed there."""
        self.asked += 1
        if self.asked == PUBLISHING:
            (run,) = await self.house.rows(runs)
            self._land(run["branch"], {"Devflow-Run": str(run["run_id"])} | self.trailers)
        return await super().remote(repository_id, location)

    def _land(self, branch: str, trailers: dict[str, str]) -> None:
        repository = self.house.repository
        message = "Late\n\n" + "".join(f"{name}: {value}\n" for name, value in trailers.items())
        identity = {"GIT_AUTHOR_NAME": IDENTITY_NAME, "GIT_AUTHOR_EMAIL": IDENTITY_EMAIL}
        identity |= {"GIT_COMMITTER_NAME": IDENTITY_NAME, "GIT_COMMITTER_EMAIL": IDENTITY_EMAIL}
        command = ["git", "-C", str(repository), "commit-tree", "main^{tree}", "-p", "main", "-m", message]
        made = subprocess.run(command, env=identity | {"PATH": "/usr/bin:/bin"}, capture_output=True, check=True)
        git(repository, "update-ref", f"refs/heads/{branch}", made.stdout.decode().strip())


async def run_with(tmp_path: Path, database: Database, trailers: dict[str, str]) -> tuple[House, Any]:
    house = small_house(tmp_path, database, phase("first"), phase("second"))
    late = house.with_remotes(LandsLate(house, trailers))
    turns = {"first/1/1": [EDIT, submit(CHANGE)], "second/1/1": [submit(CHANGE)]}
    _, run = await late.run(turns)
    return house, run


async def test_a_late_push_of_a_lost_worker_is_dropped_and_the_run_goes_on(tmp_path: Path, database: Database) -> None:
    house, run = await run_with(tmp_path, database, {"Devflow-Phase": "first", "Devflow-Epoch": "0"})

    assert (run["state"], run["error_message"]) == ("completed", None)
    subjects = git(house.repository, "log", "--format=%s", f"main..{run['branch']}").splitlines()
    assert len(subjects) == 3
    assert "Late" not in subjects


async def test_a_commit_of_somebody_else_is_never_dropped(tmp_path: Path, database: Database) -> None:
    house, run = await run_with(tmp_path, database, {"Devflow-Run": "another", "Devflow-Epoch": "0"})

    assert (run["state"], run["error_code"]) == ("paused", "push_conflict")
    assert git(house.repository, "log", "-1", "--format=%s", run["branch"]) == "Late"
