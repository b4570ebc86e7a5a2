"""The folder in which one run's agents work, and what they have changed in it.

A linked work tree of the mirror, laid out by hand (gitrepository-layout(5)) so that its administration is named by the
run and a half-made one is recognised: the token file is written last. The engine's git always names repository, work
tree and index itself and never reads the `.git` that stands in the folder.
"""

import asyncio
import contextlib
import errno
import os
import secrets
import shutil
import subprocess
from collections.abc import AsyncIterator, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from uuid import UUID

from engine.atomic_file import write_file
from engine.domain.errors import DevflowError
from engine.workspace import files
from engine.workspace.git import Git, GitFailed, GitResult, split_nul
from engine.workspace.mirror import Mirror
from engine.workspace.rules import Change, in_runs_folder, shown
from engine.workspace.scan import Obstacle, scan

_TOOLS = {"PATH": os.defpath}
_MAX_REPAIRS = 20


@dataclass(frozen=True)
class TreeState:
    """The work tree as one tree object, and how it differs from a commit.

    Where git had to be kept away from the work tree, `obstacles` says why, `tree` is the commit's and there are no
    changes.
    """

    tree: str
    changes: tuple[Change, ...]
    obstacles: tuple[Obstacle, ...]


@dataclass(frozen=True)
class Worktree:
    """One run's work tree; `token` tells it from a later one at the same place."""

    mirror: Mirror
    run_id: UUID
    path: Path
    token: str

    @classmethod
    async def create(cls, mirror: Mirror, root: Path, run_id: UUID, commit: str) -> "Worktree":
        """Check `commit` out at `<root>/<run_id>/main`, replacing whatever was there; raises `storage_full`."""
        await remove_worktree(mirror, root, run_id)
        path = _place(root, run_id)
        admin = _admin(mirror, run_id)
        worktree = cls(mirror, run_id, path, secrets.token_hex(16))
        with _disk():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.mkdir()
            admin.mkdir(parents=True)
            (path / ".git").write_bytes(worktree.gitfile)
        for name, content in (("commondir", "../.."), ("gitdir", str(path / ".git")), ("HEAD", commit)):
            await asyncio.to_thread(write_file, admin / name, os.fsencode(content + "\n"))
        await worktree.git.run("read-tree", "--reset", "-u", commit)
        await asyncio.to_thread(write_file, admin / "token", worktree.token.encode())
        return worktree

    @classmethod
    async def open(cls, mirror: Mirror, root: Path, run_id: UUID, commit: str) -> "Worktree":
        """Return the run's work tree as its last process left it, or a new one at `commit` where it is not intact."""
        token_file = _admin(mirror, run_id) / "token"
        worktree = cls(mirror, run_id, _place(root, run_id), token_file.read_text() if token_file.is_file() else "")
        if worktree.token and worktree._intact():
            return worktree
        return await cls.create(mirror, root, run_id, commit)

    @property
    def admin(self) -> Path:
        """The work tree's own folder inside the mirror."""
        return _admin(self.mirror, self.run_id)

    @property
    def gitfile(self) -> bytes:
        """What the `.git` at the top of the work tree contains."""
        return b"gitdir: " + os.fsencode(self.admin) + b"\n"

    @property
    def git(self) -> Git:
        """Git bound to the work tree and its own index; scan the work tree before it reads from there."""
        return Git(self.admin, self.path, self.admin / "index")

    async def scan(self, parent: str, exclude: Collection[str] = ()) -> list[Obstacle]:
        """Return what keeps git away from the work tree (see `scan`)."""
        links = await self.mirror.gitlinks(parent)
        return await asyncio.to_thread(scan, self.path, self.gitfile, exclude=exclude, gitlinks=links)

    async def store(self, parent: str, exclude: Collection[str] = ()) -> TreeState:
        """Store the work tree as a tree object and compare it with the commit `parent`.

        Untracked files count unless they are ignored. Paths in `exclude`, files or folders, are as in `parent`; so is
        what is missing from the engine's own folder, of which a work tree need not have the newest files.
        """
        obstacles = await self.scan(parent, exclude)
        if obstacles:
            return TreeState(await self.mirror.tree_of(parent), (), tuple(obstacles))
        async with self._private_index() as git:
            await git.run("read-tree", "--reset", parent)
            specs = [".", *(f":(exclude,top,literal){path.strip('/')}" for path in exclude if path.strip("/"))]
            pathspecs = b"\0".join(os.fsencode(spec) for spec in specs)
            arguments = ("add", "--all", "--pathspec-from-file=-", "--pathspec-file-nul")
            added = await git.run(*arguments, input=pathspecs, check=False)
            if added.code != 0:
                return TreeState(await self.mirror.tree_of(parent), (), (_refused(added),))
            changes = await self._compare(git, parent, await git.text("write-tree"))
            missing = [change for change in changes if change.status == "D" and in_runs_folder(change.path)]
            if missing:
                await add_to_index(git, {change.path: (change.old_mode, change.old_blob) for change in missing})
                changes = [change for change in changes if change not in missing]
            return TreeState(await git.text("write-tree"), tuple(changes), ())

    async def changed_paths(self, parent: str) -> list[str]:
        """Return what differs from the commit: changed files, and folders where everything in them is new.

        A repository that was put into the work tree counts as such a folder. Raises `protected_path` for what git
        cannot be let near otherwise.
        """
        repositories: set[str] = set()
        while obstacles := await self.scan(parent, repositories):
            for found in obstacles:
                folder = found.path.rpartition("/")[0]
                if found.rule != "nested_repository" or not folder:
                    raise DevflowError("protected_path", f"{shown(found.path)}: {found.message}")
                repositories.add(folder)
        async with self._private_index() as git:
            await git.run("read-tree", "--reset", parent)
            await git.run("update-index", "-q", "--refresh", check=False)  # exit code 1: something has changed
            changed = await git.run("diff-files", "-z", "--name-only", "--ignore-submodules=all")
            new = await git.run("ls-files", "--others", "--directory", "--exclude-standard", "-z")
        paths = [path for path in split_nul(changed.stdout) if not in_runs_folder(path) or _exists(self.path / path)]
        every = {*paths, *(path.rstrip("/") for path in split_nul(new.stdout)), *repositories}
        return sorted(path for path in every if not any(str(above) in every for above in PurePosixPath(path).parents))

    async def reset_to(self, commit: str, keep: Collection[str] = ()) -> None:
        """Make the work tree what `commit` (or a tree) has; ignored files and the paths in `keep` stay as they are.

        Where git cannot be let in even after what it must not meet is gone, the work tree is checked out anew.
        """
        for _ in range(_MAX_REPAIRS):
            obstacles = await self.scan(commit, keep)
            if not obstacles:
                break
            await asyncio.to_thread(self._clear, obstacles)
        if await self.scan(commit, keep):
            await self._anew(commit)
            return
        kept = tuple(path.strip("/") for path in keep)
        before = await asyncio.to_thread(self._contents, kept)
        async with self._private_index() as git:
            try:
                await git.run("read-tree", "--reset", "-u", commit)
            except GitFailed:
                await self._anew(commit)
                return
            await asyncio.to_thread(self._put_back, before)
            others = await git.run("ls-files", "--others", "--exclude-standard", "-z")
            if git.index is not None:
                git.index.replace(self.admin / "index")
        for path in split_nul(others.stdout):
            if not any(path == one or path.startswith(one + "/") for one in kept):
                await asyncio.to_thread(_delete, self.path / path)
                _drop_empty_folders(self.path, PurePosixPath(path))

    async def remove(self) -> None:
        """Delete the work tree and its administration; nothing happens where it is gone already."""
        await remove_worktree(self.mirror, self.path.parent.parent, self.run_id)

    @contextlib.asynccontextmanager
    async def _private_index(self) -> AsyncIterator[Git]:
        """Lend git with a copy of the index, so that a process that dies leaves no lock and no half-made state."""
        index = self.admin / f"index.{secrets.token_hex(8)}"
        try:
            with _disk(), contextlib.suppress(FileNotFoundError):
                await asyncio.to_thread(shutil.copyfile, self.admin / "index", index)
            yield Git(self.admin, self.path, index)
        finally:
            index.unlink(missing_ok=True)

    async def _compare(self, git: Git, parent: str, tree: str) -> list[Change]:
        arguments = ("-r", "-z", "--raw", "--no-renames", "--full-index", "--ignore-submodules=none")
        parts = split_nul((await git.run("diff-tree", *arguments, f"{parent}^{{tree}}", tree)).stdout)
        rows = [(*meta[1:].split(" "), path) for meta, path in zip(parts[::2], parts[1::2], strict=True)]
        sizes = await self._sizes([blob for _, mode, _, blob, _, _ in rows if mode not in ("000000", "160000")])
        return [
            Change(path, status, mode, sizes.get(blob), blob, old_mode, old_blob)
            for old_mode, mode, old_blob, blob, status, path in rows
        ]

    async def _sizes(self, blobs: list[str]) -> dict[str, int]:
        wanted = "".join(f"{blob}\n" for blob in blobs).encode()
        lines = await self.mirror.git.text("cat-file", "--batch-check=%(objectname) %(objectsize)", input=wanted)
        return {blob: int(size) for blob, size in (line.split(" ") for line in lines.splitlines())}

    def _intact(self) -> bool:
        try:
            return (
                self.path.is_dir() and not self.path.is_symlink() and (self.path / ".git").read_bytes() == self.gitfile
            )
        except OSError:
            return False

    def _clear(self, obstacles: list[Obstacle]) -> None:
        for found in obstacles:
            target = self.path / found.path
            if found.rule not in ("nested_repository", "special_file", "submodule"):
                continue
            _delete(target)
            if found.path == ".git":
                target.write_bytes(self.gitfile)
            elif found.rule == "submodule":
                target.mkdir()

    def _contents(self, paths: Collection[str]) -> dict[str, bytes]:
        found = {}
        for path in paths:
            with contextlib.suppress(OSError, files.UnsafePath):
                found[path] = files.read_bytes(self.path, path)
        return found

    def _put_back(self, contents: dict[str, bytes]) -> None:
        # git has put back those that the commit has; files that it does not know are still as they were
        for path, content in contents.items():
            with contextlib.suppress(files.UnsafePath):
                if self._contents([path]) != {path: content}:
                    files.write_bytes(self.path, path, content)

    async def _anew(self, commit: str) -> None:
        fresh = await Worktree.create(self.mirror, self.path.parent.parent, self.run_id, commit)
        # the engine itself put the files back, so for its sessions this is still the same work tree
        await asyncio.to_thread(write_file, fresh.admin / "token", self.token.encode())


async def add_to_index(git: Git, entries: dict[str, tuple[str, str]]) -> None:
    """Put blobs into an index, each by path, mode and object name, without a look at the work tree."""
    lines = b"".join(f"{mode} {blob}\t".encode() + os.fsencode(path) + b"\0" for path, (mode, blob) in entries.items())
    await git.run("update-index", "-z", "--index-info", input=lines)


async def remove_worktree(mirror: Mirror, root: Path, run_id: UUID) -> None:
    """Delete a run's work tree and its administration, also a half-made one."""
    # the token goes first: what is left after a crash in between is no longer taken for a work tree
    (_admin(mirror, run_id) / "token").unlink(missing_ok=True)
    leftovers = mirror.path.glob(f"index.{run_id}.*")  # of a process that died while it made a commit
    for place in (_place(root, run_id).parent, _admin(mirror, run_id), *leftovers):
        await asyncio.to_thread(_delete, place)


def _place(root: Path, run_id: UUID) -> Path:
    return Path(os.path.realpath(root)) / str(run_id) / "main"


def _admin(mirror: Mirror, run_id: UUID) -> Path:
    return mirror.path / "worktrees" / str(run_id)


def _delete(path: Path) -> None:
    """Delete a file or a folder, also one that an agent made too deep or took the permissions from."""
    try:
        if path.is_symlink() or not path.is_dir():
            path.unlink()
            return
        try:
            shutil.rmtree(path)
        except (PermissionError, RecursionError):
            subprocess.run(["chmod", "-R", "u+rwX", "--", path], env=_TOOLS, check=False, capture_output=True)
            subprocess.run(["rm", "-rf", "--", path], env=_TOOLS, check=True, capture_output=True)
    except FileNotFoundError:
        return


def _drop_empty_folders(root: Path, path: PurePosixPath) -> None:
    with contextlib.suppress(OSError):  # the first that is not empty ends it
        for folder in path.parents[:-1]:
            (root / folder).rmdir()


def _exists(path: Path) -> bool:
    return os.path.lexists(path)


@contextlib.contextmanager
def _disk() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DevflowError("storage_full", "no space left for a worktree") from error
        raise


def _refused(result: GitResult) -> Obstacle:
    lines = [line for line in result.stderr.splitlines() if line.strip()]
    return Obstacle(
        ".", "unreadable", f"git cannot read the worktree: {lines[0][:300] if lines else 'no reason given'}"
    )
