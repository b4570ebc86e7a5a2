"""Work trees, commits and pushes on a repository of 3,000 files and 50 MB, beside what git alone takes for them."""

import asyncio
import itertools
import random
from pathlib import Path

from bench.stage import Figure, beside, make_repository, run_git
from engine.domain.ids import uuid7
from engine.ports import Remote
from engine.workspace import publish
from engine.workspace.mirror import Mirror
from engine.workspace.source import inspect_source
from engine.workspace.worktree import Worktree

FILES = 3_000
BYTES = 50_000_000
CHANGED = 10
SAMPLES = 5


async def measure(folder: Path) -> list[Figure]:
    """Return the times of each step of a run's way through git."""
    source = make_repository(folder / "source", _files())
    head = run_git(source, "rev-parse", "HEAD")
    facts = await inspect_source(source)
    mirror = await Mirror.open(folder / "mirrors", facts.repository_id, Remote(url=str(facts.common_dir)))
    await mirror.fetch("main", head)
    numbers = itertools.count()

    async def bare_worktree() -> None:
        await asyncio.to_thread(
            run_git, source, "worktree", "add", "--quiet", "--detach", str(folder / f"bare{next(numbers)}"), head
        )

    async def our_worktree() -> None:
        await Worktree.create(mirror, folder / "workspaces", uuid7(), head)

    worktrees = await beside(f"worktree of {FILES:,} files, 50 MB", our_worktree, bare_worktree, SAMPLES)
    return [worktrees, *await _publishing(folder, source, mirror, head)]


async def _publishing(folder: Path, source: Path, mirror: Mirror, head: str) -> list[Figure]:
    run_id = uuid7()
    worktree = await Worktree.create(mirror, folder / "workspaces", run_id, head)
    bare_tree = folder / "bare-tree"
    run_git(source, "worktree", "add", "--quiet", "-b", "bare", str(bare_tree), head)
    bare_remote = folder / "remote.git"
    run_git(source, "init", "--quiet", "--bare", str(bare_remote))
    run_git(source, "push", "--quiet", str(bare_remote), "main")
    branch = publish.branch_name(1, "measure", run_id)
    numbers = itertools.count()
    state: dict[str, str | None] = {"head": head, "pushed": None}

    async def bare_commit() -> None:
        _change(bare_tree, next(numbers))
        await asyncio.to_thread(run_git, bare_tree, "add", "--all")
        await asyncio.to_thread(run_git, bare_tree, "commit", "--quiet", "--message=Change")

    async def our_commit() -> None:
        _change(worktree.path, next(numbers))
        snapshot = await publish.take_snapshot(worktree, str(state["head"]))
        if publish.inspect(snapshot, publish.PublishPolicy(code_phase=True)):
            raise RuntimeError("the change may not be published")
        made = await publish.commit(
            snapshot, branch, message="Change", trailers=publish.trailers(run_id, "implement", 1)
        )
        state["head"] = made.sha

    async def bare_push() -> None:
        await bare_commit()
        await asyncio.to_thread(run_git, bare_tree, "push", "--quiet", str(bare_remote), "bare")

    async def our_push() -> None:
        await our_commit()
        await publish.push(mirror, branch, str(state["head"]), expected=state["pushed"])
        state["pushed"] = state["head"]

    return [
        await beside(f"inspect and commit {CHANGED} changed files", our_commit, bare_commit, 2 * SAMPLES),
        await beside("the same, and push", our_push, bare_push, 2 * SAMPLES),
    ]


def _files() -> dict[str, bytes]:
    noise = random.Random(1)
    size = BYTES // FILES
    # half text, half noise, so that packs and checkouts have some of both
    return {
        f"src/d{number % 60:02d}/f{number:04d}.txt": (f"line {number}\n" * (size // 20)).encode()
        + noise.randbytes(size // 2).hex().encode()[: size // 2]
        for number in range(FILES)
    }


def _change(tree: Path, number: int) -> None:
    for index in range(CHANGED):
        path = tree / "src" / f"d{index:02d}" / f"f{index:04d}.txt"
        path.write_text(f"{path.read_text()[:5000]}change {number}\n")
