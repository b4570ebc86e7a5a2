"""A process that has imported what the command line needs, and forks itself into a `devflow` command on request.

Importing takes seconds of processor time, which a suite with some hundred commands cannot spend. What comes out of the
fork is a process of its own in every other respect: id, session, environment, folder, signals, terminal and files.

Requests are messages on the socket given by number: JSON with `argv`, `env`, `cwd` and `tty`, and four files: standard
input, output and error, and a pipe to which the id of the new process and then its exit code are written.
"""

import contextlib
import fcntl
import gc
import importlib
import json
import os
import pkgutil
import runpy
import signal
import socket
import sys
import termios
from typing import Any

from detect_secrets import plugins

_LOOKS = ("app.cli", "app.serving", "app.settings")
PRELOADED = (
    "alembic.command",
    "anyio._backends._asyncio",
    "app.action.running",
    "app.hosting",
    "app.server",
    "asyncpg",
    "fastapi",
    "github",
    "github.Requester",
    "jwt.algorithms",
    "openai.resources.chat.completions",
    "rich.markdown",
    "rich.table",
    "sqlalchemy.dialects.postgresql.asyncpg",
    "typer._adapters",
    "uvicorn.lifespan.off",
    "uvicorn.protocols.http.h11_impl",
)


def main() -> None:
    """Serve the socket until the other end is closed."""
    control = socket.socket(fileno=int(sys.argv[1]))
    scanners = (f"{plugins.__name__}.{module.name}" for module in pkgutil.iter_modules(plugins.__path__))
    for name in ("app.cli", *PRELOADED, *scanners):
        importlib.import_module(name)
    gc.collect()
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        data, files, _, _ = socket.recv_fds(control, 1 << 18, 4)
        if not data:
            return
        if os.fork() == 0:
            control.close()
            _watch(json.loads(data), files)
            return
        for file in files:
            os.close(file)


def _watch(request: dict[str, Any], files: list[int]) -> None:
    """Start the command, report its id, wait for its end and report that; the command itself returns from here."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    *standard, status = files
    ready, go = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(status)
        os.close(go)
        os.read(ready, 1)
        os.close(ready)
        _become(request, standard)
        return
    os.write(status, f"{child}\n".encode())
    for file in (*standard, ready, go):
        os.close(file)
    _, how = os.waitpid(child, 0)
    with contextlib.suppress(BrokenPipeError):
        os.write(status, f"{os.waitstatus_to_exitcode(how)}\n".encode())
    os._exit(0)


def _become(request: dict[str, Any], standard: list[int]) -> None:
    os.setsid()
    for number, file in enumerate(standard):
        os.dup2(file, number)
        os.close(file)
    if request["tty"]:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    sys.argv = ["devflow", *request["argv"]]
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=os.isatty(stream.fileno()))  # type: ignore[union-attr]
    # what looks at the environment or at the terminal while it is imported has to look again
    for name in [name for name in sys.modules if name in _LOOKS or name.startswith("app.local")]:
        del sys.modules[name]
    importlib.reload(sys.modules["engine.failpoints"])
    runpy.run_module("app.cli", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
