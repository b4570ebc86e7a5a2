"""Files beneath a folder that an agent writes to: no path leads out of it, and no symbolic link is followed.

A confined process may exchange folders for links while the engine works there, so every path is walked component by
component on folder descriptors (`O_NOFOLLOW`); what was opened is what is used.
"""

import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

READ_LIMIT = 16 << 20
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_GUARDED = ((".git",), (".devflow", "runs"))


class UnsafePath(ValueError):  # noqa: N818 - the word used for it everywhere
    """The path leads out of the folder, goes through a symbolic link, or is no ordinary file."""


@dataclass(frozen=True)
class Entry:
    """One thing in a folder; `kind` is file, folder, link or other, `size` is in bytes."""

    path: str
    kind: str
    size: int


def parts(path: str) -> tuple[str, ...]:
    """Return the components of a relative path (none for the folder itself); raises `UnsafePath`."""
    if "\x00" in path:
        raise UnsafePath("a path cannot contain a NUL character")
    if path.startswith("/"):
        raise UnsafePath(f"{path}: give a path relative to the root of the repository")
    found = tuple(part for part in path.split("/") if part not in ("", "."))
    if ".." in found:
        raise UnsafePath(f"{path}: a path cannot contain ..")
    return found


def read_bytes(root: Path, path: str, *, limit: int = READ_LIMIT) -> bytes:
    """Return the bytes of a file of at most `limit` bytes; raises `UnsafePath`, or `OSError` as reading does."""
    *folders, name = _named(path)
    with _folder(root, folders, path) as folder:
        descriptor = _open(name, os.O_RDONLY, folder, path)
        with os.fdopen(descriptor, "rb") as file:
            data = file.read(limit + 1)
    if len(data) > limit:
        raise UnsafePath(f"{path}: larger than {limit} bytes")
    return data


def write_bytes(root: Path, path: str, data: bytes) -> None:
    """Write a whole file, making its folders, and keeping the mode of the file that it replaces.

    Raises `UnsafePath`, also for the repository's own `.git` and the engine's `.devflow/runs`, or `OSError`.
    """
    *folders, name = _writable(path)
    with _folder(root, folders, path, create=True) as folder:
        mode = 0o666
        with suppress(FileNotFoundError):
            before = os.stat(name, dir_fd=folder, follow_symlinks=False)
            if not stat.S_ISREG(before.st_mode):
                raise UnsafePath(f"{path}: not an ordinary file")
            mode = stat.S_IMODE(before.st_mode) & 0o777
        temporary = f".{secrets.token_hex(8)}.devflow"
        descriptor = os.open(
            temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode, dir_fd=folder
        )
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                if mode != 0o666:
                    os.fchmod(file.fileno(), mode)
            os.replace(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
        except OSError:
            os.unlink(temporary, dir_fd=folder)
            raise


def remove(root: Path, path: str) -> None:
    """Delete a file or symbolic link itself; raises `UnsafePath` or `OSError`, such as `FileNotFoundError`."""
    *folders, name = _writable(path)
    with _folder(root, folders, path) as folder:
        os.unlink(name, dir_fd=folder)


def exists(root: Path, path: str) -> bool:
    """Whether there is an ordinary file at the path; raises `UnsafePath` only for a path that is none."""
    *folders, name = _named(path)
    try:
        with _folder(root, folders, path) as folder:
            return stat.S_ISREG(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
    except (OSError, UnsafePath):
        return False


def list_folder(root: Path, path: str = ".") -> list[Entry]:
    """Return what is in a folder, by name; raises `UnsafePath` or `OSError`."""
    names = parts(path)
    with _folder(root, list(names), path) as folder:
        return _entries(folder, "/".join(names))


def walk(root: Path, path: str = ".", *, limit: int, skip: frozenset[str] = frozenset({".git"})) -> list[Entry]:
    """Return everything below a folder that is no folder itself, in order of path, at most `limit` entries.

    Folders named in `skip` are left out, and so is what vanishes meanwhile. Raises `UnsafePath` or `OSError`.
    """
    found: list[Entry] = []
    waiting = list_folder(root, path)[::-1]
    while waiting and len(found) < limit:
        entry = waiting.pop()
        if entry.path.rpartition("/")[2] in skip:
            continue
        if entry.kind != "folder":
            found.append(entry)
            continue
        with suppress(OSError, UnsafePath):
            waiting.extend(list_folder(root, entry.path)[::-1])
    return found


def _named(path: str) -> tuple[str, ...]:
    names = parts(path)
    if not names:
        raise UnsafePath(f"{path or 'the empty path'}: name a file")
    return names


def _writable(path: str) -> tuple[str, ...]:
    names = _named(path)
    lowered = tuple(name.lower() for name in names)
    # a nested .git is a repository of its own, and no file name in it may come from here either
    if ".git" in lowered or lowered[:2] == _GUARDED[1]:
        raise UnsafePath(f"{path}: only the engine writes there")
    return names


@contextmanager
def _folder(root: Path, names: list[str], path: str, *, create: bool = False) -> Iterator[int]:
    """Hold the descriptor of the folder that `names` lead to, one component at a time."""
    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for name in names:
            if create:
                with suppress(FileExistsError):
                    os.mkdir(name, dir_fd=descriptor)
            try:
                inner = os.open(name, _FOLDER, dir_fd=descriptor)
            except NotADirectoryError as error:
                raise UnsafePath(f"{path}: {name} is a symbolic link or no folder") from error
            os.close(descriptor)
            descriptor = inner
        yield descriptor
    finally:
        os.close(descriptor)


def _open(name: str, flags: int, folder: int, path: str) -> int:
    # a named pipe that nobody writes to would hold us for ever without O_NONBLOCK
    try:
        descriptor = os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    except FileNotFoundError:
        raise
    except OSError as error:
        mode = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
        if stat.S_ISREG(mode):
            raise
        raise UnsafePath(f"{path}: not an ordinary file") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise UnsafePath(f"{path}: not an ordinary file")
    return descriptor


def _entries(folder: int, prefix: str) -> list[Entry]:
    found = []
    with os.scandir(folder) as entries:
        for entry in entries:
            with suppress(FileNotFoundError):
                status = entry.stat(follow_symlinks=False)
                name = f"{prefix}/{entry.name}" if prefix else entry.name
                found.append(Entry(name, _kind(status.st_mode), status.st_size))
    return sorted(found, key=lambda entry: entry.path)


def _kind(mode: int) -> str:
    if stat.S_ISREG(mode):
        return "file"
    if stat.S_ISDIR(mode):
        return "folder"
    return "link" if stat.S_ISLNK(mode) else "other"
