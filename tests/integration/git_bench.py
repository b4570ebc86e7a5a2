"""Real repositories for the git tests: a source, a mirror of it, a worktree, and canaries that must never sing."""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from engine.domain.ids import uuid7
from engine.ports import Remote
from engine.workspace import publish
from engine.workspace.mirror import Mirror
from engine.workspace.source import Source, inspect_source, resolve_base
from engine.workspace.worktree import Worktree

IDENTITY = {
    "GIT_AUTHOR_NAME": "Person",
    "GIT_AUTHOR_EMAIL": "person@example.org",
    "GIT_COMMITTER_NAME": "Person",
    "GIT_COMMITTER_EMAIL": "person@example.org",
}


def person(repository: Path, *args: str, check: bool = True, stdin: bytes | None = None) -> str:
    """Run git as the person who owns the repository, without this machine's configuration."""
    env = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "GIT_CONFIG_NOSYSTEM": "1", **IDENTITY}
    done = subprocess.run(["git", *args], cwd=repository, env=env, input=stdin, capture_output=True, check=False)
    assert not check or done.returncode == 0, done.stderr.decode()
    return os.fsdecode(done.stdout).strip()


def make_source(path: Path, files: dict[str, str | bytes] | None = None) -> Path:
    """Return a repository on branch main with one commit that holds the files."""
    path.mkdir(parents=True)
    person(path, "init", "--quiet", "--initial-branch=main")
    for name, content in (files or {"README.md": "hello\n", "src/app.py": "print(1)\n"}).items():
        target = path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content if isinstance(content, bytes) else content.encode())
    person(path, "add", "--all")
    person(path, "commit", "--quiet", "--message=first")
    return path


@dataclass
class GitBench:
    """One run's places: the person's repository, the mirror, the worktree that its agents would work in."""

    root: Path
    source: Path
    facts: Source
    mirror: Mirror
    worktree: Worktree
    run_id: UUID
    base: str
    branch: str

    @property
    def tree(self) -> Path:
        """The folder that the agent writes to."""
        return self.worktree.path

    @property
    def workspaces(self) -> Path:
        """The folder of all worktrees."""
        return self.root / "workspaces"

    @property
    def canary(self) -> Path:
        """A file that appears if something planted was run."""
        return self.root / "canary"

    async def violations(self, *, code_phase: bool = True, exclude: tuple[str, ...] = ()) -> set[tuple[str, str]]:
        """Return path and rule of everything that forbids to publish the worktree."""
        snapshot = await publish.take_snapshot(self.worktree, self.base, exclude=exclude)
        found = publish.inspect(snapshot, publish.PublishPolicy(code_phase=code_phase))
        return {(one.path, one.rule) for one in found}

    async def commit(
        self, parent: str, *, epoch: int = 1, files: dict[str, bytes] | None = None, message: str = "Work"
    ) -> str:
        """Commit what the worktree has on `parent`; returns the commit."""
        snapshot = await publish.take_snapshot(self.worktree, parent)
        trailers = publish.trailers(self.run_id, "implement", epoch)
        done = await publish.commit(snapshot, self.branch, message=message, trailers=trailers, files=files)
        return done.sha

    async def push(self, commit: str, expected: str | None) -> None:
        """Push the run's branch."""
        await publish.push(self.mirror, self.branch, commit, expected=expected)

    async def drop(self, recorded: str, pushed: str | None, epoch: int) -> list[str]:
        """Put the branch in order as a worker does that takes the run over."""
        return await publish.drop_unrecorded(
            self.mirror, self.branch, recorded=recorded, pushed=pushed, run_id=self.run_id, epoch=epoch
        )


async def make_bench(root: Path, files: dict[str, str | bytes] | None = None, source: Path | None = None) -> GitBench:
    """Return a bench with a fresh worktree at the head of main."""
    source = source or make_source(root / "source", files)
    facts = await inspect_source(source)
    _, base = await resolve_base(facts, None)
    mirror = await Mirror.open(root / "mirrors", facts.repository_id, Remote(str(facts.common_dir)))
    await mirror.fetch("main", base)
    run_id = uuid7()
    worktree = await Worktree.create(mirror, root / "workspaces", run_id, base)
    branch = publish.branch_name(1, "Some work", run_id)
    return GitBench(root, source, facts, mirror, worktree, run_id, base, branch)
