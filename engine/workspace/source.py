"""The repository that a person names: what it is, and which commit a run starts from.

First step of a start, before anything is written. Only reads, and only through git's plumbing: the checkout, index and
configuration of the person's clone stay as they are, however dirty.
"""

import difflib
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from engine.domain.errors import DevflowError
from engine.workspace.git import Git, GitFailed, check_version, git, split_nul

_GITLINK = "160000"


@dataclass(frozen=True)
class Source:
    """A local repository with at least one commit; `current_branch` is None where HEAD is detached."""

    top_level: Path
    common_dir: Path
    repository_id: int
    current_branch: str | None
    email: str | None

    @property
    def git(self) -> Git:
        """Git bound to the repository without its work tree."""
        return Git(self.common_dir)


def local_repository_id(common_dir: Path) -> int:
    """Return the id of a local repository: the negative of the first 62 bits of SHA-256 of its git folder's path."""
    digest = hashlib.sha256(os.fsencode(os.path.realpath(common_dir))).digest()
    return -(int.from_bytes(digest[:8], "big") >> 2)


async def inspect_source(path: Path) -> Source:
    """Return what the folder `path` belongs to.

    Raises `repository_not_found`, `repository_bare`, `repository_empty`, or `platform_unsupported` for an old git or
    a repository with SHA-256 object names.
    """
    await check_version()
    if not path.is_dir():
        raise DevflowError("repository_not_found", f"{path} is not a folder")
    try:
        facts = await git("rev-parse", "--is-bare-repository", "--is-inside-work-tree", "--git-common-dir", cwd=path)
    except GitFailed as error:
        raise DevflowError("repository_not_found", f"{path} is not inside a git repository") from error
    except PermissionError as error:
        raise DevflowError("repository_not_found", f"{path} cannot be entered") from error
    bare, inside, common = facts.text.split("\n", 2)
    if bare == "true":
        raise DevflowError("repository_bare", f"{path} is a bare repository")
    if inside != "true":
        raise DevflowError("repository_not_found", f"{path} is inside a .git folder, not in a work tree")
    object_format = (await git("rev-parse", "--show-object-format", cwd=path)).text
    if object_format != "sha1":
        raise DevflowError(
            "platform_unsupported",
            f"the repository names its objects by {object_format}",
            recovery_hint="use a repository with SHA-1 object names",
        )
    common_dir = Path(os.path.realpath(path / common))
    branch = await git("symbolic-ref", "--quiet", "--short", "HEAD", cwd=path, check=False)
    source = Source(
        top_level=Path((await git("rev-parse", "--show-toplevel", cwd=path)).text),
        common_dir=common_dir,
        repository_id=local_repository_id(common_dir),
        current_branch=branch.text if branch.code == 0 else None,
        email=await user_email(path),
    )
    head = await git("rev-parse", "--verify", "--quiet", "HEAD^{commit}", cwd=path, check=False)
    if head.code != 0 and not await _branches(source):
        raise DevflowError("repository_empty", f"{source.top_level} has no commit")
    return source


async def resolve_base(source: Source, branch: str | None) -> tuple[str, str]:
    """Return the base branch and its commit: `branch`, else the branch that HEAD is on.

    Raises `base_not_found` with the branches that come close, or `nested_repository` where the commit contains a
    repository that its `.gitmodules` does not declare.
    """
    name = branch or source.current_branch
    known = await _branches(source)
    if name is None:
        raise DevflowError("base_not_found", f"HEAD is not on a branch; {_listing(known)}")
    if name not in known:
        close = difflib.get_close_matches(name, known, n=5, cutoff=0.4)
        raise DevflowError("base_not_found", f"there is no branch {name!r}; {_listing(close or known)}")
    sha = known[name]
    await refuse_nested(source.git, name, sha)
    return name, sha


async def refuse_nested(repository: Git, branch: str, commit: str) -> None:
    """Raise `nested_repository` where the commit contains a repository that its `.gitmodules` does not declare."""
    undeclared = sorted(await _gitlinks(repository, commit) - await _declared_submodules(repository, commit))
    if undeclared:
        raise DevflowError("nested_repository", f"{branch} contains a nested repository at {undeclared[0]!r}")


async def user_email(path: Path) -> str | None:
    """Return git's `user.email` as the person sees it from the folder, or None."""
    if not path.is_dir():
        return None
    # here the person's own configuration is wanted; reading it runs nothing
    own = {name: os.environ.get(name) for name in ("HOME", "XDG_CONFIG_HOME", "GIT_CONFIG_GLOBAL")}
    arguments = ("-c", "safe.directory=*", "config", "--get", "user.email")
    found = await git(*arguments, cwd=path, env=own | {"GIT_CONFIG_NOSYSTEM": None}, check=False)
    return found.text.strip() or None


async def _branches(source: Source) -> dict[str, str]:
    lines = await source.git.text("for-each-ref", "--format=%(objectname) %(refname:lstrip=2)", "refs/heads/")
    return {name: sha for sha, name in (line.split(" ", 1) for line in lines.splitlines())}


def _listing(branches: list[str] | dict[str, str]) -> str:
    names = list(branches)
    more = f" and {len(names) - 10} more" if len(names) > 10 else ""
    return f"branches: {', '.join(names[:10])}{more}" if names else "there are no branches"


async def _gitlinks(repository: Git, commit: str) -> set[str]:
    entries = split_nul((await repository.run("ls-tree", "-r", "-z", "--full-tree", commit)).stdout)
    return {entry.split("\t", 1)[1] for entry in entries if entry.startswith(_GITLINK)}


async def _declared_submodules(repository: Git, commit: str) -> set[str]:
    blob = f"{commit}:.gitmodules"
    arguments = ("config", "--blob", blob, "-z", "--get-regexp", r"^submodule\..*\.path$")
    found = await repository.run(*arguments, check=False)
    return {entry.split("\n", 1)[1].rstrip("/") for entry in split_nul(found.stdout) if "\n" in entry}
