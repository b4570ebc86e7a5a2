"""A hosted repository as the engine sees it: a bare repository behind a host that can be down, and triggers for it."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sqlalchemy import select, update

from engine.domain.envelope import FrozenTrigger
from engine.domain.errors import DevflowError
from engine.facade import Engine
from engine.ports import Remote
from engine.start import HostedRepository, HostedStart, Started, Trigger
from engine.store.database import Database
from engine.store.host_tables import projections
from tests.support.cassettes import Turn, cassette
from tests.support.engines import House, small_house
from tests.support.repositories import commit_files, git

REPOSITORY_ID = 4711
TITLE = "The answer is wrong"
BODY = "answer() must return 42."
ADA, GRACE = ("ada", 1), ("grace", 2)


class BareRemotes:
    """A host with bare repositories on this machine; `down` and `gone` say how it answers now, `asked` counts.

    `url` is where repositories are instead of at their paths.
    """

    def __init__(self) -> None:
        self.down = False
        self.gone = False
        self.asked = 0
        self.url: str | None = None

    async def remote(self, repository_id: int, location: str) -> Remote:
        """Return the repository at its path."""
        del repository_id
        self.asked += 1
        if self.down:
            raise DevflowError("github_unavailable", "the host does not answer")
        if self.gone:
            raise DevflowError("repository_not_found", "the host knows no such repository")
        return Remote(self.url or location)


@dataclass
class HostedHouse(House):
    """A house whose repository is a bare one of a host; `clone` is where a person works."""

    clone: Path
    remotes: BareRemotes

    async def trigger(
        self,
        turns: dict[str, list[Turn]] | None = None,
        *,
        issue: int = 7,
        key: str = "label:1",
        by: tuple[str, int] = ADA,
        snapshot: FrozenTrigger | None = None,
        branch: str = "main",
        **more: Any,
    ) -> Started:
        """Start a run as a label does, of a recorded agent where `turns` are given."""
        seen = snapshot or FrozenTrigger(TITLE, BODY, author="linus", permission="read", author_id=3)
        start = HostedStart(
            repository=HostedRepository(REPOSITORY_ID, str(self.repository), branch),
            trigger=Trigger(issue_number=issue, snapshot=seen, key=key, by=by[0], by_id=by[1]),
            cassette=None if turns is None else ("test.yaml", cassette(turns)),
            **more,
        )
        return await self.engine.start_hosted(start)

    async def run_hosted(self, turns: dict[str, list[Turn]], **more: Any) -> tuple[Any, Any]:
        """Start a run and drive it to its first stop; returns its id and its row."""
        started = await self.trigger(turns, **more)
        return started.run_id, await self.drive(started.run_id)

    def push(self, branch: str, files: dict[str, str]) -> str:
        """Push a commit with these files to a branch, as a person does from a clone; returns it."""
        git(self.clone, "fetch", "--quiet", "origin", branch)
        git(self.clone, "checkout", "--quiet", "--detach", "FETCH_HEAD")
        made = commit_files(self.clone, files, "By hand")
        git(self.clone, "push", "--quiet", "origin", f"HEAD:refs/heads/{branch}")
        return made

    def head(self, branch: str) -> str:
        """Return where a branch of the hosted repository is, empty where there is none."""
        return git(self.repository, "for-each-ref", "--format=%(objectname)", f"refs/heads/{branch}")

    def show(self, branch: str, path: str) -> str:
        """Return a file of a branch."""
        return git(self.repository, "show", f"{branch}:{path}")

    async def shown(self, run_id: Any) -> bool | None:
        """Return whether the run's projection is dirty, None where it has none."""
        async with self.database.read() as tx:
            row = await tx.maybe(select(projections.c.dirty).where(projections.c.run_id == run_id))
        return None if row is None else bool(row["dirty"])

    async def mark_shown(self, run_id: Any) -> None:
        """Say that the run's present state has been shown."""
        async with self.database.transaction() as tx:
            await tx.execute(update(projections).where(projections.c.run_id == run_id).values(dirty=False))


def hosted_house(folder: Path, database: Database, *phases: Any, **more: Any) -> HostedHouse:
    """Return a house as `small_house` does, with its repository on a host."""
    house = small_house(folder, database, *phases, **more)
    bare = folder / "hosted.git"
    git(folder, "clone", "--quiet", "--bare", str(house.repository), str(bare))
    git(house.repository, "remote", "add", "origin", str(bare))
    remotes = BareRemotes()
    engine = Engine(replace(house.engine.settings), database, remotes)
    return HostedHouse(engine=engine, repository=bare, clone=house.repository, remotes=remotes)
