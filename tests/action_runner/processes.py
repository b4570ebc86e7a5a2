"""Ending a step's processes: as a cancelled job does, and as a machine does that vanishes."""

import contextlib
import os
import signal
from pathlib import Path

import psutil


def tree(pid: int) -> list[psutil.Process]:
    """Return a process and everything that it started and that still has it among its forefathers."""
    try:
        top = psutil.Process(pid)
        return [top, *top.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def belonging(folder: Path, tracking: str) -> list[psutil.Process]:
    """Return the processes that name the job's folder or carry its mark, whoever their parent is by now."""
    found = []
    for process in psutil.process_iter():
        if process.pid == os.getpid():
            continue
        with contextlib.suppress(psutil.Error):
            words = process.cmdline()
            if any(str(folder) in word for word in words) or process.environ().get("RUNNER_TRACKING_ID") == tracking:
                found.append(process)
    return found


def kill(processes: list[psutil.Process]) -> None:
    """End processes without a warning, and wait until they are gone."""
    others = []
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            # a child of ours is waited for by whoever started it, and has one exit code for one who asks
            if process.ppid() != os.getpid():
                others.append(process)
            process.send_signal(signal.SIGKILL)
    psutil.wait_procs(others, timeout=10)
