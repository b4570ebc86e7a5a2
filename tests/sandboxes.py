"""What the sandbox tests share: the sandboxes that this machine has, and how to run something in one.

Nothing here or in the tests aims at anything of the machine's own: a probe that gets out finds a file, a socket or a
process that the test itself made.
"""

import os
import shutil
from pathlib import Path

import pytest

from engine.workspace.confine import Command, Sandbox, make
from engine.workspace.launch import CommandResult, Limits
from engine.workspace.toolchain import Toolchain

NEEDS_BWRAP = pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed on this machine")
CONFINED = [pytest.param("bwrap", marks=NEEDS_BWRAP), "sandlock"]
ALL = [*CONFINED, "none"]
SECONDS = 120.0


def sandbox(name: str, **limits: int) -> Sandbox:
    """Return that sandbox with this interpreter as its toolchain."""
    return make(name, Toolchain.detect(), Limits(**limits))


def make_worktree(folder: Path) -> Path:
    """Return a folder with a worktree's `.git` file and one source file."""
    worktree = folder / "worktree"
    worktree.mkdir()
    (worktree / ".git").write_text("gitdir: /nowhere/worktrees/1\n")
    (worktree / "code.py").write_text("print('hello')\n")
    return worktree


async def run(box: Sandbox, worktree: Path, what: str | list[str], **options: object) -> CommandResult:
    """Run a shell line, or a program, for at most half a minute."""
    return await box.run(worktree, Command(what, **{"timeout_seconds": SECONDS, **options}))  # type: ignore[arg-type]


async def run_python(box: Sandbox, worktree: Path, program: str, **options: object) -> CommandResult:
    """Run a Python program."""
    return await run(box, worktree, [box.tools.python, "-I", "-c", program], **options)


def alive(marker: str) -> list[int]:
    """Return the ids of the processes that have `marker` among their arguments, ours aside."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            arguments = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if marker.encode() in arguments:
            found.append(int(entry.name))
    return found
