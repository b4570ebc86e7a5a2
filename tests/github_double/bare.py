"""A bare git repository and what a hosting service does in it: read, commit, merge, look at refs.

Every git process runs in an environment of its own, so neither the machine's configuration nor its hooks take part.
"""

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

ZERO = "0" * 40
_CONFIG = """[core]
\trepositoryformatversion = 0
\tfilemode = true
\tbare = true
\thooksPath = hooks
[http]
\treceivepack = true
[uploadpack]
\tallowAnySHA1InWant = true
\tallowFilter = true
[receive]
\tadvertisePushOptions = false
[gc]
\tauto = 0
"""
# Refuses the refs of the file `refused` (lines of "pattern<TAB>message") with the words of a repository rule.
_UPDATE_HOOK = """#!/bin/sh
while IFS='\t' read -r pattern message; do
  case "$1" in
    $pattern)
      echo "error: GH013: Repository rule violations found for $1." >&2
      echo "" >&2
      echo "- $message" >&2
      exit 1 ;;
  esac
done < refused
"""


@dataclass(frozen=True)
class CommitInfo:
    """What `git log` says of one commit."""

    sha: str
    tree: str
    parents: list[str]
    author_name: str
    author_email: str
    author_date: str
    committer_name: str
    committer_email: str
    committer_date: str
    message: str


class GitFailed(Exception):  # noqa: N818 - the field's wording
    """A git command ended badly; the message has its error output."""


def environment(home: Path) -> dict[str, str]:
    """Return a whole environment for git in which nothing of this machine's configuration holds."""
    return {
        "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
        "HOME": str(home),
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": "/dev/null",
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "safe.directory",
        "GIT_CONFIG_VALUE_0": "*",
        "GIT_TERMINAL_PROMPT": "0",
    }


class BareRepository:
    """One bare repository in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def create(self, default_branch: str) -> None:
        """Make an empty repository whose HEAD points at the default branch."""
        # Written by hand: `git init` would take a template folder of this machine.
        for part in ("objects/info", "objects/pack", "refs/heads", "refs/tags", "hooks"):
            (self.folder / part).mkdir(parents=True)
        (self.folder / "config").write_text(_CONFIG)
        (self.folder / "HEAD").write_text(f"ref: refs/heads/{default_branch}\n")
        (self.folder / "refused").write_text("")
        hook = self.folder / "hooks/update"
        hook.write_text(_UPDATE_HOOK)
        hook.chmod(0o755)

    def refuse(self, pattern: str, message: str) -> None:
        """Refuse pushes to refs of a shell pattern from now on."""
        with (self.folder / "refused").open("a") as file:
            file.write(f"{pattern}\t{message}\n")

    def refs(self, *under: str) -> dict[str, str]:
        """Return every branch and tag with its object, or the refs below these folders."""
        places = under or ("refs/heads", "refs/tags")
        lines = self._git("for-each-ref", "--format=%(refname) %(objectname)", *places).decode()
        return dict(line.split(" ") for line in lines.splitlines())

    def log(self, base: str, head: str) -> list[str]:
        """Return a line for each commit of `head` that `base` lacks, oldest first."""
        return self._git("log", "--reverse", "--format=%h %s", f"{base}..{head}", "--").decode().splitlines()

    def resolve(self, revision: str) -> str | None:
        """Return the commit that a branch, a tag, `heads/x` or a (short) SHA stands for."""
        if not revision or revision.startswith("-"):
            return None
        for name in (f"refs/heads/{revision}", f"refs/tags/{revision}", f"refs/{revision}", revision):
            try:
                return self._git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}").decode()[
                    :40
                ]
            except GitFailed:
                continue
        return None

    def commit(
        self,
        branch: str,
        files: Mapping[str, str | bytes | None],
        *,
        parent: str | None,
        message: str,
        name: str,
        email: str,
        at: datetime,
    ) -> str:
        """Commit changed files (None deletes one) on a parent, set the branch to it, return its SHA."""
        who = f"{name} <{email}> {int(at.timestamp())} +0000"
        stream = [f"commit refs/heads/{branch}\nauthor {who}\ncommitter {who}\n".encode(), _data(message.encode())]
        if parent is not None:
            stream.append(f"from {parent}\n".encode())
        for path, content in files.items():
            if content is None:
                stream.append(f"D {path}\n".encode())
            else:
                stream += [f"M 100644 inline {path}\n".encode(), _data(_bytes(content))]
        self._git("fast-import", "--quiet", "--force", input_bytes=b"".join(stream) + b"\n")
        return self._git("rev-parse", f"refs/heads/{branch}").decode().strip()

    def merge(self, base: str, head: str, *, message: str, name: str, email: str, at: datetime) -> str | None:
        """Make a merge commit of two commits and return it; None where they conflict. No ref is changed."""
        try:
            tree = self._git("merge-tree", "--write-tree", base, head).decode().split()[0]
        except GitFailed:
            return None
        when = f"{int(at.timestamp())} +0000"
        who = {
            f"GIT_{role}_{what}": value
            for role in ("AUTHOR", "COMMITTER")
            for what, value in (("NAME", name), ("EMAIL", email), ("DATE", when))
        }
        made = self._git("commit-tree", tree, "-p", base, "-p", head, "-m", message, extra=who)
        return made.decode().strip()

    def set_ref(self, ref: str, sha: str) -> None:
        """Point a ref at a commit."""
        self._git("update-ref", ref, sha)

    def delete_ref(self, ref: str) -> None:
        """Remove a ref."""
        self._git("update-ref", "-d", ref)

    def read(self, commit: str, path: str) -> bytes | None:
        """Return a file's bytes in a commit, None where there is no such file."""
        try:
            return self._git("cat-file", "blob", f"{commit}:{path}")
        except GitFailed:
            return None

    def entries(self, commit: str, path: str) -> list[tuple[str, str, int, str]] | None:
        """Return (type, sha, size, path) of what stands in a folder, or of one file; None where nothing does."""
        try:
            if path and self._git("cat-file", "-t", f"{commit}:{path}").strip() == b"tree":
                path += "/"
            listing = self._git("ls-tree", "--full-tree", "-l", "-z", commit, "--", *([path] if path else []))
        except GitFailed:
            return None
        found = []
        for line in listing.decode().split("\0"):
            if line:
                about, _, name = line.partition("\t")
                _, kind, sha, size = about.split()
                found.append((kind, sha, int(size) if size != "-" else 0, name))
        return found

    def info(self, commit: str) -> CommitInfo:
        """Return what a commit says of itself."""
        pattern = "%H%x00%T%x00%P%x00%an%x00%ae%x00%aI%x00%cn%x00%ce%x00%cI%x00%B"
        fields = self._git("log", "-1", f"--format={pattern}", commit, "--").decode().split("\0")
        sha, tree, parents, author, mail, written, committer, address, made, message = fields
        return CommitInfo(
            sha, tree, parents.split(), author, mail, written, committer, address, made, message.strip("\n")
        )

    def commits_between(self, old: str, new: str, most: int = 20) -> list[str]:
        """Return the commits of `new` that `old` has not, oldest first, at most so many of the newest."""
        if old == ZERO:
            return [new]
        return self._git("rev-list", "--reverse", f"--max-count={most}", f"{old}..{new}").decode().split()

    def changed_paths(self, commit: str) -> dict[str, list[str]]:
        """Return what a commit added, removed and modified."""
        text = self._git("diff-tree", "-r", "-z", "--root", "--no-commit-id", "--name-status", "--no-renames", commit)
        parts = text.decode().split("\0")[:-1]
        found: dict[str, list[str]] = {"added": [], "removed": [], "modified": []}
        for status, path in zip(parts[::2], parts[1::2], strict=True):
            found[{"A": "added", "D": "removed"}.get(status, "modified")].append(path)
        return found

    def size_of_change(self, base: str, head: str) -> tuple[int, int, int, int]:
        """Return commits, additions, deletions and changed files between the merge base and a head."""
        commits = int(self._git("rev-list", "--count", f"{base}..{head}"))
        lines = [line.split("\t") for line in self._git("diff", "--numstat", f"{base}...{head}").decode().splitlines()]
        added = sum(int(line[0]) for line in lines if line[0] != "-")
        removed = sum(int(line[1]) for line in lines if line[1] != "-")
        return commits, added, removed, len(lines)

    def is_ancestor(self, old: str, new: str) -> bool:
        """Tell whether a commit is contained in another."""
        try:
            self._git("merge-base", "--is-ancestor", old, new)
        except GitFailed:
            return False
        return True

    def _git(self, *arguments: str, input_bytes: bytes = b"", extra: dict[str, str] | None = None) -> bytes:
        done = subprocess.run(
            ["git", f"--git-dir={self.folder}", *arguments],
            input=input_bytes,
            capture_output=True,
            check=False,
            env=environment(self.folder) | (extra or {}),
            cwd=self.folder,
        )
        if done.returncode != 0:
            raise GitFailed(f"git {arguments[0]}: {done.stderr.decode(errors='replace').strip()}")
        return done.stdout


def _bytes(content: str | bytes) -> bytes:
    return content if isinstance(content, bytes) else content.encode()


def _data(content: bytes) -> bytes:
    return b"data %d\n%s\n" % (len(content), content)
