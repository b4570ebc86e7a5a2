"""The engine's own bare copy of a repository on this machine; runs share it, agents can at most read it.

Work trees are made from it, commits are written to it, and only `push` moves anything from it to the repository. It is
built beside its place and renamed, under a file lock, so that two processes can ask for it at once. It keeps no
configuration of the source. Git's garbage collection never runs in it.
"""

import asyncio
import fcntl
import os
import shutil
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from git import Blob, Repo, Tree

from engine.atomic_file import write_file
from engine.domain.errors import DevflowError
from engine.ports import Remote
from engine.workspace.git import (
    Git,
    GitFailed,
    base_environment,
    check_version,
    git,
    is_forbidden,
    is_outage,
    is_unauthorised,
    split_nul,
)
from engine.workspace.rules import RUNS_FOLDER

MAX_READ_BYTES = 4 << 20
_LOCK_POLL_SECONDS = 0.05
# The highest place in git's order of attributes: bytes go in and out as they are, whatever a tree's files say.
_ATTRIBUTES = b"* -text !eol -ident !filter !working-tree-encoding !merge !diff -export-subst\n"


@dataclass(frozen=True)
class Mirror:
    """One repository's mirror, at `path`, and the remote that it was opened for."""

    path: Path
    repository_id: int
    remote: Remote

    @classmethod
    async def open(cls, root: Path, repository_id: int, remote: Remote) -> "Mirror":
        """Return the mirror below `root`, making it where there is none; raises `repository_not_found`."""
        await check_version()
        root = Path(os.path.realpath(root))
        root.mkdir(parents=True, exist_ok=True)
        mirror = cls(root / f"{repository_id}.git", repository_id, remote)
        if not mirror.path.is_dir():
            async with mirror._locked():
                if not mirror.path.is_dir():
                    await mirror._make()
        return mirror

    @property
    def git(self) -> Git:
        """Git bound to the mirror, without a work tree."""
        return Git(self.path)

    async def fetch(self, branch: str, commit: str | None = None) -> str:
        """Bring a branch of the remote here and return its commit; with `commit`, only make sure that it is here.

        Raises `base_not_found` where the branch or the commit is gone, `repository_not_found` where the remote is.
        """
        if commit is not None and await self.has(commit):
            return commit
        ref = f"refs/remotes/origin/{branch}"
        async with self._locked():
            await self._fetch(f"+refs/heads/{branch}:{ref}")
            if commit is not None and not await self.has(commit):
                await self._fetch(commit)
        head = commit or await self.git.ref(ref)
        if head is None:
            raise DevflowError("base_not_found", f"the branch {branch!r} is gone")
        return head

    async def has(self, commit: str) -> bool:
        """Tell whether the commit is here."""
        return (await self.git.run("cat-file", "-e", f"{commit}^{{commit}}", check=False)).code == 0

    async def tree_of(self, commit: str) -> str:
        """Return the tree of a commit that is here."""
        return await self.git.text("rev-parse", "--verify", f"{commit}^{{tree}}")

    async def head_of_remote(self, branch: str) -> str | None:
        """Ask the remote where the branch is, None where it has no such branch; raises `repository_not_found`."""
        ref = f"refs/heads/{branch}"
        return (await self.refs_of_remote(ref)).get(ref)

    async def refs_of_remote(self, pattern: str) -> dict[str, str]:
        """Ask the remote for its refs by full name or pattern (`refs/x/*`); returns them with what they point to."""
        lines = await self._network("ls-remote", "--quiet", "--refs", "--", self.remote.url, pattern)
        return {name: sha for sha, name in (line.split("\t", 1) for line in lines.splitlines())}

    async def fetch_ref(self, ref: str, commit: str) -> None:
        """Bring what a ref of any kind points to here, without its history; raises as `fetch`."""
        if await self.has_object(commit):
            return
        async with self._locked():
            await self._fetch(ref, "--depth=1")

    async def has_object(self, sha: str) -> bool:
        """Tell whether an object of any kind is here."""
        return (await self.git.run("cat-file", "-e", sha, check=False)).code == 0

    async def read_files(self, commit: str, prefixes: Iterable[str]) -> dict[str, bytes]:
        """Return the ordinary files of a commit that are named by, or lie below, one of the prefixes.

        Links, submodules and files of more than 4 MiB are left out, and so is what is not there.
        """
        return await asyncio.to_thread(self._read_files, commit, [prefix.strip("/") for prefix in prefixes])

    async def list_root(self, commit: str) -> list[str]:
        """Return the names at the top of a commit's tree."""
        entries = await self.git.run("ls-tree", "-z", "--name-only", "--full-tree", commit)
        return split_nul(entries.stdout)

    async def diff(self, older: str, newer: str, limit: int) -> str:
        """Return what `newer` changes since `older` as a patch, without the engine's own folder.

        A longer patch than `limit` characters is cut, after a list of all files with their counts of lines.
        """
        places = (older, newer, "--", ".", f":(exclude,top){RUNS_FOLDER}")
        options = ("--no-ext-diff", "--no-textconv", "--no-color", "--no-renames")
        patch = (await self.git.run("diff", *options, *places)).stdout.decode(errors="replace")
        if len(patch) <= limit:
            return patch
        summary = (await self.git.run("diff", *options, "--stat=200", *places)).stdout.decode(errors="replace")
        return f"{summary[:limit]}\n{patch[:limit]}\n(cut: {len(patch) - limit} more characters)\n"

    async def gitlinks(self, commit: str) -> frozenset[str]:
        """Return the paths of a commit's submodules."""
        entries = split_nul((await self.git.run("ls-tree", "-r", "-z", "--full-tree", commit)).stdout)
        return frozenset(entry.split("\t", 1)[1] for entry in entries if entry.startswith("160000"))

    def _read_files(self, commit: str, prefixes: list[str]) -> dict[str, bytes]:
        repo = Repo(self.path, expand_vars=False)
        # a process that was started by a git hook carries that hook's repository in its environment
        places = {"GIT_DIR": str(self.path), "GIT_OBJECT_DIRECTORY": str(self.path / "objects")}
        repo.git.update_environment(**base_environment(), **places)
        found: dict[str, bytes] = {}
        with closing(repo):
            tree = repo.commit(commit).tree
            for prefix in prefixes:
                for blob in _blobs(tree, prefix):
                    if blob.size <= MAX_READ_BYTES:
                        found[str(blob.path)] = blob.data_stream.read()
        return found

    async def _make(self) -> None:
        new = self.path.with_name(f".{self.path.name}.new")
        await asyncio.to_thread(shutil.rmtree, new, ignore_errors=True)
        url = self.remote.url
        if not (Path(url).is_absolute() and await self._cloned(url, new)):
            await asyncio.to_thread(shutil.rmtree, new, ignore_errors=True)
            await git("init", "--quiet", "--bare", "--template=", "--", str(new))
        await Git(new).run("symbolic-ref", "HEAD", "refs/heads/main")
        await asyncio.to_thread(write_file, new / "info" / "attributes", _ATTRIBUTES)
        new.rename(self.path)

    async def _cloned(self, url: str, new: Path) -> bool:
        """Clone a repository of this machine, whose objects git then links instead of copying; False if it cannot."""
        arguments = ("--quiet", "--bare", "--no-tags", "--dissociate", "--template=", "--", url, str(new))
        if (await git("clone", *arguments, env=self.remote.environment, check=False)).code != 0:
            return False
        # the branches of the source and those of runs must not share names here
        clone = Git(new)
        refs = (await clone.text("for-each-ref", "--format=%(objectname) %(refname)")).splitlines()
        steps = []
        for sha, name in (line.split(" ", 1) for line in refs):
            if name.startswith("refs/heads/"):
                steps.append(f"create refs/remotes/origin/{name.removeprefix('refs/heads/')} {sha}\n")
            steps.append(f"delete {name} {sha}\n")
        await clone.run("update-ref", "--no-deref", "--stdin", input=os.fsencode("".join(steps)))
        await clone.run("config", "--remove-section", "remote.origin", check=False)
        return True

    def may_pass(self, stderr: str) -> bool:
        """Whether a network command may be tried again: after an outage, or with the host's next credential."""
        if self.remote.refused is not None and is_unauthorised(stderr):
            self.remote.refused()
            return True
        return is_outage(stderr)

    async def _fetch(self, refspec: str, *more: str) -> None:
        options = ("--quiet", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules", "--update-shallow")
        await self._network("fetch", *options, *more, "--", self.remote.url, refspec)

    async def _network(self, *args: str) -> str:
        try:
            return (await self.git.run(*args, env=self.remote.environment)).text
        except GitFailed as error:
            reason = _reason(error.result.stderr)
            if self.may_pass(error.result.stderr):
                raise DevflowError("github_unavailable", f"the repository does not answer: {reason}") from error
            if is_forbidden(error.result.stderr):
                message = "the repository cannot be read: the credential lacks the permission `contents: read`"
                raise DevflowError("permission_missing", message) from error
            if "couldn't find remote ref" in reason or "not our ref" in reason:
                raise DevflowError("base_not_found", reason) from error
            hint = "see that the repository exists and can be read, then try again, or `devflow resume RUN`"
            raise DevflowError(
                "repository_not_found", f"the repository cannot be read: {reason}", recovery_hint=hint
            ) from error

    @asynccontextmanager
    async def _locked(self) -> AsyncIterator[None]:
        descriptor = os.open(self.path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            # polled, because a thread that waits in flock could not be cancelled
            while not _try_lock(descriptor):  # noqa: ASYNC110 - another process sets no event
                await asyncio.sleep(_LOCK_POLL_SECONDS)
            yield
        finally:
            os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _reason(stderr: str) -> str:
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    fatal = [line.removeprefix("fatal: ") for line in lines if line.startswith("fatal: ")]
    return (fatal or lines or ["git gave no reason"])[0][:300]


def _blobs(tree: Tree, prefix: str) -> Iterable[Blob]:
    node: Any = tree
    if prefix:
        try:
            node = tree.join(prefix)
        except KeyError:
            return
    if isinstance(node, Blob):
        items: Iterable[Any] = [node]
    elif isinstance(node, Tree):
        items = node.traverse()
    else:
        items = []
    yield from (item for item in items if isinstance(item, Blob) and item.mode != Blob.link_mode)
