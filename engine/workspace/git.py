"""The one place that runs git, so that nothing an agent or a user's configuration says can make git run a program.

Each call names its repository, work tree and index, gets a minimal environment and none of the machine's
configuration. Hooks, filters, fsmonitor, aliases, external transports and signing are out of play. Everything else
of the workspace (mirror, work trees, commits, pushes) is built on `Git.run` and `git`.
"""

import asyncio
import base64
import contextlib
import os
import re
import signal
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from engine.domain.errors import DevflowError

IDENTITY_NAME = "Devflow"
IDENTITY_EMAIL = "devflow@noreply.invalid"
MINIMUM_VERSION = (2, 39)

TIMEOUT_SECONDS = 900.0
_GRACE_SECONDS = 2.0
_TIMED_OUT = 124  # as timeout(1) has it
_OPTIONS = {
    "core.hooksPath": "/dev/null",
    "core.fsmonitor": "false",
    "core.attributesFile": "/dev/null",
    "core.excludesFile": "/dev/null",
    "core.autocrlf": "false",
    "core.safecrlf": "false",
    "core.fileMode": "true",
    "core.symlinks": "true",
    "core.ignoreCase": "false",
    "core.protectHFS": "true",
    "core.protectNTFS": "true",
    "core.untrackedCache": "false",
    "core.splitIndex": "false",
    "core.sparseCheckout": "false",
    "core.pager": "cat",
    "core.editor": "false",
    "core.fsync": "committed",
    "core.fsyncMethod": "batch",
    "commit.gpgSign": "false",
    "push.gpgSign": "false",
    "push.recurseSubmodules": "no",
    "fetch.recurseSubmodules": "no",
    "submodule.recurse": "false",
    "diff.ignoreSubmodules": "all",
    "gc.auto": "0",
    "maintenance.auto": "false",
    "protocol.ext.allow": "never",
    "transfer.bundleURI": "false",
    "checkout.workers": "0",
}
_GLOBAL_CONFIG = Path(__file__).with_name("gitconfig")
# What git says of a server that is down, busy or out of reach for now; a refusal is none of this.
_OUTAGE = re.compile(
    r"returned error: (5\d\d|429)\b|RPC failed; HTTP (5\d\d|429)\b|RPC failed; curl|Could not resolve host"
    r"|(Failed|Couldn't) (to )?connect|[Cc]onnection (timed out|refused|reset)|Operation (too slow|timed out)"
    r"|Empty reply from server|Recv failure|SSL_connect|SSL connection timeout|gnutls_handshake|early EOF"
    r"|git did not end within"
)
_NO_CREDENTIAL = re.compile(r"could not read (Username|Password)|Authentication failed|returned error: 401\b")
_NO_RIGHT = re.compile(r"Permission to \S+ denied to |Write access to repository not granted")
_NOT_THERE = re.compile(r"repository '.*' not found|does not appear to be a git repository|returned error: 404\b")
_SHORTEST_TOKEN = 16
_CREDENTIAL_IN_URL = re.compile(r"(?<=://)[^/@\s]+@")


@dataclass(frozen=True)
class GitResult:
    """What one git process left: its output as bytes, its messages as text, its exit code."""

    stdout: bytes
    stderr: str
    code: int

    @property
    def text(self) -> str:
        """Standard output without its final newline; bytes that are not UTF-8 come back by `os.fsencode`."""
        return os.fsdecode(self.stdout).removesuffix("\n")


class GitFailed(Exception):  # noqa: N818 - the field's wording
    """A git command ended with an exit code that its caller did not expect; callers give it a meaning and a code."""

    def __init__(self, command: str, result: GitResult) -> None:
        self.result = result
        super().__init__(f"git {command} ended with {result.code}: {result.stderr.strip()[:1000]}")


def base_environment() -> dict[str, str]:
    """Return the environment of the engine's git: nothing of this process's own but PATH."""
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": "/nonexistent",
        "LC_ALL": "C.UTF-8",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": str(_GLOBAL_CONFIG),
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ASKPASS": "true",
        "GIT_SSH_COMMAND": "ssh -oBatchMode=yes",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_NO_REPLACE_OBJECTS": "1",
        "GIT_NO_LAZY_FETCH": "1",
        "GIT_DEFAULT_HASH": "sha1",
        "GIT_DEFAULT_REF_FORMAT": "files",
        "GIT_AUTHOR_NAME": IDENTITY_NAME,
        "GIT_AUTHOR_EMAIL": IDENTITY_EMAIL,
        "GIT_COMMITTER_NAME": IDENTITY_NAME,
        "GIT_COMMITTER_EMAIL": IDENTITY_EMAIL,
    }


async def git(
    *args: str | bytes,
    cwd: Path | None = None,
    input: bytes | None = None,  # noqa: A002 - the name that subprocess uses
    env: Mapping[str, str | None] | None = None,
    check: bool = True,
) -> GitResult:
    """Run one git command with `env` added to the minimal environment (None takes away), and return what it left.

    Raises `GitFailed` for a non-zero exit where `check` is true, `storage_full` where the disk is, and
    `platform_unsupported` where there is no git. Cancelling the caller ends the whole process group.
    """
    options = [part for key, value in _OPTIONS.items() for part in ("-c", f"{key}={value}")]
    environment = {name: value for name, value in (base_environment() | dict(env or {})).items() if value is not None}
    try:
        process = await asyncio.create_subprocess_exec(
            "git",
            "--no-pager",
            *options,
            *args,
            cwd=cwd,
            env=environment,
            stdin=asyncio.subprocess.DEVNULL if input is None else asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
    except FileNotFoundError as error:
        if cwd is not None and not cwd.is_dir():
            raise
        raise DevflowError("platform_unsupported", "there is no git on the PATH") from error
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            stdout, stderr = await process.communicate(input)
    except TimeoutError:
        await _end(process)
        result = GitResult(b"", f"fatal: git did not end within {TIMEOUT_SECONDS:.0f} s", _TIMED_OUT)
    except BaseException:
        await _end(process)
        raise
    else:
        result = GitResult(stdout, _redact(stderr.decode(errors="replace"), env or {}), process.returncode or 0)
    if result.code != 0:
        if "No space left on device" in result.stderr or "Disk quota exceeded" in result.stderr:
            raise DevflowError("storage_full", "git could not write: no space left on the device")
        if check:
            raise GitFailed(os.fsdecode(args[0]) if args else "", result)
    return result


async def _end(process: asyncio.subprocess.Process) -> None:
    # SIGTERM first: git removes its lock files on it, on SIGKILL it cannot
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        try:
            async with asyncio.timeout(_GRACE_SECONDS):
                await process.wait()
        except TimeoutError:
            continue
        return


def _redact(text: str, env: Mapping[str, str | None]) -> str:
    secrets = {secret for value in env.values() if value for secret in _secrets_in(value) if len(secret) >= 8}
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, "***")
    return _CREDENTIAL_IN_URL.sub("***@", text)


def _secrets_in(value: str) -> Iterator[str]:
    """Yield what of an environment value must not be shown: itself, a header's long words, and what those encode."""
    if value.startswith("/"):  # paths of index and repository, which messages need
        return
    yield value
    if " " not in value:
        return
    for word in value.split():
        if len(word) >= _SHORTEST_TOKEN:
            yield word
            with contextlib.suppress(ValueError):  # ordinary text is not in base64
                decoded = base64.b64decode(word, validate=True).decode()
                yield from (decoded, decoded.partition(":")[2])


@dataclass(frozen=True)
class Git:
    """Git bound to one repository, and where given to one work tree and one index."""

    git_dir: Path
    work_tree: Path | None = None
    index: Path | None = None
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)

    async def run(
        self,
        *args: str | bytes,
        input: bytes | None = None,  # noqa: A002 - the name that subprocess uses
        env: Mapping[str, str] | None = None,
        check: bool = True,
    ) -> GitResult:
        """Run one git command there; errors as in `git`."""
        places = {"GIT_DIR": str(self.git_dir)}
        if self.work_tree is not None:
            places["GIT_WORK_TREE"] = str(self.work_tree)
        if self.index is not None:
            places["GIT_INDEX_FILE"] = str(self.index)
        cwd = self.work_tree or self.git_dir
        return await git(*args, cwd=cwd, input=input, env={**self.environment, **(env or {}), **places}, check=check)

    async def text(self, *args: str | bytes, input: bytes | None = None) -> str:  # noqa: A002
        """Run one git command that must succeed, and return its output without the final newline."""
        return (await self.run(*args, input=input)).text

    async def ref(self, name: str) -> str | None:
        """Return the object that the full ref name points to, or None."""
        result = await self.run("rev-parse", "--verify", "--quiet", "--end-of-options", name, check=False)
        return result.text.strip() if result.code == 0 else None

    async def is_ancestor(self, older: str, newer: str) -> bool:
        """Tell whether `older` is `newer` or one of its ancestors; False where either commit is not here."""
        return (await self.run("merge-base", "--is-ancestor", older, newer, check=False)).code == 0


def is_outage(stderr: str) -> bool:
    """Whether a network command failed because the server cannot be reached now, and may be tried again later."""
    return _OUTAGE.search(stderr) is not None


def is_unauthorised(stderr: str) -> bool:
    """Whether a network command failed because the server does not take the credential."""
    return _NO_CREDENTIAL.search(stderr) is not None


def is_forbidden(stderr: str) -> bool:
    """Whether a network command failed because the credential, which the server takes, may not do this."""
    return _NO_RIGHT.search(stderr) is not None


def is_missing(stderr: str) -> bool:
    """Whether a network command failed because the repository is not there, or not for this credential."""
    return _NOT_THERE.search(stderr) is not None


def split_nul(output: bytes) -> list[str]:
    """Split the NUL-terminated output of a `-z` command; names that are not UTF-8 survive through `os.fsencode`."""
    return [os.fsdecode(part) for part in output.split(b"\0") if part]


async def check_version() -> None:
    """Raise `platform_unsupported` unless git is there and new enough."""
    found = await version()
    if found < MINIMUM_VERSION:
        raise DevflowError("platform_unsupported", f"git {'.'.join(map(str, found))} is too old")


async def version() -> tuple[int, ...]:
    """Return git's version as numbers, such as (2, 39, 5); raises `platform_unsupported` where there is no git."""
    words = (await git("--version")).text.split()
    numbers = re.match(r"\d+(\.\d+)*", words[2]) if len(words) > 2 else None
    return tuple(int(part) for part in numbers[0].split(".")) if numbers else (0,)
