"""Runs inside a sandbox at start-up and tries to get out; engine.workspace.selftest passes it as program text.

The argument is JSON that names canaries outside: nothing that it touches matters to anybody, so that it does no harm
where nothing confines it. What it managed to do goes to standard output as a JSON list.
"""

import contextlib
import glob
import json
import os
import signal
import socket
import sys
from collections.abc import Callable

Attempts = dict[str, Callable[[], object]]


def main() -> None:
    """Try everything and print the names of what worked, and of what should have worked and did not."""
    outside = json.loads(sys.argv[1])
    broken = []
    for name, attempt in _forbidden(outside).items():
        with contextlib.suppress(OSError):
            if attempt() is not False:
                broken.append(name)
    for name, attempt in _needed().items():
        try:
            attempt()
        except OSError as error:
            broken.append(f"{name} ({error.strerror})")
    print(json.dumps(broken))  # noqa: T201 - this is how it reports


def _forbidden(outside: dict[str, str]) -> Attempts:
    canary, folder = outside["file"], outside["folder"]

    def read(path: str) -> bytes:
        with open(path, "rb") as file:  # noqa: PTH123
            return file.read(1)

    def through_link() -> bytes:
        os.symlink(canary, "probe-link")  # noqa: PTH211
        try:
            return read("probe-link")
        finally:
            os.unlink("probe-link")  # noqa: PTH108

    def write() -> None:
        os.close(os.open(f"{folder}/written", os.O_WRONLY | os.O_CREAT))

    def kernel_setting() -> None:
        # opened, never written
        os.close(os.open("/proc/sys/kernel/core_pattern", os.O_WRONLY))

    def environments() -> bool:
        return any(_foreign(path, outside["token"], os.environ) for path in glob.glob("/proc/[0-9]*/environ"))  # noqa: PTH207

    def memory() -> None:
        os.close(os.open(f"/proc/{outside['process']}/mem", os.O_RDONLY))

    def stream(family: int, address: str | tuple[str, int]) -> None:
        with socket.socket(family, socket.SOCK_STREAM) as client:
            client.settimeout(2)
            client.connect(address)

    def datagram() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.sendto(outside["token"].encode(), ("127.0.0.1", int(outside["udp"])))
        raise OSError("whether it arrived is for the engine to say")

    def kill() -> None:
        os.kill(int(outside["process"]), signal.SIGUSR1)
        raise OSError("whether it arrived is for the engine to say")

    return {
        "a file outside could be read": lambda: read(canary),
        "a file outside could be read through a symbolic link": through_link,
        "a file outside could be written": write,
        "a file's mode outside could be changed": lambda: os.chmod(canary, 0o644),  # noqa: PTH101
        "a kernel setting could be written": kernel_setting,
        "another process's environment could be read": environments,
        "another process's memory could be opened": memory,
        "a TCP connection could be made": lambda: stream(socket.AF_INET, ("127.0.0.1", int(outside["tcp"]))),
        "a unix socket outside could be reached": lambda: stream(socket.AF_UNIX, outside["unix"]),
        "an abstract unix socket could be reached": lambda: stream(socket.AF_UNIX, "\0" + outside["token"]),
        "a UDP datagram could be sent": datagram,
        "a process outside could be signalled": kill,
    }


def _foreign(path: str, token: str, own: "os._Environ[str]") -> bool:
    """Whether this environment holds the canary's token, or a variable that the command was not given."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            entries = file.read().decode(errors="replace").split("\0")
    except OSError:
        return False
    names = {entry.partition("=")[0] for entry in entries if "=" in entry}
    return any(token in entry for entry in entries) or not names <= {*own, "_", "SHLVL", "OLDPWD", "PWD"}


def _needed() -> Attempts:
    def write(folder: str) -> None:
        path = f"{folder}/probe-write"
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT))
        os.unlink(path)  # noqa: PTH108

    return {
        "the worktree cannot be written": lambda: write("."),
        "the temporary folder cannot be written": lambda: write(os.environ["TMPDIR"]),
    }


if __name__ == "__main__":
    main()
