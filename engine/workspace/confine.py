"""The ways of confining a command, behind one protocol; `engine.workspace.sandbox` picks one and proves it.

A command gets a minimal environment, no network unless it asks for it, reads only its worktree, the toolchain and the
system, and writes only its worktree and a private temporary folder that is gone with it. When `run` returns, no process
that it started is left.
"""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

from engine.domain.errors import DevflowError
from engine.workspace import bwrap, files, toolchain
from engine.workspace.launch import OUTPUT_LIMIT, CommandResult, Limits, Order, announced, launch
from engine.workspace.toolchain import Toolchain

MODES = ("auto", "bwrap", "sandlock", "none")
GIT_FILE_LIMIT = 4096
# the kernel takes 128 KiB for one argument
ARGUMENT_LIMIT = 100 * 1024
DEVICES = ("/dev/full", "/dev/random", "/dev/urandom", "/dev/zero")


@dataclass(frozen=True)
class Command:
    """What to run: a shell command line, or a program and its arguments.

    `cwd` is relative to the worktree; `readable` are further folders that it may read; `env` is added to the minimal
    environment and must hold no secret.
    """

    run: str | Sequence[str]
    timeout_seconds: float = 300.0
    network: bool = False
    cwd: str = "."
    env: Mapping[str, str] = field(default_factory=dict)
    readable: tuple[Path, ...] = ()
    output_limit: int = OUTPUT_LIMIT

    @property
    def argv(self) -> list[str]:
        """The program and its arguments; raises `ValueError` for what no program can be started with."""
        argv = [toolchain.shell(), "-c", self.run] if isinstance(self.run, str) else list(self.run)
        if any("\0" in argument for argument in argv):
            raise ValueError("a command cannot contain a NUL character")
        if any(len(argument.encode()) > ARGUMENT_LIMIT for argument in argv):
            raise ValueError(f"a command can have at most {ARGUMENT_LIMIT} bytes; write a file and run that")
        return argv


class Sandbox(Protocol):
    """A way of confining commands; `name` is what reports show."""

    @property
    def name(self) -> str:
        """One of bwrap, sandlock, none."""

    @property
    def tools(self) -> Toolchain:
        """What commands may read besides their worktree."""

    async def run(self, worktree: Path, command: Command) -> CommandResult:
        """Run the command in the worktree; raises `sandbox_unavailable` where the sandbox itself fails."""


@dataclass(frozen=True)
class Bwrap:
    """bubblewrap: namespaces of its own for files, processes, network and users."""

    program: str
    tools: Toolchain
    limits: Limits
    name: str = "bwrap"

    async def run(self, worktree: Path, command: Command) -> CommandResult:
        """Run the command as `Sandbox.run` says."""
        worktree, cwd = _place(worktree, command)
        git_file = _git_file(worktree)
        confine = bwrap.arguments(
            self.program,
            worktree,
            str(cwd),
            (*self.tools.folders, *command.readable),
            network=command.network,
            git_file=git_file,
            limits=self.limits,
        )
        env = {
            **self.tools.environment(network=command.network),
            "HOME": bwrap.TEMPORARY,
            "TMPDIR": bwrap.TEMPORARY,
            **command.env,
        }
        argv = [*confine, *announced(bwrap.process_limit(command.argv, self.limits))]
        return await launch(self.name, _order(self, command, argv, env, "/", private=False, git_file=git_file))


@dataclass(frozen=True)
class Sandlock:
    """sandlock: Landlock and seccomp, which need no privilege and no program installed."""

    site_packages: str
    tools: Toolchain
    limits: Limits
    name: str = "sandlock"

    async def run(self, worktree: Path, command: Command) -> CommandResult:
        """Run the command as `Sandbox.run` says."""
        worktree, cwd = _place(worktree, command)
        readable = [
            *(folder for folder in toolchain.SYSTEM_FOLDERS if Path(folder).exists()),
            *toolchain.system_files(network=command.network),
            *map(str, (*self.tools.folders, *command.readable)),
            *DEVICES,
            "/proc",
        ]
        confinement = {
            "site_packages": self.site_packages,
            "readable": readable,
            "writable": [str(worktree)],
            "denied": [str(worktree / ".git")],
            "network": command.network,
        }
        env = {**self.tools.environment(network=command.network), **command.env}
        return await launch(
            self.name, _order(self, command, command.argv, env, str(cwd), private=True, sandlock=confinement)
        )


@dataclass(frozen=True)
class Unconfined:
    """No confinement, for operators who wrote that down: only the environment, the limits and the clean end."""

    tools: Toolchain
    limits: Limits
    name: str = "none"

    async def run(self, worktree: Path, command: Command) -> CommandResult:
        """Run the command as `Sandbox.run` says."""
        _, cwd = _place(worktree, command)
        env = {**self.tools.environment(network=command.network), **command.env}
        return await launch(self.name, _order(self, command, announced(command.argv), env, str(cwd), private=True))


def make(mode: str, tools: Toolchain, limits: Limits | None = None) -> Sandbox:
    """Return the sandbox of that name (not `auto`), untested; raises `sandbox_unavailable` if it is not installed."""
    limits = limits or Limits()
    if mode == "none":
        return Unconfined(tools, limits)
    if mode == "bwrap":
        program = shutil.which("bwrap")
        if program is None:
            raise DevflowError("sandbox_unavailable", "bubblewrap is not installed")
        return Bwrap(program, tools, limits)
    if mode == "sandlock":
        found = find_spec("sandlock")
        if found is None or found.origin is None:
            raise DevflowError("sandbox_unavailable", "sandlock is not installed")
        return Sandlock(str(Path(found.origin).parents[1]), tools, limits)
    raise DevflowError("config_invalid", f"sandbox is {mode!r}; it is one of {', '.join(MODES)}")


def _order(
    sandbox: Bwrap | Sandlock | Unconfined,
    command: Command,
    argv: Sequence[str],
    env: Mapping[str, str],
    cwd: str,
    *,
    private: bool,
    git_file: str | None = None,
    sandlock: Mapping[str, object] | None = None,
) -> Order:
    return Order(
        argv=argv,
        env=env,
        cwd=cwd,
        timeout_seconds=command.timeout_seconds,
        output_limit=command.output_limit,
        limits=sandbox.limits,
        private_folder=private,
        git_file=git_file,
        sandlock=sandlock,
    )


def _place(worktree: Path, command: Command) -> tuple[Path, Path]:
    """Return the real worktree and the working directory within it; raises `files.UnsafePath`."""
    worktree = worktree.resolve(strict=True)
    return worktree, worktree.joinpath(*files.parts(command.cwd))


def _git_file(worktree: Path) -> str | None:
    """Return what the worktree's `.git` file says, or None where there is no such ordinary file."""
    try:
        return files.read_bytes(worktree, ".git", limit=GIT_FILE_LIMIT).decode(errors="replace")
    except (files.UnsafePath, FileNotFoundError):
        return None
