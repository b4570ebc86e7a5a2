"""A look over a work tree before git may touch it: without git, without following a link, with a bound.

Git reads repositories that it finds below a work tree, and with them configuration that runs programs; it also waits
for ever on a FIFO called `.gitignore`. So whatever could make it do either is found first.
"""

import errno
import os
import stat
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from engine.workspace.rules import is_git_folder

MAX_ENTRIES = 500_000
MAX_OBSTACLES = 50


@dataclass(frozen=True)
class Obstacle:
    """Something that git must not meet, and the rule that it breaks; `path` is as the file system has it."""

    path: str
    rule: str
    message: str


def scan(
    root: Path, gitfile: bytes, *, exclude: Collection[str] = (), gitlinks: Collection[str] = ()
) -> list[Obstacle]:
    """Return what keeps git away from the work tree: at most 50 obstacles, none where git may run.

    `gitfile` is what the top-level `.git` must contain. The folders in `exclude` are not entered (git is not let into
    them either); those in `gitlinks` are submodules that are not checked out and must be empty.
    """
    found = [] if _same_gitfile(root / ".git", gitfile) else [_replaced()]
    skipped = {path.strip("/") for path in exclude}
    folders = [""]
    entries = 0
    while folders and len(found) < MAX_OBSTACLES:
        folder = folders.pop()
        try:
            children = list(os.scandir(os.path.join(root, folder)))  # noqa: PTH118 - names need not be UTF-8
        except OSError as error:
            found.append(Obstacle(folder or ".", "unreadable", f"the folder cannot be read: {error.strerror}"))
            continue
        entries += len(children)
        if entries > MAX_ENTRIES:
            return [Obstacle(".", "too_many_files", f"the worktree has more than {MAX_ENTRIES} files")]
        for child in children:
            path = f"{folder}/{child.name}" if folder else child.name
            if path == ".git":
                continue
            if is_git_folder(child.name):
                found.append(Obstacle(path, "nested_repository", "a repository inside the repository"))
            elif path not in skipped:
                found += _look_at(child, path, gitlinks, folders)
    return found[:MAX_OBSTACLES]


def _look_at(child: os.DirEntry[str], path: str, gitlinks: Collection[str], folders: list[str]) -> list[Obstacle]:
    if child.is_dir(follow_symlinks=False):
        if path not in gitlinks:
            folders.append(path)
        elif _has_children(child.path):
            return [Obstacle(path, "submodule", "submodules are left as they are")]
        return []
    if child.is_symlink() or child.is_file(follow_symlinks=False):
        return []
    mode = child.stat(follow_symlinks=False).st_mode
    if stat.S_ISSOCK(mode):
        return []  # git neither opens nor stores it
    return [Obstacle(path, "special_file", "neither a file, nor a folder, nor a symbolic link")]


def _has_children(path: str) -> bool:
    try:
        with os.scandir(path) as children:
            return next(children, None) is not None
    except OSError:
        return True


def _same_gitfile(path: Path, expected: bytes) -> bool:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ELOOP, errno.ENXIO, errno.EACCES, errno.ENOTDIR):
            return False
        raise
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return False
        return os.read(descriptor, len(expected) + 1) == expected
    finally:
        os.close(descriptor)


def _replaced() -> Obstacle:
    return Obstacle(".git", "nested_repository", "the worktree's .git was replaced")
