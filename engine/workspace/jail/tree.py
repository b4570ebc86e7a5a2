"""The process tree of one confined command, as its supervisor sees it: count it, weigh it, kill all of it.

Used inside the supervisor process only. It is a "child subreaper", so whatever the command leaves behind, double forks
and new sessions included, stays among its descendants and can be found and killed.
"""

# ruff: noqa: PTH123, PTH208
# pathlib costs more start-up time than everything else here, once for each command
import ctypes
import os
import select
import signal
import time

PR_SET_CHILD_SUBREAPER = 36
PAGE = os.sysconf("SC_PAGE_SIZE")
KILL_SECONDS = 10.0


def become_subreaper() -> None:
    """Make this process the parent of every orphan below it; raises `OSError`."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "cannot become a subreaper")


def descendants(root: int) -> list[int]:
    """Return the ids of all processes below `root`, parents before children."""
    found: list[int] = []
    waiting = [root]
    while waiting:
        pid = waiting.pop()
        children = _children(pid)
        found.extend(children)
        waiting.extend(children)
    return found


def _children(pid: int) -> list[int]:
    children: list[int] = []
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children", "rb") as listing:
                children.extend(int(child) for child in listing.read().split())
    except OSError:
        # it ended while we looked; its children have moved up to us and are found in the next round
        return children
    return children


def private_bytes(pids: list[int]) -> int:
    """Return the memory that these processes do not share with files or with each other, in bytes."""
    total = 0
    for pid in pids:
        try:
            with open(f"/proc/{pid}/statm", "rb") as statm:
                fields = statm.read().split()
        except OSError:
            continue
        if len(fields) > 2:
            total += max(0, int(fields[1]) - int(fields[2])) * PAGE
    return total


def kill_all(wake: int) -> bool:
    """Kill and reap every descendant of this process; False if some would not die in 10 s.

    `wake` is a file descriptor that becomes readable when a child ends.
    """
    deadline = time.monotonic() + KILL_SECONDS
    me = os.getpid()
    while time.monotonic() < deadline:
        for pid in descendants(me):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        if not reap(None):
            return True
        select.select([wake], [], [], 0.02)
        drain(wake)
    return False


def reap(statuses: dict[int, int] | None) -> bool:
    """Collect every child that has ended, into `statuses` by process id; False once there are no children at all."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return False
        if pid == 0:
            return True
        if statuses is not None:
            statuses[pid] = status


def drain(descriptor: int) -> None:
    """Empty a non-blocking pipe."""
    try:
        while os.read(descriptor, 4096):
            pass
    except BlockingIOError:
        return
