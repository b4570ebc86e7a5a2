"""From a work tree to a commit on the run's branch: what is inspected is a tree object, and that tree is committed.

`take_snapshot` stores the work tree as a tree, `inspect` applies the phase's rules to it, `commit` adds the engine's
own files and moves the branch in the mirror, if nobody else has. Nothing reaches the repository before `push`.
"""

import asyncio
import os
import re
import unicodedata
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from uuid import UUID

from engine import failpoints
from engine.domain.errors import DevflowError
from engine.domain.ids import short_id
from engine.domain.safe_text import inert, strip_hidden
from engine.workspace.git import Git, GitFailed, split_nul
from engine.workspace.mirror import Mirror
from engine.workspace.push import EPOCH_TRAILER, PHASE_TRAILER, RUN_TRAILER, conflict, drop_unrecorded, push
from engine.workspace.rules import (
    LINK_MODE,
    MAX_FILE_BYTES,
    Change,
    PublishPolicy,
    Violation,
    check_change,
    check_link,
    check_total,
    in_runs_folder,
    violation,
)
from engine.workspace.secrets import find_secrets, redact
from engine.workspace.worktree import Worktree, add_to_index

__all__ = [
    "Committed",
    "PublishPolicy",
    "Snapshot",
    "Violation",
    "branch_name",
    "commit",
    "commit_files",
    "drop_unrecorded",
    "inspect",
    "inspect_files",
    "push",
    "take_snapshot",
    "trailers",
]

MAX_SLUG = 40
MAX_MESSAGE = 20_000
_MAX_VIOLATIONS = 100
_BATCH_BYTES = 16_000_000
_NO_COMMIT = "0" * 40
_FILE_MODE = "100644"


@dataclass(frozen=True)
class Snapshot:
    """A work tree as it was at one moment, ready to be committed on `parent`.

    `violations` are those that hold whatever the phase: they are known from the contents. `inspect` adds the others.
    """

    mirror: Mirror
    parent: str
    tree: str
    changes: tuple[Change, ...]
    violations: tuple[Violation, ...]


@dataclass(frozen=True)
class Committed:
    """A commit that the run's branch in the mirror points to, and its tree."""

    sha: str
    tree: str


def branch_name(issue_number: int, title: str, run_id: UUID) -> str:
    """Return `devflow/<issue>-<slug>-<short id>`; whatever the title, the slug is at most 40 of a-z, 0-9 and `-`."""
    plain = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode().lower()
    slug = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:MAX_SLUG].strip("-")
    return f"devflow/{issue_number}-{slug or 'issue'}-{short_id(run_id)}"


def trailers(run_id: UUID, phase_key: str, epoch: int) -> dict[str, str]:
    """Return the trailers by which a commit is known as this run's."""
    return {RUN_TRAILER: str(run_id), PHASE_TRAILER: phase_key, EPOCH_TRAILER: str(epoch)}


async def take_snapshot(worktree: Worktree, parent: str, *, exclude: Collection[str] = ()) -> Snapshot:
    """Store the work tree as a tree, and read every change for secrets and for links that lead out of it.

    `exclude` are files and folders that stay as `parent` has them: working copies, leftovers. Raises `storage_full`.
    """
    state = await worktree.store(parent, exclude)
    found = [violation(one.path, one.rule, one.message) for one in state.obstacles]
    # what breaks the rules on size is refused anyway and need not be read
    if not check_total(state.changes, PublishPolicy(code_phase=True)):
        small = [change for change in state.changes if change.size is not None and change.size <= MAX_FILE_BYTES]
        found += await _check_contents(worktree.mirror.git, small)
    return Snapshot(worktree.mirror, parent, state.tree, state.changes, tuple(found))


def inspect(snapshot: Snapshot, policy: PublishPolicy) -> list[Violation]:
    """Return everything that forbids the phase to publish the snapshot, at most 100 violations."""
    found = list(snapshot.violations)
    for change in snapshot.changes:
        found += check_change(change, policy)
    return (found + check_total(snapshot.changes, policy))[:_MAX_VIOLATIONS]


async def inspect_files(files: Mapping[str, bytes]) -> list[Violation]:
    """Return the secrets in files that the engine is about to add (path to content): agents wrote the text in them."""
    found: list[Violation] = []
    for path, content in files.items():
        found += await asyncio.to_thread(_check_secrets, path, content, b"")
    return found


async def commit(
    snapshot: Snapshot,
    branch: str,
    *,
    message: str,
    trailers: Mapping[str, str],
    files: Mapping[str, bytes] | None = None,
) -> Committed:
    """Commit a snapshot with the engine's own `files` (below `.devflow/runs/`), and move the branch in the mirror.

    Raises `protected_path` where the snapshot breaks a rule that holds for every phase or a file holds a secret,
    `push_conflict` where the branch is not at the snapshot's parent.
    """
    _refuse(inspect(snapshot, PublishPolicy(code_phase=True, allow_lock_files=True)))
    return await _commit(snapshot.mirror, branch, snapshot.parent, snapshot.tree, message, trailers, files)


async def commit_files(
    mirror: Mirror, branch: str, *, parent: str, message: str, trailers: Mapping[str, str], files: Mapping[str, bytes]
) -> str:
    """Commit only files of the engine on `parent`, without a work tree; returns the commit. Errors as in `commit`."""
    tree = await mirror.tree_of(parent)
    return (await _commit(mirror, branch, parent, tree, message, trailers, files)).sha


async def _commit(
    mirror: Mirror,
    branch: str,
    parent: str,
    tree: str,
    message: str,
    trailers: Mapping[str, str],
    files: Mapping[str, bytes] | None,
) -> Committed:
    if files:
        _refuse(await inspect_files(files))
        tree = await _add_engine_files(mirror, tree, files, owner=trailers.get(RUN_TRAILER, ""))
    text = _message(message, trailers)
    ref = f"refs/heads/{branch}"
    with failpoints.around(failpoints.Effect.GIT_COMMIT):
        sha = (await mirror.git.run("commit-tree", tree, "-p", parent, "-F", "-", input=text.encode())).text
        before = await mirror.git.ref(ref)
        if before not in (None, parent):
            raise _moved(branch, before, parent)
        try:
            await mirror.git.run("update-ref", "--no-deref", ref, sha, before or _NO_COMMIT)
        except GitFailed as error:
            raise _moved(branch, await mirror.git.ref(ref), parent) from error
    return Committed(sha, tree)


def _refuse(violations: list[Violation]) -> None:
    if violations:
        first = violations[0]
        raise DevflowError("protected_path", f"{first.path}: {first.message}")


def _moved(branch: str, head: str | None, parent: str) -> DevflowError:
    return conflict(f"the branch {branch} is at {head or 'no commit'}, somebody else moved it", parent)


async def _add_engine_files(mirror: Mirror, tree: str, files: Mapping[str, bytes], *, owner: str) -> str:
    for path in files:
        if not in_runs_folder(path) or ".." in path.split("/"):
            raise ValueError(f"{path} is not in the engine's folder")
    folders = {str(above) for path in files for above in PurePosixPath(path).parents if str(above) != "."}
    there = split_nul((await mirror.git.run("ls-tree", "-z", "--full-tree", tree, "--", *sorted(folders))).stdout)
    taken = [entry.split("\t", 1)[1] for entry in there if entry.split(" ", 2)[1] != "tree"]
    if taken:
        # git would silently put the folder in the file's place
        raise DevflowError("protected_path", f"{taken[0]} is no folder, but the engine's files belong there")
    # named by the run, so that `remove_worktree` finds what a process that died here left
    index = mirror.path / f"index.{owner}.{os.urandom(8).hex()}"
    git = Git(mirror.path, index=index)
    try:
        await git.run("read-tree", tree)
        entries = {}
        for path, content in files.items():
            blob = await git.run("hash-object", "-w", "--no-filters", "--stdin", input=content)
            entries[path] = (_FILE_MODE, blob.text)
        await add_to_index(git, entries)
        return await git.text("write-tree")
    finally:
        for leftover in (index, Path(f"{index}.lock")):
            leftover.unlink(missing_ok=True)


def _message(message: str, trailers: Mapping[str, str]) -> str:
    # an issue's title is in it, and a host acts on commits too: it closes issues and tells people when they are merged
    clean = redact(inert(strip_hidden(message.encode("utf-8", "replace").decode())))
    lines = [f"{name}: {' '.join(str(value).split())}" for name, value in trailers.items()]
    # a paragraph of their own at the end, so that nothing in the text before counts as a trailer
    return f"{clean.strip()[:MAX_MESSAGE].strip() or 'Devflow'}\n\n" + "\n".join(lines) + "\n"


async def _check_contents(git: Git, changes: list[Change]) -> list[Violation]:
    found = []
    for batch in _batches(changes):
        wanted = {blob for change in batch for blob in (change.blob, change.old_blob) if blob != _NO_COMMIT}
        blobs = await _read_blobs(git, wanted)
        for change in batch:
            new = blobs.get(change.blob, b"")
            if change.mode == LINK_MODE:
                refused = check_link(change.path, os.fsdecode(new))
                found += [] if refused is None else [refused]
            old = b"" if change.old_mode == LINK_MODE else blobs.get(change.old_blob, b"")
            found += await asyncio.to_thread(_check_secrets, change.path, new, old)
    return found


def _batches(changes: list[Change]) -> Iterator[list[Change]]:
    batch: list[Change] = []
    size = 0
    for change in changes:
        batch.append(change)
        size += change.size or 0
        if size >= _BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


async def _read_blobs(git: Git, names: set[str]) -> dict[str, bytes]:
    """Return blobs by name; submodule commits and what else is no blob here are left out."""
    output = (await git.run("cat-file", "--batch", input="".join(f"{name}\n" for name in names).encode())).stdout
    blobs = {}
    position = 0
    while position < len(output):
        end = output.index(b"\n", position)
        header = output[position:end].decode().split(" ")
        position = end + 1
        if len(header) == 3:  # name, type, size; a missing object has two words and no body
            size = int(header[2])
            if header[1] == "blob":
                blobs[header[0]] = output[position : position + size]
            position += size + 1
    return blobs


def _check_secrets(path: str, new: bytes, old: bytes) -> list[Violation]:
    found = [violation(path, "secret", f"the name looks like a {one.kind}") for one in find_secrets(os.fsencode(path))]
    return found + [
        violation(path, "secret", f"line {one.line} looks like a {one.kind}") for one in find_secrets(new, old)
    ]
