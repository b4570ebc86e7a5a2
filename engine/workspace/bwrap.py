"""The command line of bubblewrap for one confined command: an empty root with only what the command may see in it."""

import os
from collections.abc import Sequence
from pathlib import Path

from engine.workspace import launch, toolchain

TEMPORARY = "/tmp"  # noqa: S108 - a file system of the command's own, gone with it
SHARED_MEMORY_BYTES = 1 << 30
PRLIMIT = Path("/usr/bin/prlimit")


def arguments(
    program: str,
    worktree: Path,
    cwd: str,
    readable: Sequence[Path],
    *,
    network: bool,
    git_file: str | None,
    limits: launch.Limits,
) -> list[str]:
    """Return bubblewrap's arguments up to the command; mounts made later lie on top of earlier ones."""
    made = [program, "--unshare-user", "--unshare-ipc", "--unshare-pid", "--unshare-uts", "--unshare-cgroup-try"]
    if not network:
        made.append("--unshare-net")
    made += ["--disable-userns", "--cap-drop", "ALL", "--die-with-parent", "--new-session", "--hostname", "devflow"]
    made += _system(network=network)
    # For the host's root, /proc/sys is writable in any namespace, and a core pattern is a program that the host runs.
    made += ["--proc", "/proc", "--remount-ro", "/proc"]
    made += ["--dev", "/dev", "--size", str(SHARED_MEMORY_BYTES), "--tmpfs", "/dev/shm", "--remount-ro", "/dev"]  # noqa: S108
    made += ["--size", str(limits.temporary_bytes), "--tmpfs", TEMPORARY]
    for folder in readable:
        made += ["--ro-bind", str(folder), str(folder)]
    made += ["--bind", str(worktree), str(worktree)]
    if git_file is not None:
        # its bytes, not the file: what is at that path may be exchanged before the mount is made
        made += ["--ro-bind-data", str(launch.GIT_FILE_FD), str(worktree / ".git")]
    elif (worktree / ".git").is_dir() and not (worktree / ".git").is_symlink():
        made += ["--tmpfs", str(worktree / ".git"), "--remount-ro", str(worktree / ".git")]
    return [*made, "--remount-ro", "/", "--chdir", cwd, "--"]


def process_limit(argv: Sequence[str], limits: launch.Limits) -> list[str]:
    """Return `argv` behind a limit on processes, counted within the sandbox; the kernel exempts the host's root."""
    if os.geteuid() == 0 or not PRLIMIT.exists():
        return list(argv)
    return [str(PRLIMIT), f"--nproc={limits.processes}:{limits.processes}", "--", *argv]


def _system(*, network: bool) -> list[str]:
    made: list[str] = []
    for folder in map(Path, toolchain.SYSTEM_FOLDERS):
        if folder.is_symlink():
            made += ["--symlink", str(folder.readlink()), str(folder)]
        elif folder.is_dir():
            made += ["--ro-bind", str(folder), str(folder)]
    for name in toolchain.system_files(network=network):
        made += ["--ro-bind", name, name]
    return made
