"""The `devflow` command forked from a server that has the imports done, with signals, terminals and input.

`ForkedCli` is one person at one machine. It does what `cli.Cli` does, without the seconds that Python needs to import
everything (see `fork_server`); tests of the start itself use `cli.Cli`.
"""

import atexit
import contextlib
import fcntl
import json
import os
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import IO, Any

from tests.support.cli import ROOT, SECONDS, Answer

_KEPT = ("PATH", "LANG", "TMPDIR")

Json = dict[str, Any]


class Process:
    """A command that is running."""

    def __init__(self, pid: int, status: IO[bytes], out: Path, err: Path) -> None:
        self.pid = pid
        self._status = status
        self._out = out
        self._err = err
        self.code: int | None = None

    @property
    def out(self) -> str:
        """What it has printed on standard output so far."""
        return self._out.read_text()

    @property
    def err(self) -> str:
        """What it has printed on standard error so far."""
        return self._err.read_text()

    @property
    def ended(self) -> bool:
        """Whether it has ended."""
        return self.code is not None or bool(select.select([self._status], [], [], 0)[0])

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)

    def wait(self, seconds: float = SECONDS) -> Answer:
        """Wait for its end."""
        if self.code is None:
            ready, _, _ = select.select([self._status], [], [], seconds)
            if not ready:
                raise AssertionError(f"the command does not end:\n{self.out}\n{self.err}")
            self.code = int(self._status.readline())
            self._status.close()
        return Answer(self.code, self.out, self.err)

    def wait_for(self, text: str, seconds: float = SECONDS) -> None:
        """Wait until it has printed `text`."""
        until(lambda: text in self.out + self.err, seconds, lambda: f"no {text!r} in:\n{self.out}\n{self.err}")

    def kill(self) -> None:
        """End it at once, if it still runs."""
        if self.code is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            self.wait()


class Terminal:
    """A command on a terminal of its own, and the person who sits there."""

    def __init__(self, process: Process, master: int) -> None:
        self.process = process
        self._master = master
        self._raw = b""
        self._read_to = 0

    @property
    def screen(self) -> str:
        """Everything that was shown so far, without colours."""
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self._raw.decode("utf-8", "replace")).replace("\r\n", "\n")

    @property
    def raw(self) -> bytes:
        """Everything that was shown so far, as it was sent."""
        return self._raw

    def expect(self, text: str, seconds: float = SECONDS) -> None:
        """Wait until `text` is shown after what was last waited for."""
        deadline = time.monotonic() + seconds
        while (found := self.screen.find(text, self._read_to)) < 0:
            if time.monotonic() > deadline:
                raise AssertionError(f"no {text!r} on the screen:\n{self.screen}")
            if not self._receive(0.1):
                raise AssertionError(f"the command ended without {text!r} on the screen:\n{self.screen}")
        self._read_to = found + len(text)

    def type(self, keys: str) -> None:
        """Type keys; a line ends with a newline, Ctrl-C is \\x03 and Ctrl-D \\x04."""
        os.write(self._master, keys.encode())

    def wait(self, seconds: float = SECONDS) -> int:
        """Wait for the end of the command; returns its exit code."""
        deadline = time.monotonic() + seconds
        while self._receive(0.1):
            if time.monotonic() > deadline:
                raise AssertionError(f"the command does not end:\n{self.screen}")
        return self.process.wait(max(deadline - time.monotonic(), 1)).code

    def _receive(self, seconds: float) -> bool:
        if self._master < 0:
            return False
        ready, _, _ = select.select([self._master], [], [], seconds)
        if not ready:
            return True
        try:
            data = os.read(self._master, 65536)
        except OSError:  # the other end is closed
            data = b""
        if not data:
            os.close(self._master)
            self._master = -1
            return False
        self._raw += data
        return True

    def close(self) -> None:
        """Take the terminal away."""
        if self._master >= 0:
            os.close(self._master)
            self._master = -1


@dataclass
class ForkedCli:
    """One person at one machine: `run`, `start` and `terminal` take a command's arguments."""

    folder: Path
    database_url: str | None = None
    env: dict[str, str] = field(default_factory=dict)
    _started: list[Process | Terminal] = field(default_factory=list)

    @property
    def data_dir(self) -> Path:
        """The folder of `DEVFLOW_DATA_DIR`."""
        return self.folder / "data"

    def environment(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        """Return the environment of a command: of the tests' own only where programs are."""
        own = {name: os.environ[name] for name in _KEPT if name in os.environ}
        own |= {"HOME": str(self.folder), "DEVFLOW_DATA_DIR": str(self.data_dir), "COLUMNS": "160"}
        if self.database_url is not None:
            own["DEVFLOW_DATABASE_URL"] = self.database_url
        return own | self.env | dict(extra or {})

    def run(
        self,
        *arguments: str | Path,
        stdin: str | bytes = b"",
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        code: int | None = None,
        seconds: float = SECONDS,
    ) -> Answer:
        """Run a command to its end; `code` is the exit code that it must have. A traceback is always an error."""
        result = self.start(*arguments, stdin=stdin, env=env, cwd=cwd).wait(seconds)
        assert "Traceback" not in result.err, result.err
        if code is not None:
            assert result.code == code, f"exit code {result.code}\n{result.out}\n{result.err}"
        return result

    def start(
        self,
        *arguments: str | Path,
        stdin: str | bytes = b"",
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        together: bool = False,
    ) -> Process:
        """Start a command and return at once; `together`: errors stand in the output, between its lines."""
        given = stdin.encode() if isinstance(stdin, str) else stdin
        with tempfile.TemporaryFile() as typed:
            typed.write(given)
            typed.seek(0)
            out, err = (self._file(kind) for kind in ("out", "err"))
            with out.open("wb") as to_out, err.open("wb") as to_err:
                files = (typed.fileno(), to_out.fileno(), (to_out if together else to_err).fileno())
                process = self._launch(arguments, files, env, cwd, out, err)
        self._started.append(process)
        return process

    def terminal(
        self, *arguments: str | Path, env: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> Terminal:
        """Start a command on a terminal of 40 lines of 160 characters."""
        master, slave = os.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 160, 0, 0))
        nowhere = Path(os.devnull)
        process = self._launch(
            arguments, (slave, slave, slave), {"TERM": "xterm", **(env or {})}, cwd, nowhere, nowhere, tty=True
        )
        os.close(slave)
        terminal = Terminal(process, master)
        self._started.append(terminal)
        return terminal

    def close(self) -> None:
        """End every command that still runs."""
        for started in self._started:
            if isinstance(started, Terminal):
                started.process.kill()
                started.close()
            else:
                started.kill()

    def _file(self, kind: str) -> Path:
        folder = self.folder / "output"
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"{len(self._started)}.{kind}"

    def _launch(
        self,
        arguments: tuple[str | Path, ...],
        files: tuple[int, int, int],
        env: Mapping[str, str] | None,
        cwd: Path | None,
        out: Path,
        err: Path,
        *,
        tty: bool = False,
    ) -> Process:
        read, write = os.pipe()
        request = {
            "argv": [str(argument) for argument in arguments],
            "env": self.environment(env),
            "cwd": str(cwd or self.folder),
            "tty": tty,
        }
        socket.send_fds(_server(), [json.dumps(request).encode()], [*files, write])
        os.close(write)
        status = os.fdopen(read, "rb", buffering=0)
        return Process(int(status.readline()), status, out, err)


def until(condition: Callable[[], object], seconds: float = SECONDS, said: Callable[[], str] = lambda: "") -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(said() or "the condition does not come to hold")
        time.sleep(0.02)


@cache
def _server() -> socket.socket:
    """Return the socket of this test process's own fork server."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    environment = {name: os.environ[name] for name in _KEPT if name in os.environ} | {"PYTHONUTF8": "1"}
    server = subprocess.Popen(
        [sys.executable, "-m", "tests.support.fork_server", str(theirs.fileno())],
        cwd=ROOT,
        env=environment,
        pass_fds=[theirs.fileno()],
        stdin=subprocess.DEVNULL,
    )
    theirs.close()

    def stop() -> None:
        ours.close()
        server.wait(10)

    atexit.register(stop)
    return ours
