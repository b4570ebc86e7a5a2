"""Files behind a ref of the repository that is no branch: how state travels between machines that share nothing else.

A state is a commit without parents, so that nothing of what it replaces stays reachable. It is written by
compare-and-swap: whoever read an older one is told so and has to look again. What is read is untrusted: whoever may
push to the repository may have written it.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from engine.domain.errors import DevflowError
from engine.workspace.git import split_nul
from engine.workspace.mirror import Mirror
from engine.workspace.push import push_ref

MAX_FILES = 1000
MAX_BYTES = 512 << 20
_FILE_MODE = "100644"
_TRIES = 5


class StateMoved(Exception):  # noqa: N818 - the field's wording
    """Somebody else has written the ref since it was read."""


@dataclass(frozen=True)
class Stored:
    """What was found behind a ref: the commit, and its files by name."""

    commit: str
    files: Mapping[str, bytes]


async def read(mirror: Mirror, ref: str) -> Stored | None:
    """Return what is behind the ref in the repository now, None where there is no such ref.

    Raises `state_invalid` for anything but a commit of a few ordinary files, `StateMoved`, and what `Mirror.fetch`
    raises.
    """
    for _ in range(_TRIES):
        commit = (await mirror.refs_of_remote(ref)).get(ref)
        if commit is None:
            return None
        await mirror.fetch_ref(ref, commit)
        if await mirror.has_object(commit):  # else it was written anew between the two questions
            return Stored(commit, await _files(mirror, ref, commit))
    raise StateMoved(f"{ref} is written faster than it can be read")


async def write(mirror: Mirror, ref: str, files: Mapping[str, bytes], *, expected: str | None, message: str) -> str:
    """Put files behind the ref, where it is at `expected` still (None: does not exist); returns the new commit.

    Raises `StateMoved` where it is not, and what `push` raises.
    """
    rows = []
    for name, content in sorted(files.items()):
        blob = await mirror.git.text("hash-object", "-w", "--no-filters", "--stdin", input=content)
        rows.append(f"{_FILE_MODE} blob {blob}\t{name}\0")
    tree = await mirror.git.text("mktree", "-z", input="".join(rows).encode())
    commit = (await mirror.git.run("commit-tree", tree, "-F", "-", input=message.encode())).text
    try:
        await push_ref(mirror, ref, commit, expected=expected)
    except DevflowError as error:
        if error.code != "push_conflict":
            raise
        raise StateMoved(f"{ref} was written by somebody else") from error
    return commit


async def delete(mirror: Mirror, ref: str, *, expected: str) -> None:
    """Delete the ref where it is at `expected` still; raises `StateMoved` where it is not, and what `push` raises."""
    try:
        await push_ref(mirror, ref, "", expected=expected)
    except DevflowError as error:
        if error.code != "push_conflict":
            raise
        raise StateMoved(f"{ref} was written by somebody else") from error


async def _files(mirror: Mirror, ref: str, commit: str) -> dict[str, bytes]:
    kind = (await mirror.git.run("cat-file", "-t", commit, check=False)).text.strip()
    if kind != "commit":
        raise _invalid(ref, "it is no commit")
    listing = split_nul((await mirror.git.run("ls-tree", "-z", "-l", "--full-tree", commit)).stdout)
    if len(listing) > MAX_FILES:
        raise _invalid(ref, f"it has more than {MAX_FILES} files")
    found: dict[str, bytes] = {}
    left = MAX_BYTES
    for entry in listing:
        facts, name = entry.split("\t", 1)
        mode, _, blob, size = facts.split()
        if mode != _FILE_MODE or not size.isdecimal():
            raise _invalid(ref, f"{name!r} is no ordinary file")
        left -= int(size)
        if left < 0:
            raise _invalid(ref, f"it has more than {MAX_BYTES >> 20} MiB")
        found[name] = (await mirror.git.run("cat-file", "blob", blob)).stdout
    return found


def _invalid(ref: str, why: str) -> DevflowError:
    return DevflowError("state_invalid", f"the state in {ref} cannot be used: {why}")
